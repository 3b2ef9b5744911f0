// Package zendesk is the connector to Zendesk Support: organizations, end users, tickets and custom object records.
//
// Native shape: REST's. A native's Fields are what GET shows of the record: lower-case enums, ids as JSON
// numbers where REST has numbers (organizations, tickets, users) and as strings where REST has strings (custom
// object records and lookup values), custom values under organization_fields, user_fields or custom_object_fields
// by key. Webhooks say ids as strings and enums in upper case; they are brought into this shape.
//
// A ticket's custom values are a list by field id there, and ids differ from account to account. Here they stand under
// ticket_fields by a key made of the field's title: "ERP context" is ticket_fields.erp_context. The list of fields is read
// once an hour, and when a key is missing in it.
//
// Objects: "organization", "user" (end users only), "ticket" and "custom_object/{key}" (see infra/decisions/003).
//
// What the vendor does not say, and what follows from it:
//   - Organization and user events carry neither custom fields nor tags, user events no name and no phone either: they
//     are hints, to be read. A changed phone number, and on organizations notes, details and domain names, send no
//     event at all: Changes finds them.
//   - Ticket events carry no custom values: custom_field_changed is a hint. The breach of an SLA sends no event at all; the
//     kit's automation ticks a field for it, which does.
//   - There is no webhook event type for custom object records. The twin sends none; Changes finds an agent's
//     edit. https://developer.zendesk.com/api-reference/webhooks/event-types/webhook-event-types/
//   - Nothing marks a change as ours. Actor is the user of the last change, which only ticket events and custom object
//     records tell; Native.Ours stays false, because a payload shows the whole record and not only what that user set.
//   - Deleted tickets and records answer 404 like ones that never were: Read says NotFound, and webhooks and Changes
//     tell a deletion. So do deleted organizations, but their list of merges still answers, and Read says Gone. A deleted
//     user is still shown, with active false.
//   - Agents and administrators are users too: Changes passes them over, Read and Find do not find them.
//
// Merges. An organization's merges are a list of their own: Read of one that is gone and Changes ask it, and say Into.
// The event organization.deleted does not tell a deletion from a merge, so it gives two natives: a hint, whose read
// tells, and then the deletion. A user's merge is told by the event user.merged only; Read and Changes show the loser as
// deleted. https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/#merge-organization-with-another-organization
//
// A user's e-mail address is an identity of its own. It is written with the user on create only: on update the vendor
// adds a second address and leaves the first one primary. Write therefore changes it by the identities API.
// https://developer.zendesk.com/api-reference/ticketing/users/user_identities/
//
// UNCONFIRMED against a real account: 201 (not 200) when a PATCH by external id creates a record; whether an
// export of custom object records gives after_cursor on its last page (both are handled); whether a deleted
// record's updated_at moves; whether unset custom object fields are shown as null; the body of 409 answers;
// the status of TooManyJobs; whether tokens by client_credentials carry expires_in; whether invocation ids stay
// the same over retries (the event id is used instead); whether a deleted organization's merges can still be listed
// (if not, its hint says NotFound and the deletion stands without Into); which of its two ids user.merged calls the
// loser (see merged); the status of a second deletion of a user (404 and 200 both count as done); whether a new value
// of an e-mail identity makes it unverified; whether organizations and users can be searched by updated to the second; whether
// lists of organizations and users come in the order of ids; how a search that is exported refuses a cursor of another hour.
package zendesk

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

// Object names.
const (
	Organization = "organization"
	User         = "user"
	Ticket       = "ticket"
	custom       = "custom_object/"
)

// resolution of created_at and updated_at.
const resolution = time.Second

// Credentials of one account, decoded from one JSON secret. Either ClientID and ClientSecret (OAuth, the way
// to go) or Email and APIToken (which the vendor ends on 2027-04-30). WebhookSecrets are the signing secrets;
// any of them verifies, so that one can be rotated.
type Credentials struct {
	ClientID       string   `json:"clientId,omitempty"`
	ClientSecret   string   `json:"clientSecret,omitempty"`
	Scope          string   `json:"scope,omitempty"` // empty = "read write"
	Email          string   `json:"email,omitempty"`
	APIToken       string   `json:"apiToken,omitempty"`
	WebhookSecrets []string `json:"webhookSecrets,omitempty"`
}

