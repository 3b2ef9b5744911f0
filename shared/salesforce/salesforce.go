// Package salesforce connects Sorrel to one Salesforce org: REST for reading and writing, Outbound Messages
// and Change Data Capture events (through Amazon EventBridge) for what changes there.
//
// Native shape. Whatever way a record came, its Fields look like an answer of the REST query resource:
// flat API names (BillingCity, never a nested BillingAddress), numbers as json.Number, date-times as
// 2026-11-02T08:15:20.000+0000, dates as 2026-11-02, cleared fields as null, parents nested under their
// relationship name ({"Account":{"Sorrel_Id__c":"…"}}) and no "attributes". Outbound Messages say everything
// as text and events say some times as epoch milliseconds, so those fields must have a Kind; the standard
// fields and those of infra/salesforce have one, more come with Config.Kinds.
//
// Versions. At is SystemModstamp, which has whole seconds. An event does not carry SystemModstamp: it takes
// LastModifiedDate, which the same save set to the same second, and commitTimestamp only where that is
// missing. The commit can be seconds after the save, and a later save of the same record waits for it, so an
// event is never newer than a read that already contains a later change. Seq is commit and sequence number,
// which order the events of one second. A read has no Seq; it is Final once the vendor's clock was past its
// second when the read began, and then beats the events of that second.
//
// A deleted record comes back by UNDELETE with its old CreatedDate. Born therefore is the latest moment at
// which the present life is known to go on: SystemModstamp of a live read, the commit of an UNDELETE. A live
// read that is newer than a deletion proves the undelete, even when its event was lost. Deletions and births of
// one second are ordered too: events of both say their commit with its milliseconds, and a Final read says the
// last millisecond of its second, since what it shows is how that second ended.
//
// A merge deletes the loser and sets its MasterRecordId, which Read and Changes say as Into. Its DELETE event
// does not carry it, so Event asks for it (see Event). The winner gets an event of its own, of which nothing but
// LastModifiedDate need have changed; children are updated.
//
// Ours is what the vendor marks with our client's name in changeOrigin, and nothing else: somebody who signs in
// as the integration user is a person.
package salesforce

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

const (
	// Resolution of SystemModstamp.
	Resolution = time.Second
	// MaxBatch is how many records one sObject Collections call takes.
	// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections.htm
	MaxBatch = 200
	// maxPage is how many rows one answer of the query resource holds.
	maxPage = 2000
	// replayWindow bounds how far ahead of the receiver's clock a pushed version may be.
	replayWindow = 5 * time.Minute
)

// Credentials of one org. A caller that only verifies webhooks needs OrgID and WebhookTokens; one that calls
// the API needs ClientID with either PrivateKey and Username (JWT bearer) or ClientSecret (client credentials).
type Credentials struct {
	ClientID      string   `json:"clientId,omitempty"`     // consumer key of the external client app
	ClientSecret  string   `json:"clientSecret,omitempty"` // client credentials flow
	Username      string   `json:"username,omitempty"`     // JWT bearer: the integration user
	PrivateKey    string   `json:"privateKey,omitempty"`   // JWT bearer: RSA key in PEM
	Audience      string   `json:"audience,omitempty"`     // JWT bearer: https://login.salesforce.com (default) or https://test.salesforce.com
	OrgID         string   `json:"orgId,omitempty"`        // 15 or 18 characters, starts with 00D
	WebhookTokens []string `json:"webhookTokens,omitempty"`
}

// String hides the secrets.
func (c Credentials) String() string {
	return fmt.Sprintf("Credentials(clientId %q, org %q, redacted)", c.ClientID, c.OrgID)
}

// GoString hides the secrets.
func (c Credentials) GoString() string { return c.String() }

// LogValue hides the secrets.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

func (c Credentials) api() bool { return c.ClientID+c.ClientSecret+c.Username+c.PrivateKey != "" }

// Missed says that an event told of changes without naming the records: the next Changes of Object finds them.
type Missed struct {
	Object string
	Reason string // "overflow" (GAP_OVERFLOW) or "wildcard" (a record id such as 001*)
	At     time.Time
}

