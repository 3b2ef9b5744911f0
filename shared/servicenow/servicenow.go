// Package servicenow is the connector to ServiceNow: customer accounts, customer contacts and cases.
//
// Native shape: the Table API's with sysparm_display_value=false and sysparm_exclude_reference_link=true, and empty
// said as null. Every value is a string: "true" and "false", digits, "2026-11-02 08:15:20" in UTC, a bare sys_id for
// a reference. "" becomes nil, {link,value} becomes its value. The kit's webhooks come into the same shape. A write
// may also hold true, false and numbers, which are sent as strings, and nil, which is sent as "".
//
// Objects are tables: "customer_account", "customer_contact", "sn_customerservice_case". The external id is
// u_sorrel_id, which infra/servicenow declares unique.
//
// What the vendor does not say, and what follows from it:
//   - There is no upsert in the Table API. A create looks first, then inserts; if the insert is refused it looks
//     again, because somebody else may have been first (the unique index decides). With Config.ImportSets it is one
//     call to an import set that coalesces on u_sorrel_id; its answer has no version.
//   - A query for an unknown field finds every row, and a write to one is dropped in silence. So each row found is
//     compared with what was asked, and each answer to a write with what was sent.
//   - A filter on sys_updated_on is read in the integration user's time zone, although values are shown in UTC.
//     Changes tries that once per connector and refuses to list when the zone is not UTC.
//   - A page is cut before access rules hide rows from it: only the Link header says whether there is more.
//   - The Table API does not list deletions. The kit's webhook tells them, and Deleted reads the vendor's own table of
//     them, where the integration user may; Read says NotFound.
//   - sys_updated_by is the user of the last change. It makes a webhook Ours; Read and Changes leave Ours false,
//     because what they show may hold an earlier change of a person that was never pushed.
//   - Choices and references are not checked by the vendor, and texts are cut to the field's length.
//
// UNCONFIRMED against a real instance: the texts of errors (they are matched loosely); the order of a listing with
// ^NQ and ORDERBY; whether Link is there when all rows fit on a page (both are handled).
package servicenow

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/jsonread"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

// Object names: the tables.
const (
	Account = "customer_account"
	Contact = "customer_contact"
	Case    = "sn_customerservice_case"
)

// external is the field that carries Sorrel's external id.
const external = "u_sorrel_id"

// resolution of sys_updated_on.
const resolution = time.Second

// Credentials of one instance, decoded from one JSON secret. Either ClientID and ClientSecret (OAuth client
// credentials, the way to go) or Username and Password. IntegrationUser is the user name that calls run as, by
// which the webhooks of our own writes are known; it defaults to Username. WebhookSecrets are the kit's signing
// secrets; any of them verifies, so that one can be rotated.
type Credentials struct {
	ClientID        string   `json:"clientId,omitempty"`
	ClientSecret    string   `json:"clientSecret,omitempty"`
	Username        string   `json:"username,omitempty"`
	Password        string   `json:"password,omitempty"`
	IntegrationUser string   `json:"integrationUser,omitempty"`
	WebhookSecrets  []string `json:"webhookSecrets,omitempty"`
}

// String hides the secrets.
func (Credentials) String() string { return "servicenow.Credentials(redacted)" }

// GoString hides the secrets.
func (c Credentials) GoString() string { return c.String() }

// LogValue hides the secrets.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Config of a connector. URL and Now are required.
type Config struct {
	URL         string // such as https://acme.service-now.com
	Credentials Credentials
	Now         func() time.Time
	Observe     func(vendorhttp.Call)
	Concurrency int               // calls in flight at most; 0 = 10
	Gate        budget.Gate       // lets calls through; nil = one of this connector alone, with Concurrency
	Timeout     time.Duration     // of one call; 0 = 15 s
	Transport   http.RoundTripper // nil = a pooled one
	PageSize    int               // of listings; 0 = 1000
	Limits      map[string]int    // by the names of Connector.Limits: how much of the instance Sorrel may use
	ImportSets  bool              // creates go through the kit's import sets: one call instead of two, without a version
}

// Connector to one instance. It is safe for concurrent use.
type Connector struct {
	cfg     Config
	client  *vendorhttp.Client
	limits  []budget.Limit
	secrets [][]byte
	utc     atomic.Bool // the integration user's zone was tried
}

