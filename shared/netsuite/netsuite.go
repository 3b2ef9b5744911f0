// Package netsuite connects Sorrel to one NetSuite account: webhooks posted by our SuiteScript kit
// (infra/netsuite), the REST record API for single reads and writes, and SuiteQL for incremental reading.
//
// # Native shape
//
// A Native.Fields has the record API's names and shapes, the same whether it came by webhook, Read or
// Changes. It holds exactly the fields of the catalogue (see columns.go) and of Config.Columns; a field that
// NetSuite leaves out because it is empty is said as nil.
//
//   - text is a string, numbers are json.Number, flags are true or false (never "T" or "F")
//   - dates are 2006-01-02, times are RFC 3339 UTC
//   - statuses and references to records are {"id": "B"}; list values such as currency, terms, shipMethod and
//     item are {"id": "1", "refName": "CHF"}; countries and states are plain text. An invoice's status is its letter
//     (see billing), though the record API says the name
//   - sublists are {"items": [ … ]} in line order; addresses are objects; links and line keys are dropped
//
// A Write takes the same shapes, and text where a field is {"id": …}. A written sublist replaces all lines, but
// for the address book: there a line with defaultBilling or defaultShipping true means the line that bears that
// flag now (see fit), and other lines stay.
//
// # Time
//
// NetSuite's modification time has whole seconds; our script counts saves in custbody_sorrel_rev and
// custentity_sorrel_rev (Version.Seq), which orders saves within a second. SuiteQL prints wall-clock time, and
// whether that is UTC or the account's zone is UNCONFIRMED: Config.AccountZone says which. Changes pages and
// resumes by comparing wall-clock text with wall-clock text, so a wrong zone never loses a row; it only
// misdates versions, and a zone that dates rows in the future is refused with a clear error. In the hour that
// a zone repeats in autumn a wall-clock time is ambiguous: such rows come as hints (the record API says their
// true time), and a listing that resumes from that hour goes back to its beginning.
//
// # Who did it
//
// Native.Actor is the internal id of the user. A webhook names the user of that very save, and Ours is set only
// if the user is Config.IntegrationUser and the execution context is REST web services: what a person does
// under that name in the user interface, by a CSV import or in a workflow is not ours. The record API names no
// author of entities, so our script keeps the last one in custentity_sorrel_user and custbody_sorrel_user:
// Read and Changes tell that one, and are never Ours.
//
// # Deletions and merges
//
// A deletion comes by webhook, posted once. The record API answers for a deleted record as for one that never
// was, so Read and Find say not-found, and Changes says nothing. (SuiteQL has a table DeletedRecord with
// recordid, type, deleteddate and deletedby, for roles with the permission Deleted Records; the words in its type
// column are UNCONFIRMED, so it is not read.) A deletion whose webhook was lost shows as not-found when the
// record is next read or written. Among says which of many records are left, in one call and its sublists.
//
// NetSuite's merge deletes the duplicate, fills empty fields of the primary record and re-points transactions,
// which changes their modification time. That a user event fires for any of that is UNCONFIRMED, except that our
// script posts record.merged with the primary record's id if the deletion of a marked duplicate fires one (see
// infra/netsuite); it comes as Gone with Into. The re-pointed records come by Changes.
// https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/section_N491111.html
//
// # Items
//
// The record API has an object of its own for each type of item, and no modification time that a listing could use. The
// object "item" here is SuiteQL's table of all types that are sold, read only. The price is that of the price level with the id 1
// (Base Price) in the currency with the lowest id, at the lowest quantity. The object "pricing" is the whole price list: a record for
// each item, price level and currency, named by their ids and dated as its item. A price that is taken away is told by nothing: it is not found when it is next read. Our script is not deployed on items: Changes finds
// what was saved. That a changed price level touches its items' modification time is UNCONFIRMED.
//
// # Cost
//
// Changes, and Within likewise, needs one call per 1,000 changed records for the headers, one per 1,000 lines, and one per
// 1,000 addresses, packages or main lines: about 5 for 1,000 orders of three lines, 2 for 1,000 invoices or items. Census
// needs one for 1,000 days or hours, however many records are in them. Reading, writing and deleting are one call per
// record, because the record API has no bulk write. Writing an address book takes one more, because the keys of
// its lines must be read first; so does a fulfilment by external id.
package netsuite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