// Config of a Connector. Now is required; URL and API credentials may be missing for webhooks alone.
type Config struct {
	URL         string // the org's own domain: https://acme.my.salesforce.com
	Credentials Credentials
	Now         func() time.Time
	Observe     func(vendorhttp.Call)
	Concurrency int               // calls in flight at most; 0 = 10
	Gate        budget.Gate       // lets calls through; nil = one of this connector alone, with Concurrency
	Timeout     time.Duration     // of one call; 0 = 15 s
	Transport   http.RoundTripper // nil = a pooled one
	Version     string            // REST API version; "" = v66.0, at least v46.0
	Client      string            // marks our calls, so that their events are recognised; "" = Sorrel

	Fields       map[string][]string        // object → fields to read (Parent.Field for one of its parents); nil = DefaultFields
	External     map[string]string          // object → its external-id field; default Sorrel_Id__c
	Kinds        map[string]map[string]Kind // object → field → kind, beside the known ones
	Own          []string                   // objects that Changes lists only as far as they carry the external id: the others are people's own
	Instances    []string                   // hosts that a token's instance_url may name beside that of URL
	EventSources []string                   // source prefixes of EventBridge events; nil = aws.partner/salesforce.com/{OrgID}/
	Missed       func(Missed)               // told of events that name no records; nil = nobody
	Page         int                        // rows per page of Changes; 0 = 2000
	Overlap      time.Duration              // how far Changes goes back; must exceed the longest transaction; 0 = 5 minutes
	Limits       map[string]int             // the org's own numbers, by the names of Connector.Limits: what it has, or less
}

// Connector to one org. It is safe for concurrent use.
type Connector struct {
	cfg     Config
	client  *vendorhttp.Client // nil = no API
	key     *rsa.PrivateKey    // nil = client credentials flow
	hosts   []string
	base    string // /services/data/vNN.0
	sources []string
	objects map[string]object
	limits  []budget.Limit

	mu        sync.Mutex
	picklists map[string]picklists // by object
}

type object struct {
	external string
	own      bool              // only what carries the external id is listed
	merges   bool              // its records can be merged, and have MasterRecordId
	query    string            // comma-separated field list
	parents  map[string]string // relationship name → foreign key field
	kinds    map[string]Kind
}

// DefaultFields are read where Config.Fields is nil: what the mappings of infra/config need.
func DefaultFields() map[string][]string {
	return map[string][]string{
		"Account": strings.Fields(`Name AccountNumber Phone Website BillingStreet BillingCity BillingState BillingPostalCode
			BillingCountry ShippingStreet ShippingCity ShippingState ShippingPostalCode ShippingCountry ERP_Id__c ERP_Customer_Number__c
			Tax_Id__c ERP_Currency__c ERP_Credit_Limit__c ERP_Credit_Hold__c ERP_Balance__c ERP_Overdue_Balance__c ERP_Terms__c ERP_Active__c Industry Segment__c
			Account_Manager__c Support_Tier__c Support_Notes__c OwnerId ERP_Activation__c ERP_Activation_Note__c`),
		"Contact": strings.Fields(`FirstName LastName Email Phone MobilePhone Title AccountId Account.Sorrel_Id__c Active__c`),
		"Order": strings.Fields(`AccountId Account.Sorrel_Id__c EffectiveDate Status PoNumber Description ShippingStreet ShippingCity
			ShippingState ShippingPostalCode ShippingCountry ERP_Order_Number__c ERP_Status__c ERP_Total__c ERP_Subtotal__c ERP_Tax__c
			ERP_Freight__c ERP_Currency__c ERP_Requested_Ship_Date__c ERP_Ship_Method__c ERP_Lines__c`),
		"Shipment__c": strings.Fields(`Name Order__c Order__r.Sorrel_Id__c Status__c Carrier__c Ship_Method__c Tracking_Numbers__c
			Shipped_On__c ERP_Fulfilment_Number__c Lines__c`),
		"Opportunity":    strings.Fields(`Name AccountId StageName Amount Currency__c CloseDate Probability Type OwnerId NextStep Sorrel_Status__c Sorrel_Note__c`),
		"Task":           strings.Fields(`Subject Description WhatId OwnerId Priority ActivityDate Status`),
		"Contract__c":    strings.Fields(`Name ERP_Contract_Number__c Account__c Account__r.Sorrel_Id__c Status__c Tier__c Starts_On__c Ends_On__c Product__c`),
		"PricebookEntry": strings.Fields(`Product2Id Product2.Sorrel_Id__c Pricebook2Id Pricebook2.ERP_Price_Level__c UnitPrice IsActive`),
		"Product2":       strings.Fields(`Name ProductCode Description IsActive ERP_Item_Kind__c ERP_Category__c ERP_Unit__c ERP_Currency__c ERP_List_Price__c`),
		"Invoice__c": strings.Fields(`Name ERP_Invoice_Number__c Account__c Account__r.Sorrel_Id__c Order__c Order__r.Sorrel_Id__c Status__c
			Currency__c Total__c Amount_Due__c Issued_On__c Due_On__c Paid_On__c`),
		"Case": strings.Fields(`AccountId Account.Sorrel_Id__c Subject Description Status Support_Number__c Support_Desk__c Support_Status__c
			Support_Priority__c Support_Opened_On__c SLA_Breached__c Sorrel_Escalation__c ERP_Context__c CRM_Context__c
			Entitled_Tier__c Entitled_Until__c Entitlement_Reason__c`),
	}
}