// New checks cfg, all of it, and returns a connector. It does not touch the network. Without API credentials
// only Webhook works, and URL may be empty then.
func New(cfg Config) (*Connector, error) {
	var problems []error
	problem := func(format string, a ...any) { problems = append(problems, fmt.Errorf(format, a...)) }
	if cfg.Now == nil {
		problem("Now is missing: give the clock")
		cfg.Now = time.Now
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = 1000
	}
	if cfg.PageSize < 2 || cfg.PageSize > 10000 {
		problem("PageSize is %d: give 2 to 10000, or 0 for 1000", cfg.PageSize)
	}
	cr := &cfg.Credentials
	if (cr.ClientID == "") != (cr.ClientSecret == "") {
		problem("Credentials: clientId and clientSecret belong together; one is missing")
	}
	if (cr.Username == "") != (cr.Password == "") {
		problem("Credentials: username and password belong together; one is missing")
	}
	if cr.IntegrationUser == "" {
		cr.IntegrationUser = cr.Username
	}
	c := &Connector{}
	var err error
	if c.limits, err = budget.Set(limits(), cfg.Limits); err != nil {
		problems = append(problems, err)
	}
	for i, s := range cr.WebhookSecrets {
		if s == "" {
			problem("Credentials: webhookSecrets[%d] is empty: everybody could sign with it", i)
		}
		c.secrets = append(c.secrets, []byte(s))
	}
	c.cfg = cfg
	if cfg.URL == "" && cr.ClientID == "" && cr.Username == "" && len(problems) == 0 {
		return c, nil // webhooks only
	}
	client, err := vendorhttp.New(vendorhttp.Config{
		Name: record.ServiceNow, Base: cfg.URL, Tokens: c.tokens(), Concurrency: cfg.Concurrency, Timeout: cfg.Timeout,
		Now: cfg.Now, Observe: cfg.Observe, Classify: classify, Gate: cfg.Gate, Transport: cfg.Transport,
		Readings: func(resp vendorhttp.Response) []budget.Reading {
			return budget.Within(cfg.Limits, readings(resp, cfg.Now()))
		},
	})
	if err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("servicenow: %w", err)
	}
	c.client = client
	return c, nil
}

// tokens signs in by what the credentials hold.
func (c *Connector) tokens() *vendorhttp.Tokens {
	cr := c.cfg.Credentials
	switch {
	case cr.ClientID != "":
		return vendorhttp.NewTokens(c.signIn, c.cfg.Now)
	case cr.Username != "":
		return vendorhttp.Static("Basic " + base64.StdEncoding.EncodeToString([]byte(cr.Username+":"+cr.Password)))
	}
	return vendorhttp.NewTokens(func(context.Context) (vendorhttp.Token, error) {
		return vendorhttp.Token{}, &fault.Error{Class: fault.Unauthenticated, Op: "servicenow.sign-in", Detail: "no API credentials are configured",
			Remedy: "give clientId and clientSecret of an OAuth application"}
	}, c.cfg.Now)
}

// signIn fetches a token by client credentials. Within a token's life the vendor gives the same token again, so one
// that has less than a minute left must not be asked for on every call: it is used until a call answers 401.
// https://www.servicenow.com/docs/r/platform-security/authentication/client-credentials.html
func (c *Connector) signIn(ctx context.Context) (vendorhttp.Token, error) {
	const op = "servicenow.sign-in"
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.cfg.Credentials.ClientID}, "client_secret": {c.cfg.Credentials.ClientSecret}}
	resp, err := c.client.Do(ctx, vendorhttp.Request{Op: "sign-in", Method: http.MethodPost, Path: "/oauth_token.do", Body: []byte(form.Encode()), NoAuth: true,
		Header:  http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}},
		Secrets: []string{c.cfg.Credentials.ClientSecret}})
	if err != nil {
		if resp.Status >= 400 && resp.Status < 500 && resp.Status != http.StatusTooManyRequests {
			return vendorhttp.Token{}, &fault.Error{Class: fault.Unauthenticated, Op: op, Err: err,
				Remedy: "check clientId and clientSecret, that client credentials are enabled on the instance, and that the application has an application user"}
		}
		return vendorhttp.Token{}, err
	}
	grant, err := vendorhttp.ParseGrant(op, resp.Body, c.cfg.Now())
	return grant.Token, err
}