// Credentials are one JSON secret. Intake needs only WebhookSecrets; calls need the other three.
type Credentials struct {
	ClientID       string   `json:"clientId,omitempty"`      // of the integration record
	CertificateID  string   `json:"certificateId,omitempty"` // of the OAuth 2.0 client credentials mapping
	PrivateKey     string   `json:"privateKey,omitempty"`    // PEM; RSA signs PS256, an elliptic curve ES256 to ES512
	WebhookSecrets []string `json:"webhookSecrets,omitempty"`
}

// String hides the secrets.
func (Credentials) String() string { return "netsuite.Credentials(redacted)" }

// GoString hides the secrets.
func (Credentials) GoString() string { return "netsuite.Credentials(redacted)" }

// LogValue hides the secrets.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

func (c Credentials) api() bool {
	return c.ClientID != "" || c.CertificateID != "" || c.PrivateKey != ""
}

// Config of one account. Now is required; URL is too, unless there are only webhook secrets.
type Config struct {
	URL             string // such as https://1234567.suitetalk.api.netsuite.com
	Credentials     Credentials
	Now             func() time.Time
	Observe         func(vendorhttp.Call)
	Limits          map[string]int // the account's own numbers, by the names of Connector.Limits: its share, less what others need
	Concurrency     int            // calls of this process at once; 0 = the limit
	Gate            budget.Gate    // lets calls through; nil = one of this connector alone, with Concurrency
	Timeout         time.Duration  // of one call; 0 = 15 s
	AccountZone     string         // IANA zone in which SuiteQL prints times; empty = UTC
	IntegrationUser string         // internal id of our user: its saves by REST are ours
	// Columns adds fields per object, each "name[=suiteqlcolumn][:kind]" or "-name" to leave one out, such as
	// "custbody_region", "custbody_weight:number", "item.custcol_lot" (a line field), "-subtotal". Kinds are
	// text (the default), number, bool, date, time, id and choice. The column defaults to the name in lower case. A name
	// alone changes nothing of a field that the catalogue has.
	Columns   map[string][]string
	PageSize  int               // rows per SuiteQL page, at most 1000; 0 = 1000
	Transport http.RoundTripper // nil = a pooled one
	Overlap   time.Duration     // how far back a new listing starts, for saves that committed late; 0 = 5 min
}

// Connector talks to one account. It is safe for concurrent use.
type Connector struct {
	cfg     Config
	zone    *time.Location
	layouts map[string]layout
	limits  []budget.Limit
	client  *vendorhttp.Client // nil without API credentials
}

// resolution of lastModifiedDate.
const resolution = time.Second

// New checks cfg, names every problem in it, and calls nobody.
func New(cfg Config) (*Connector, error) {
	var problems []error
	bad := func(format string, a ...any) { problems = append(problems, fmt.Errorf(format, a...)) }
	c := &Connector{cfg: cfg}
	if cfg.Now == nil {
		bad("Now is missing")
	}
	var err error
	if c.zone, err = time.LoadLocation(cfg.AccountZone); err != nil {
		bad("AccountZone %q is no IANA time zone such as Europe/Zurich", cfg.AccountZone)
	}
	if c.layouts, err = layouts(cfg.Columns); err != nil {
		problems = append(problems, err)
	}
	switch {
	case cfg.PageSize < 0 || cfg.PageSize > 1000:
		bad("PageSize is %d, want 1 to 1000", cfg.PageSize)
	case cfg.PageSize == 0:
		c.cfg.PageSize = 1000
	}
	if cfg.Overlap <= 0 {
		c.cfg.Overlap = 5 * time.Minute
	}
	if c.limits, err = budget.Set(limits(), cfg.Limits); err != nil {
		problems = append(problems, err)
	} else if cfg.Concurrency <= 0 {
		c.cfg.Concurrency = c.limits[0].Max
	}
	for i, s := range cfg.Credentials.WebhookSecrets {
		if len(s) < 16 {
			bad("credentials: webhookSecrets[%d] has %d characters, want at least 16", i, len(s))
		}
	}
	if !cfg.Credentials.api() && len(cfg.Credentials.WebhookSecrets) == 0 {
		bad("credentials are empty: give webhookSecrets for intake, or clientId, certificateId and privateKey for calls")
	}
	if cfg.Credentials.api() && cfg.Now != nil {
		s, err := newSigner(cfg.Credentials, strings.TrimRight(cfg.URL, "/")+tokenPath, cfg.Now)
		if err != nil {
			problems = append(problems, err)
		}
		c.client, err = vendorhttp.New(vendorhttp.Config{
			Name: record.NetSuite, Base: cfg.URL, Now: cfg.Now, Observe: cfg.Observe,
			Concurrency: c.cfg.Concurrency, Timeout: cfg.Timeout, Classify: classify, Transport: cfg.Transport, Gate: cfg.Gate,
			Tokens: vendorhttp.NewTokens(func(ctx context.Context) (vendorhttp.Token, error) { return c.signIn(ctx, s) }, cfg.Now),
		})
		if err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("netsuite: %w", errors.Join(problems...))
	}
	return c, nil
}