// String hides the secrets.
func (Credentials) String() string { return "zendesk.Credentials(redacted)" }

// GoString hides the secrets.
func (c Credentials) GoString() string { return c.String() }

// LogValue hides the secrets.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Config of a connector. URL and Now are required.
type Config struct {
	URL           string // such as https://acme.zendesk.com
	Credentials   Credentials
	CustomObjects []string // keys of custom objects; nil = those of infra/zendesk
	Now           func() time.Time
	Observe       func(vendorhttp.Call)
	Concurrency   int               // calls in flight at most; 0 = 10
	Gate          budget.Gate       // lets calls through; nil = one of this connector alone, with Concurrency
	Timeout       time.Duration     // of one call; 0 = 15 s
	Transport     http.RoundTripper // nil = a pooled one
	PageSize      int               // of exports; 0 = 1000, the vendor's most
	// Limits are the account's own numbers, by the names of Connector.Limits: what the plan allows, or less.
	Limits map[string]int
}

// Connector to one account. It is safe for concurrent use.
type Connector struct {
	cfg     Config
	client  *vendorhttp.Client
	objects map[string]bool
	limits  []budget.Limit
	secrets [][]byte
	test    bool // the public test secret is among the secrets

	mu      sync.Mutex
	known   map[string]dropdowns // by object
	tickets ticketFields
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
	if cfg.CustomObjects == nil {
		cfg.CustomObjects = []string{"order", "shipment", "invoice", "contract", "product"}
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = 1000
	}
	if cfg.PageSize < 2 || cfg.PageSize > 1000 {
		problem("PageSize is %d: give 2 to 1000, or 0 for 1000", cfg.PageSize)
	}
	c := &Connector{cfg: cfg, objects: map[string]bool{Organization: true, User: true, Ticket: true}, known: map[string]dropdowns{}}
	key := regexp.MustCompile(`^[a-z0-9_]{1,100}$`)
	for _, k := range cfg.CustomObjects {
		if !key.MatchString(k) {
			problem("CustomObjects: %q is not a custom object key (lower-case letters, digits, '_')", k)
		}
		c.objects[custom+k] = true
	}
	var err error
	if c.limits, err = budget.Set(Limits(), cfg.Limits); err != nil {
		problems = append(problems, err)
	}
	cr := cfg.Credentials
	if (cr.ClientID == "") != (cr.ClientSecret == "") {
		problem("Credentials: clientId and clientSecret belong together; one is missing")
	}
	if (cr.Email == "") != (cr.APIToken == "") {
		problem("Credentials: email and apiToken belong together; one is missing")
	}
	for i, s := range cr.WebhookSecrets {
		if s == "" {
			problem("Credentials: webhookSecrets[%d] is empty: everybody could sign with it", i)
		}
		c.test = c.test || s == testSecret
		c.secrets = append(c.secrets, []byte(s))
	}
	if cfg.URL == "" && cr.ClientID == "" && cr.Email == "" && len(problems) == 0 {
		return c, nil // webhooks only
	}
	client, err := vendorhttp.New(vendorhttp.Config{
		Name: record.Zendesk, Base: cfg.URL, Tokens: c.tokens(), Concurrency: cfg.Concurrency, Timeout: cfg.Timeout,
		Now: cfg.Now, Observe: cfg.Observe, Classify: classify, Local: local, Gate: cfg.Gate, Transport: cfg.Transport,
		Readings: func(resp vendorhttp.Response) []budget.Reading {
			return budget.Within(cfg.Limits, readings(resp.Header, cfg.Now()))
		},
	})
	if err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("zendesk: %w", err)
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
	case cr.Email != "":
		return vendorhttp.Static("Basic " + base64.StdEncoding.EncodeToString([]byte(cr.Email+"/token:"+cr.APIToken)))
	}
	return vendorhttp.NewTokens(func(context.Context) (vendorhttp.Token, error) {
		return vendorhttp.Token{}, &fault.Error{Class: fault.Unauthenticated, Op: "zendesk.sign-in", Detail: "no API credentials are configured",
			Remedy: "give clientId and clientSecret of an OAuth client"}
	}, c.cfg.Now)
}