// Declaration of what ServiceNow promises. There is no published number of requests: each instance has its own
// rate limit rules, per hour.
func (c *Connector) Declaration() platform.Declaration {
	return platform.Declaration{
		Name: record.ServiceNow, Title: "ServiceNow Customer Service Management",
		Auth: []string{"OAuth 2.0 client credentials", "HTTP basic"},
		Limits: []platform.Limit{
			{Scope: "Table API", Kind: "page", Max: 10000, Source: "https://www.servicenow.com/docs/r/api-reference/rest-apis/c_TableAPI.html"},
			{Scope: "access token", Kind: "seconds", Max: 1800, Source: "https://www.servicenow.com/docs/r/platform-security/authentication/client-credentials.html"},
		},
		Webhook:    "our business rule: X-Sorrel-Signature: v1=hex(HMAC-SHA256(secret, timestamp + \".\" + body)), ±5 minutes",
		Resolution: resolution,
		Objects:    []platform.Object{declared(Account), declared(Contact), declared(Case)},
		Errors:     errorTable(),
	}
}

func declared(object string) platform.Object {
	return platform.Object{Name: object, External: external, Batch: true, Census: platform.Ranges, Sum: platform.SumSeqs, Deleted: true, Settles: overlap}
}

func known(object string) bool { return object == Account || object == Contact || object == Case }

func checkObject(op, object string) error {
	if known(object) {
		return nil
	}
	return &fault.Error{Class: fault.NotFound, Op: "servicenow." + op, ID: object, Detail: fmt.Sprintf("table %.60q is not known here", object),
		Remedy: "use customer_account, customer_contact or sn_customerservice_case"}
}

// shape asks for the native shape in the package comment.
func shape() url.Values {
	return url.Values{"sysparm_display_value": {"false"}, "sysparm_exclude_reference_link": {"true"}}
}

// lists tells operations that answer with many records.
func lists(op string) bool {
	for _, s := range []string{".changes", ".within", ".deleted", ".among"} {
		if strings.HasSuffix(op, s) {
			return true
		}
	}
	return false
}

// call sends one request and decodes the answer's object; an answer without content has none. A write whose
// answer cannot be understood is Unknown: it was done or not.
func (c *Connector) call(ctx context.Context, op, method, path string, query url.Values, body map[string]string) (map[string]any, vendorhttp.Response, error) {
	write := method != http.MethodGet
	r := vendorhttp.Request{Op: op, Method: method, Path: path, Query: query, Write: write, Page: lists(op), Header: http.Header{"Accept": {"application/json"}}}
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, vendorhttp.Response{}, fault.Wrap(fault.Contract, "servicenow."+op, "", err)
		}
		r.Body = raw
	}
	if c.client == nil {
		return nil, vendorhttp.Response{}, &fault.Error{Class: fault.Unauthenticated, Op: "servicenow." + op, Detail: "no instance is configured",
			Remedy: "give the URL, and clientId and clientSecret of an OAuth application"}
	}
	resp, err := c.client.Do(ctx, r)
	if e := fault.Outermost(err); write && codeOf(err) == codeTime { // it may have done half
		e.Class = fault.Unknown
	}
	if err != nil || resp.Status == http.StatusNoContent {
		return nil, resp, err
	}
	read := jsonread.New(resp.Body, maxDepth)
	answer := read.Map()
	if err := read.End(); err != nil {
		return nil, resp, garbled(op, write, "the answer is no JSON object", err)
	}
	if e := refusal(resp.Status, answer); e != nil { // an error inside a success
		e.Op = "servicenow." + op
		if e.Class == fault.Internal || e.Class == fault.Down { // of no known code, or with half of the result
			g := garbled(op, write, e.Detail, nil)
			g.Code = e.Code
			return nil, resp, g
		}
		return nil, resp, e
	}
	return answer, resp, nil
}

// garbled is the error of a 2xx answer that cannot be used.
func garbled(op string, write bool, detail string, err error) *fault.Error {
	class := fault.Down
	if write {
		class = fault.Unknown
	}
	return &fault.Error{Class: class, Op: "servicenow." + op, Detail: detail, Err: err}
}