// Declaration says what NetSuite promises.
func (c *Connector) Declaration() platform.Declaration {
	const help = "https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/"
	d := platform.Declaration{
		Name: record.NetSuite, Title: "NetSuite",
		Auth: []string{"OAuth 2.0 client credentials with a signed assertion (PS256, or ES256 to ES512 by key type)"},
		Limits: []platform.Limit{
			{Scope: "account", Kind: "concurrency", Max: 15, Source: help + "section_1500275531.html"},
			{Scope: "SuiteQL", Kind: "page", Max: 1000, Source: help + "section_156414087576.html"},
			{Scope: "SuiteQL result", Kind: "rows", Max: 100000, Source: help + "section_156414087576.html"},
			{Scope: "record write", Kind: "batch", Max: 1, Source: help + "section_156335203191.html"},
		},
		Webhook:    "X-Sorrel-Signature: v1=hex(HMAC-SHA256(secret, X-Sorrel-Timestamp + \".\" + body)), posted by our SuiteScript without retry",
		Resolution: resolution,
		Errors:     errorTable(),
	}
	for _, name := range objects() {
		if name == pricing { // lines are not counted: their items are
			d.Objects = append(d.Objects, platform.Object{Name: name, Batch: true, Unlisted: true, Settles: c.cfg.Overlap})
			continue
		}
		d.Objects = append(d.Objects, platform.Object{Name: name, External: "externalId", Batch: true, Census: platform.Grouped, Sum: platform.SumIDs, Numeric: true, Settles: c.cfg.Overlap})
	}
	return d
}

// errorTable is how an answer becomes a fault class. NetSuite's code decides before its status: a concurrency
// refusal has been seen with 429 and with 400.
func errorTable() []platform.ErrorRow {
	row := platform.Row
	return []platform.ErrorRow{
		row(0, "CONCURRENCY_LIMIT_EXCEEDED", fault.Throttled, "429 or 400, without Retry-After"),
		row(0, "SSS_REQUEST_LIMIT_EXCEEDED", fault.Throttled, "RESTlets and frequency limits"),
		row(429, "", fault.Throttled, "frequency limits answer USER_ERROR"),
		row(0, "INVALID_LOGIN", fault.Unauthenticated, "token expired or revoked"),
		row(0, "INVALID_LOGIN_ATTEMPT", fault.Unauthenticated, "credential wrong"),
		row(0, "invalid_client", fault.Unauthenticated, "token endpoint: client or certificate unknown"),
		row(0, "invalid_grant", fault.Unauthenticated, "token endpoint: assertion refused"),
		row(0, "invalid_scope", fault.Unauthenticated, "token endpoint: integration lacks REST web services"),
		row(0, "invalid_request", fault.Unauthenticated, "token endpoint: assertion not understood"),
		row(401, "", fault.Unauthenticated, ""),
		row(0, "INSUFFICIENT_PERMISSION", fault.Refused, "the role lacks the record type"),
		row(0, "NONEXISTENT_ID", fault.NotFound, ""),
		row(0, "RCRD_DSNT_EXIST", fault.NotFound, ""),
		row(404, "", fault.NotFound, ""),
		row(0, "INVALID_KEY_OR_REF", fault.MissingReference, "a referenced record is not there"),
		row(0, "RCRD_HAS_BEEN_CHANGED", fault.Conflict, "saved by somebody else meanwhile"),
		row(400, "IDEMPOTENCY_ERROR", fault.Conflict, "the same asynchronous request is known already"),
		row(409, "", fault.Conflict, ""),
		row(400, "", fault.Refused, "INVALID_CONTENT, INVALID_PARAMETER, INVALID_REQUEST, USER_ERROR, DUP_RCRD: validation or business rule"),
		row(403, "", fault.Refused, ""),
		row(413, "", fault.TooLarge, "request above 104 MB"),
		row(500, "UNEXPECTED_ERROR", fault.Internal, "a defect in the account's scripts or in NetSuite, often about one record; a write that may have been done before it broke is unknown"),
		row(500, "", fault.Down, ""),
		row(502, "", fault.Down, ""),
		row(503, "", fault.Down, "maintenance, often with an HTML page"),
		row(504, "", fault.Down, ""),
	}
}