// lifetime asked for a token; the vendor takes 300 to 172800 s.
const lifetime = 2 * time.Hour

// signIn fetches a token by client credentials. The vendor grants a token even for scope names that it does not
// know, and every call with it is then refused; so the granted scope is compared with the requested one.
// https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
func (c *Connector) signIn(ctx context.Context) (vendorhttp.Token, error) {
	const op = "zendesk.sign-in"
	scope := c.cfg.Credentials.Scope
	if scope == "" {
		scope = "read write"
	}
	body, err := json.Marshal(map[string]any{"grant_type": "client_credentials", "client_id": c.cfg.Credentials.ClientID,
		"client_secret": c.cfg.Credentials.ClientSecret, "scope": scope, "expires_in": int(lifetime.Seconds())})
	if err != nil {
		return vendorhttp.Token{}, fault.Wrap(fault.Internal, op, "", err)
	}
	resp, err := c.client.Do(ctx, vendorhttp.Request{Op: "sign-in", Method: http.MethodPost, Path: "/oauth/tokens", Body: body, NoAuth: true,
		Secrets: []string{c.cfg.Credentials.ClientSecret}})
	if err != nil {
		if resp.Status >= 400 && resp.Status < 500 && resp.Status != http.StatusTooManyRequests {
			return vendorhttp.Token{}, &fault.Error{Class: fault.Unauthenticated, Op: op, Err: err, Remedy: "check clientId and clientSecret of the OAuth client, and that it is confidential"}
		}
		return vendorhttp.Token{}, err
	}
	t, err := vendorhttp.ParseGrant(op, resp.Body, c.cfg.Now())
	if err != nil {
		return vendorhttp.Token{}, err
	}
	granted := map[string]bool{}
	for _, s := range strings.Fields(t.Scope) {
		granted[s] = true
	}
	var missing []string
	for _, s := range strings.Fields(scope) {
		if !granted[s] {
			missing = append(missing, s)
		}
	}
	if len(missing) > 0 {
		return vendorhttp.Token{}, &fault.Error{Class: fault.Unauthenticated, Op: op, Fields: missing,
			Detail: fmt.Sprintf("asked for scope %q, granted %.200q", scope, t.Scope), Remedy: "allow the missing scopes on the OAuth client, or correct their names"}
	}
	return t.Token, nil
}

const (
	limitsDoc  = "https://developer.zendesk.com/api-reference/introduction/rate-limits/"
	exportsDoc = "https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/"
	recordsDoc = "https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_records/"
	objectsDoc = "https://developer.zendesk.com/api-reference/custom-data/introduction/"
)