// isName reports whether s is an API name.
func isName(s string) bool {
	for i, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != "" && len(s) <= 80
}

// isField reports whether s is a field, or a field of one of its parents.
func isField(s string) bool {
	parts := strings.Split(s, ".")
	return len(parts) <= 3 && !slices.ContainsFunc(parts, func(p string) bool { return !isName(p) })
}

// isVersion reports whether s is v46.0 or later.
func isVersion(s string) bool {
	var n int
	_, err := fmt.Sscanf(s, "v%d.0", &n)
	return err == nil && n >= 46 && n < 1000 && s == fmt.Sprintf("v%d.0", n)
}

// New checks cfg, naming every problem, and returns a Connector. It calls nobody.
func New(cfg Config) (*Connector, error) {
	var problems []error
	problem := func(format string, a ...any) {
		problems = append(problems, fmt.Errorf("salesforce: "+format, a...))
	}
	if cfg.Now == nil {
		problem("Now is missing; pass the clock")
	}
	if cfg.Version == "" {
		cfg.Version = "v66.0"
	}
	if !isVersion(cfg.Version) {
		problem("Version %q is not of the form v66.0, or older than v46.0, which bulk upsert needs", cfg.Version)
	}
	if cfg.Client == "" {
		cfg.Client = "Sorrel"
	}
	if strings.ContainsAny(cfg.Client, ";,= \r\n") {
		problem("Client %q contains a separator; use letters and digits", cfg.Client)
	}
	if cfg.Page == 0 {
		cfg.Page = maxPage
	}
	if cfg.Page < 1 || cfg.Page > maxPage {
		problem("Page is %d; it must be from 1 to %d", cfg.Page, maxPage)
	}
	if cfg.Overlap == 0 {
		cfg.Overlap = 5 * time.Minute
	}
	if cfg.Overlap < Resolution {
		problem("Overlap is %s; it must be at least a second", cfg.Overlap)
	}
	if cfg.Fields == nil {
		cfg.Fields = DefaultFields()
	}
	if cfg.Missed == nil {
		cfg.Missed = func(Missed) {}
	}
	c := &Connector{cfg: cfg, base: "/services/data/" + cfg.Version, objects: map[string]object{}, picklists: map[string]picklists{}}
	for name, fields := range cfg.Fields {
		o, err := newObject(name, cfg.External[name], fields, cfg.Kinds[name])
		o.own = slices.Contains(cfg.Own, name)
		if err != nil {
			problem("%v", err)
		}
		c.objects[name] = o
	}
	var err error
	if c.limits, err = budget.Set(limits(), cfg.Limits); err != nil {
		problem("%w", err)
	}
	problems = append(problems, c.credentials()...)
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return c, nil
}