// failure is NetSuite's error body; the token endpoint's is OAuth's.
type failure struct {
	Title   string `json:"title"`
	Code    string `json:"o:errorCode"` // top level in older answers
	Details []struct {
		Detail string `json:"detail"`
		Code   string `json:"o:errorCode"`
		Path   string `json:"o:errorPath"`
		Param  string `json:"o:errorQueryParam"`
	} `json:"o:errorDetails"`
	OAuth       string `json:"error"`
	Description string `json:"error_description"`
}

// classify turns an answer into an error by the first row of errorTable that matches; nil means that the
// status alone decides. A 2xx answer that carries error details is an error too.
func classify(resp vendorhttp.Response) error {
	var f failure
	if json.Unmarshal(resp.Body, &f) != nil {
		f = failure{} // an HTML page, a cut answer, or nothing: the status decides
	}
	if resp.Status < 300 && len(f.Details) == 0 {
		return nil
	}
	e := &fault.Error{Code: f.Code, Detail: f.Title}
	for i, d := range f.Details {
		if i == 0 {
			e.Code, e.Detail = d.Code, d.Detail
		}
		if p := d.Path + d.Param; p != "" {
			e.Fields = append(e.Fields, p)
		}
	}
	if f.OAuth != "" {
		e.Code, e.Detail = f.OAuth, f.Description
	}
	e.Detail = vendorhttp.Clip(e.Detail, 300)
	for _, r := range errorTable() {
		if r.Matches(resp.Status, e.Code) {
			e.Class = fault.Class(r.Class)
			break
		}
	}
	if e.Class == "" {
		switch {
		case resp.Status >= 500 || resp.Status < 300: // details of no known code in a success say nothing for sure
			e.Class = fault.Down
		case resp.Status < 400 && len(f.Details) == 0:
			return nil
		default:
			e.Class = fault.Refused
		}
	}
	if e.Code == "" {
		e.Code = fmt.Sprint(resp.Status)
	}
	switch e.Class {
	case fault.Unauthenticated:
		e.Remedy = "check the integration record, its certificate mapping and role"
	case fault.Refused:
		e.Remedy = "correct the value or the role's permissions in NetSuite"
	case fault.MissingReference:
		e.Remedy = "wait until the referenced record exists"
	}
	return e
}

// call sends one request, or says why it cannot.
func (c *Connector) call(ctx context.Context, r vendorhttp.Request) (vendorhttp.Response, error) {
	if c.client == nil {
		return vendorhttp.Response{}, &fault.Error{Class: fault.Unauthenticated, Op: record.NetSuite + "." + r.Op,
			Detail: "no API credentials", Remedy: "set clientId, certificateId and privateKey"}
	}
	return c.client.Do(ctx, r)
}

// objects that the connector can handle.
func objects() []string {
	var all []string
	for _, l := range catalogue() {
		all = append(all, l.object)
	}
	return all
}

// layoutOf returns how object is laid out.
func (c *Connector) layoutOf(op, object string) (layout, error) {
	l, ok := c.layouts[object]
	if !ok {
		return layout{}, &fault.Error{Class: fault.NotFound, Op: record.NetSuite + "." + op, ID: object,
			Detail: fmt.Sprintf("object %q is not known", object), Remedy: "use " + strings.Join(objects(), ", ")}
	}
	return l, nil
}

func recordPath(object, key string) string {
	p := "/services/rest/record/v1/" + object
	if key != "" {
		p += "/" + url.PathEscape(key)
	}
	return p
}