// Declaration of what Zendesk promises.
func (c *Connector) Declaration() platform.Declaration {
	d := platform.Declaration{
		Name: record.Zendesk, Title: "Zendesk Support",
		Auth: []string{"OAuth 2.0 client credentials (JSON token endpoint, granted scope checked)", "API token, HTTP basic (ends 2027-04-30)"},
		Limits: []platform.Limit{
			{Scope: "account, Team", Kind: "per-minute", Max: 200, Source: limitsDoc},
			{Scope: "account, Growth and Professional", Kind: "per-minute", Max: 400, Source: limitsDoc},
			{Scope: "account, Enterprise", Kind: "per-minute", Max: 700, Source: limitsDoc},
			{Scope: "account, Enterprise Plus and High Volume", Kind: "per-minute", Max: 2500, Source: limitsDoc},
			{Scope: "incremental exports", Kind: "per-minute", Max: 10, Source: exportsDoc},
			{Scope: "update of one organization", Kind: "per-minute", Max: 5, Source: limitsDoc},
			{Scope: "create or update of one user", Kind: "per-minute", Max: 5, Source: limitsDoc},
			{Scope: "create or update of users", Kind: "per-minute", Max: 60, Source: limitsDoc},
			{Scope: "update of one ticket by one user", Kind: "per-10-minutes", Max: 30, Source: limitsDoc},
			{Scope: "ticket updates", Kind: "per-minute", Max: 100, Source: limitsDoc},
			{Scope: "ticket deletions", Kind: "per-minute", Max: 400, Source: limitsDoc},
			{Scope: "background jobs", Kind: "concurrency", Max: 30, Source: limitsDoc},
			{Scope: "lists", Kind: "page", Max: 100, Source: "https://developer.zendesk.com/api-reference/introduction/pagination/"},
			{Scope: "incremental exports", Kind: "page", Max: 1000, Source: exportsDoc},
			{Scope: "custom object record", Kind: "bytes", Max: 32 << 10, Source: recordsDoc},
			{Scope: "custom object records of an account", Kind: "count", Max: 50_000_000, Source: recordsDoc},
			{Scope: "fields of a custom object", Kind: "count", Max: 100, Source: objectsDoc},
		},
		Webhook:    "X-Zendesk-Webhook-Signature: base64(HMAC-SHA256(secret, timestamp + body)), ±5 minutes",
		Resolution: resolution,
		Objects: []platform.Object{
			{Name: Organization, External: "external_id", Batch: true, Census: platform.Ranges, Numeric: true, Deleted: true, Settles: indexed},
			{Name: User, External: "external_id", Batch: true, Census: platform.Ranges, Numeric: true, Deleted: true, Settles: indexed},
			{Name: Ticket, External: "external_id", Batch: true, Census: platform.Ranges, Numeric: true, Deleted: true, Settles: indexed},
		},
	}
	for _, k := range c.cfg.CustomObjects {
		d.Objects = append(d.Objects, platform.Object{Name: custom + k, External: "external_id", Batch: true, Deleted: true, Settles: back})
	}
	d.Errors = errorTable()
	return d
}

// place says where an object's records live in the API.
type place struct {
	path string // of the collection
	one  string // JSON key of one record
	many string // JSON key of several
}

func (c *Connector) place(op, object string) (place, error) {
	if !c.objects[object] {
		return place{}, &fault.Error{Class: fault.NotFound, Op: op, ID: object, Detail: fmt.Sprintf("object %q is not known here", object),
			Remedy: "use organization, user, ticket or custom_object/KEY with a configured KEY"}
	}
	if key, ok := strings.CutPrefix(object, custom); ok {
		return place{"/api/v2/custom_objects/" + key + "/records", "custom_object_record", "custom_object_records"}, nil
	}
	return place{"/api/v2/" + object + "s", object, object + "s"}, nil
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

// call sends one request and decodes the answer's object. A write whose answer cannot be understood is Unknown:
// it was done or not.
func (c *Connector) call(ctx context.Context, op, method, path string, query url.Values, header http.Header, body any) (map[string]any, vendorhttp.Response, error) {
	write := method != http.MethodGet
	r := vendorhttp.Request{Op: op, Method: method, Path: path, Query: query, Header: header, Write: write, Page: lists(op), Limits: countsAgainst(method, path)}
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, vendorhttp.Response{}, fault.Wrap(fault.Contract, "zendesk."+op, "", err)
		}
		r.Body = raw
	}
	if c.client == nil {
		return nil, vendorhttp.Response{}, &fault.Error{Class: fault.Unauthenticated, Op: "zendesk." + op, Detail: "no account is configured",
			Remedy: "give the URL, and clientId and clientSecret of an OAuth client"}
	}
	resp, err := c.client.Do(ctx, r)
	if err != nil || resp.Status == http.StatusNoContent {
		return nil, resp, err
	}
	answer, err := decode(resp.Body)
	if err != nil {
		return nil, resp, garbled(op, write, "the answer is no JSON object", err)
	}
	if e := refusal(resp); e != nil { // an error inside a success
		e.Op = "zendesk." + op
		if e.Class == fault.Internal { // of no known code
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
	return &fault.Error{Class: class, Op: "zendesk." + op, Detail: detail, Err: err}
}

// member returns the object under key of a 2xx answer.
func member(op string, write bool, answer map[string]any, key string) (map[string]any, error) {
	if m, ok := answer[key].(map[string]any); ok {
		return m, nil
	}
	return nil, garbled(op, write, fmt.Sprintf("the answer lacks %q", key), nil)
}