func newObject(name, external string, fields []string, kinds map[string]Kind) (object, error) {
	if external == "" {
		external = "Sorrel_Id__c"
	}
	o := object{external: external, merges: slices.Contains([]string{"Account", "Contact", "Lead"}, name), parents: map[string]string{}, kinds: map[string]Kind{}}
	if !isName(name) {
		return o, fmt.Errorf("object %q in Fields: use its API name", name)
	}
	for f, k := range knownKinds(name) {
		o.kinds[f] = k
	}
	for f, k := range kinds {
		o.kinds[f] = k
	}
	list := []string{"Id", "SystemModstamp", "CreatedDate", "LastModifiedById", "IsDeleted", external}
	if o.merges {
		list = append(list, "MasterRecordId")
	}
	for _, f := range append(slices.Clone(fields), external) {
		if !isField(f) {
			return o, fmt.Errorf("field %q of %s in Fields: use API names such as Phone or Account.Sorrel_Id__c", f, name)
		}
		if parent, _, ok := strings.Cut(f, "."); ok {
			o.parents[parent] = foreignKey(parent)
		}
		if !slices.ContainsFunc(list, func(have string) bool { return strings.EqualFold(have, f) }) {
			list = append(list, f)
		}
	}
	o.query = strings.Join(list, ",")
	return o, nil
}

// foreignKey is the field behind a relationship name: Order__r → Order__c, Account → AccountId.
func foreignKey(relationship string) string {
	if custom, ok := strings.CutSuffix(relationship, "__r"); ok {
		return custom + "__c"
	}
	return relationship + "Id"
}

func (c *Connector) credentials() []error {
	var problems []error
	problem := func(format string, a ...any) {
		problems = append(problems, fmt.Errorf("salesforce: "+format, a...))
	}
	cr := &c.cfg.Credentials
	if cr.OrgID != "" {
		id, ok := canonicalID(cr.OrgID)
		if !ok || !strings.HasPrefix(id, "00D") {
			problem("orgId %q is not an organization id; see Setup, Company Information", cr.OrgID)
		}
		cr.OrgID = id
	}
	if len(cr.WebhookTokens) > 0 && cr.OrgID == "" {
		problem("webhookTokens need orgId beside them: an Outbound Message is checked for both")
	}
	for i, t := range cr.WebhookTokens {
		if len(t) < 16 {
			problem("webhookTokens[%d] has %d characters; use at least 16 random ones", i, len(t))
		}
	}
	if c.sources = c.cfg.EventSources; c.sources == nil && cr.OrgID != "" {
		c.sources = []string{"aws.partner/salesforce.com/" + cr.OrgID + "/"}
	}
	if !cr.api() {
		return problems
	}
	if cr.ClientID == "" {
		problem("clientId is missing; it is the consumer key of the external client app")
	}
	switch {
	case cr.PrivateKey != "":
		key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(cr.PrivateKey))
		if err != nil {
			problem("privateKey is not an RSA key in PEM")
		}
		c.key = key
		if cr.Username == "" {
			problem("username is missing; the JWT bearer flow signs in as that user")
		}
		if cr.Audience == "" {
			cr.Audience = "https://login.salesforce.com"
		}
	case cr.ClientSecret == "":
		problem("clientSecret (client credentials flow) or privateKey (JWT bearer flow) is missing")
	}
	if c.cfg.Now == nil {
		return problems
	}
	client, err := vendorhttp.New(vendorhttp.Config{
		Name: record.Salesforce, Base: c.cfg.URL, Tokens: vendorhttp.NewTokens(c.signIn, c.cfg.Now),
		Concurrency: c.cfg.Concurrency, Timeout: c.cfg.Timeout, Now: c.cfg.Now, Observe: c.cfg.Observe,
		Classify: c.classify, Gate: c.cfg.Gate, Transport: c.cfg.Transport,
		Readings: func(resp vendorhttp.Response) []budget.Reading {
			return budget.Within(c.cfg.Limits, readings(resp.Header))
		},
	})
	if err != nil {
		return append(problems, err)
	}
	c.client = client
	c.hosts = append([]string{client.Host()}, c.cfg.Instances...)
	return problems
}

// signIn fetches an access token. Salesforce does not say how long it lives (the org's session policy does):
// it is used until a call answers 401, and then replaced once. The answer's instance_url must be the host of
// Config.URL or one of Config.Instances, but calls stay on Config.URL: a token is never sent to a host that
// an answer named.
// https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm
func (c *Connector) signIn(ctx context.Context) (vendorhttp.Token, error) {
	cr := c.cfg.Credentials
	form := url.Values{}
	if c.key != nil {
		assertion, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
			"iss": cr.ClientID, "sub": cr.Username, "aud": cr.Audience, "exp": c.cfg.Now().Add(3 * time.Minute).Unix(),
		}).SignedString(c.key)
		if err != nil {
			return vendorhttp.Token{}, fault.New(fault.Unauthenticated, "salesforce.token", "the assertion cannot be signed with privateKey")
		}
		form.Set("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
		form.Set("assertion", assertion)
	} else {
		form.Set("grant_type", "client_credentials")
		form.Set("client_id", cr.ClientID)
		form.Set("client_secret", cr.ClientSecret)
	}
	resp, err := c.client.Do(ctx, vendorhttp.Request{Op: "token", Method: http.MethodPost, Path: "/services/oauth2/token", NoAuth: true,
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}, Body: []byte(form.Encode()),
		Secrets: []string{cr.ClientSecret, form.Get("assertion")}})
	if err != nil {
		return vendorhttp.Token{}, err
	}
	grant, err := vendorhttp.ParseGrant("salesforce.token", resp.Body, c.cfg.Now())
	if err != nil {
		return vendorhttp.Token{}, err
	}
	instance, err := url.Parse(grant.Instance)
	if err != nil || !slices.Contains(c.hosts, instance.Host) {
		return vendorhttp.Token{}, &fault.Error{Class: fault.Unauthenticated, Op: "salesforce.token", Detail: "the token is for another host than URL",
			Remedy: "set URL to the org's own domain (Setup, My Domain), or allow the host in Instances"}
	}
	return grant.Token, nil
}

// do calls the API. Every call carries the client's name: the vendor puts it into the changeOrigin of the
// events that the call causes.
func (c *Connector) do(ctx context.Context, r vendorhttp.Request) (vendorhttp.Response, error) {
	if c.client == nil {
		return vendorhttp.Response{}, &fault.Error{Class: fault.Unauthenticated, Op: "salesforce." + r.Op, Detail: "no API credentials are configured",
			Remedy: "set clientId with clientSecret or privateKey in the platform's secret"}
	}
	r.Path = c.base + r.Path
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Set("Sforce-Call-Options", "client="+c.cfg.Client)
	// Left out it means TRUE: every write of a case would give it to the default owner, whoever has it.
	// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_autoassign.htm
	r.Header.Set("Sforce-Auto-Assign", "FALSE")
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}
	return c.client.Do(ctx, r)
}

func (c *Connector) object(op, name string) (object, error) {
	o, ok := c.objects[name]
	if !ok {
		return o, &fault.Error{Class: fault.NotFound, Op: "salesforce." + op, ID: name, Detail: "the object is not configured", Remedy: "map it, so that its fields are known"}
	}
	return o, nil
}

// Declaration says what Salesforce promises.
func (c *Connector) Declaration() platform.Declaration {
	const docs = "https://developer.salesforce.com/docs/"
	d := platform.Declaration{
		Name: record.Salesforce, Title: "Salesforce",
		Auth: []string{"OAuth 2.0 JWT bearer (RS256, 3 minutes)", "OAuth 2.0 client credentials"},
		Limits: []platform.Limit{
			{Scope: "org, rolling 24 hours", Kind: "per-day", Max: 100000, Source: docs + "atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm"},
			{Scope: "org, calls over 20 s", Kind: "concurrency", Max: 25, Source: docs + "atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm"},
			{Scope: "query", Kind: "page", Max: maxPage, Source: docs + "platform/api-rest/guide/headers-queryoptions.html"},
			{Scope: "sObject Collections", Kind: "batch", Max: MaxBatch, Source: docs + "atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections.htm"},
			{Scope: "Outbound Message", Kind: "batch", Max: maxNotifications, Source: docs + "atlas.en-us.api_meta.meta/api/sforce_api_om_outboundmessaging_notifications.htm"},
		},
		Webhook:    "Outbound Message (SOAP) with a token in the URL's query and the org's id; Change Data Capture by EventBridge (partner source of the org)",
		Resolution: Resolution,
	}
	for name, o := range c.objects {
		d.Objects = append(d.Objects, platform.Object{Name: name, External: o.external, Batch: true, Census: platform.Grouped, Deleted: true, Settles: c.cfg.Overlap})
	}
	slices.SortFunc(d.Objects, func(a, b platform.Object) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range errorTable() {
		d.Errors = append(d.Errors, r.ErrorRow)
	}
	return d
}
