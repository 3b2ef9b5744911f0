package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/contract"
	"sorrel/shared/fault"
	"sorrel/shared/netsuite"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/salesforce"
	"sorrel/shared/servicenow"
	"sorrel/shared/telemetry"
	"sorrel/shared/vendorhttp"
	"sorrel/shared/zendesk"
)

// Connector is what every platform's connector can do.
type Connector interface {
	Declaration() platform.Declaration
	Limits() []budget.Limit
	Webhook(ctx context.Context, r platform.Request) (platform.Delivery, error)
	Read(ctx context.Context, r record.Ref) (record.Native, error)
	Find(ctx context.Context, object, external string) (record.Native, error)
	Write(ctx context.Context, writes []platform.Write) []platform.Written
	Changes(ctx context.Context, object, cursor string) (platform.Page, error)
	Census(ctx context.Context, object string, within []platform.Span, width time.Duration) ([]platform.Count, error)
	Within(ctx context.Context, object string, within []platform.Span, cursor string) (platform.Page, error)
	Deleted(ctx context.Context, object string, since time.Time, cursor string) (platform.Page, error)
	Among(ctx context.Context, object string, ids []string) ([]record.Native, error)
}

// Connect makes connectors for a caller that keeps all the rest of a world itself. transport is how they reach a platform
// by HTTP. Each call makes connectors that share no sign-in with others, and no budgets: they let their own calls through.
func Connect(endpoints map[string]Endpoint, set *policy.Set, now func() time.Time, recorder *telemetry.Recorder, transport func(platform string) http.RoundTripper) (map[string]Connector, error) {
	return connect(endpoints, set, &World{Now: now, Telemetry: recorder, transport: transport})
}

// reach is how a platform's connector calls it; nil = over connections of its own.
func (w *World) reach(name string) http.RoundTripper {
	if w.transport == nil {
		return nil
	}
	return w.transport(name)
}

// connect makes the connectors of endpoints and reports all problems at once. An endpoint without a URL can
// only verify webhooks.
func connect(endpoints map[string]Endpoint, set *policy.Set, w *World) (map[string]Connector, error) {
	out := map[string]Connector{}
	var errs []error
	for name, e := range endpoints {
		c, err := connectOne(name, e, set, w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out[name] = c
		if account := accountOf(e.URL); account != "" {
			if w.accounts == nil {
				w.accounts = map[string]string{}
			}
			w.accounts[name] = account
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

// accountOf names the account behind an address: all four vendors give each one a host of its own. What listens on this machine is
// a stand-in, whose address says nothing.
func accountOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return ""
	}
	return host
}

// connectOne makes a connector, and tells the platform's gate its limits.
func connectOne(name string, e Endpoint, set *policy.Set, w *World) (Connector, error) {
	c, err := connector(name, e, set, w)
	if err == nil {
		w.limit(name, c.Limits())
	}
	return c, err
}

func connector(name string, e Endpoint, set *policy.Set, w *World) (Connector, error) {
	observe := func(c vendorhttp.Call) {
		w.Telemetry.Count("ProviderCalls", c.Platform, 1)
		w.Telemetry.Took("ProviderCall", c.Platform, c.Took)
		if fault.Is(c.Err, fault.Throttled) {
			w.Telemetry.Count("ProviderThrottled", c.Platform, 1)
		}
	}
	switch name {
	case record.NetSuite:
		var own struct { // settings of the account live beside its credentials
			netsuite.Credentials
			IntegrationUser string         `json:"integrationUser"`
			AccountZone     string         `json:"accountZone"`
			Limits          map[string]int `json:"limits"`
		}
		if err := credentials(name, e, &own); err != nil {
			return nil, err
		}
		return netsuite.New(netsuite.Config{URL: e.URL, Now: w.Now, Observe: observe, Gate: w.gate(name), Transport: w.reach(name), Credentials: own.Credentials,
			IntegrationUser: own.IntegrationUser, AccountZone: own.AccountZone, Limits: own.Limits, Columns: columns(set)})
	case record.Salesforce:
		var own struct {
			salesforce.Credentials
			Limits map[string]int `json:"limits"`
		}
		if err := credentials(name, e, &own); err != nil {
			return nil, err
		}
		return salesforce.New(salesforce.Config{URL: e.URL, Now: w.Now, Observe: observe, Gate: w.gate(name), Transport: w.reach(name), Fields: nativeFields(set, name), Kinds: salesforceKinds(set), Own: sorrelsOwn(set, name),
			Credentials: own.Credentials, Limits: own.Limits,
			Missed: func(m salesforce.Missed) { // the next listing brings what the event did not name
				w.Telemetry.Count("EventsMissed", name, 1)
				w.Telemetry.Event(context.Background(), telemetry.Event{Step: "missed", Platform: name, Record: m.Object, Detail: m.Reason})
			}})
	case record.Zendesk:
		var own struct {
			zendesk.Credentials
			Limits map[string]int `json:"limits"`
		}
		if err := credentials(name, e, &own); err != nil {
			return nil, err
		}
		return zendesk.New(zendesk.Config{URL: e.URL, Now: w.Now, Observe: observe, Gate: w.gate(name), Transport: w.reach(name), Credentials: own.Credentials, Limits: own.Limits, CustomObjects: customObjects(set)})
	case record.ServiceNow:
		var own struct {
			servicenow.Credentials
			ImportSets bool           `json:"importSets"`
			Limits     map[string]int `json:"limits"`
		}
		if err := credentials(name, e, &own); err != nil {
			return nil, err
		}
		return servicenow.New(servicenow.Config{URL: e.URL, Now: w.Now, Observe: observe, Gate: w.gate(name), Transport: w.reach(name), Credentials: own.Credentials, ImportSets: own.ImportSets, Limits: own.Limits})
	}
	return nil, &fault.Error{Class: fault.NotFound, Op: "boot.connect", ID: name, Detail: "no connector for this platform", Remedy: fmt.Sprint("known: ", Platforms())}
}

func credentials(name string, e Endpoint, into any) error {
	if len(e.Credentials) == 0 {
		return &fault.Error{Class: fault.Contract, Op: "boot.connect", ID: name, Detail: "no credentials", Remedy: "add them to the secret under the platform's name"}
	}
	raw := e.Credentials
	if e.URL == "" {
		raw = webhookOnly(raw)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return &fault.Error{Class: fault.Contract, Op: "boot.connect", ID: name, Detail: "credentials are not the expected JSON object", Remedy: "see the platform's kit under infra/"}
	}
	return nil
}

// webhookOnly takes away what signs in to a platform's API: a function that is told no URL has no use for it, and a
// connector would ask for the URL.
func webhookOnly(credentials json.RawMessage) json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(credentials, &all) != nil {
		return credentials // the caller tells of it
	}
	for _, name := range []string{"clientId", "clientSecret", "certificateId", "privateKey", "username", "password", "audience", "email", "apiToken"} {
		delete(all, name)
	}
	less, err := json.Marshal(all)
	if err != nil {
		return credentials
	}
	return less
}

// sorrelsOwn lists the native objects of a platform whose records are Sorrel's alone: what people make there is nobody's business.
func sorrelsOwn(set *policy.Set, name string) []string {
	return slices.DeleteFunc(set.Objects(name), func(object string) bool {
		m, mapped := set.ByObject(name, object)
		rules := set.Rules(m.Entity)
		return !mapped || len(rules.Origins) > 0 || !slices.Contains(rules.Strangers, name)
	})
}

// nativeFields lists, per native object, the fields that the mappings read.
func nativeFields(set *policy.Set, name string) map[string][]string {
	out := map[string][]string{}
	for _, object := range set.Objects(name) {
		out[object] = set.NativeFields(name, object)
	}
	return out
}

// customFields calls each for every mapped native field of a platform that is the account's own, with the type
// that the contract gives it: what a connector must know of a field that only YAML declares.
func customFields(set *policy.Set, name string, own func(native string) bool, each func(object, native string, t contract.Type)) {
	for _, object := range set.Objects(name) {
		m, ok := set.ByObject(name, object)
		if !ok {
			continue
		}
		for _, f := range set.Contract(m.Entity).Fields() {
			if native, in, _ := m.Native(f.Name); in && own(native) && !strings.ContainsAny(native, ".[") {
				each(object, native, f.Type)
			}
		}
	}
}

// columns lists, per NetSuite object, the account's own fields with their kinds.
func columns(set *policy.Set) map[string][]string {
	kinds := map[contract.Type]string{contract.Number: ":number", contract.Money: ":number", contract.Bool: ":bool", contract.Date: ":date", contract.DateTime: ":time"}
	out := map[string][]string{}
	customFields(set, record.NetSuite, func(native string) bool { return strings.HasPrefix(native, "cust") }, func(object, native string, t contract.Type) {
		out[object] = append(out[object], native+kinds[t])
	})
	return out
}

// salesforceKinds lists, per Salesforce object, the kinds of custom fields that are no text.
func salesforceKinds(set *policy.Set) map[string]map[string]salesforce.Kind {
	kinds := map[contract.Type]salesforce.Kind{contract.Number: salesforce.Number, contract.Money: salesforce.Number, contract.Bool: salesforce.Bool,
		contract.Date: salesforce.Date, contract.DateTime: salesforce.Time}
	out := map[string]map[string]salesforce.Kind{}
	customFields(set, record.Salesforce, func(native string) bool { return strings.HasSuffix(native, "__c") }, func(object, native string, t contract.Type) {
		if k, special := kinds[t]; special {
			if out[object] == nil {
				out[object] = map[string]salesforce.Kind{}
			}
			out[object][native] = k
		}
	})
	return out
}

// customObjects lists the keys of the Zendesk custom objects that are mapped.
func customObjects(set *policy.Set) []string {
	out := []string{}
	for _, object := range set.Objects(record.Zendesk) {
		if key, ok := strings.CutPrefix(object, "custom_object/"); ok {
			out = append(out, key)
		}
	}
	return out
}

// Secrets is the secret: platform name → the connector's credentials as a JSON text, current and previous.
type Secrets interface {
	Secrets(ctx context.Context) (map[string][]string, error)
	Refresh(ctx context.Context) (changed bool, err error)
}

// connectSecret makes connectors from the secret. Each is replaced when a signature does not verify and the
// secret has changed since: a rotation takes effect without a deployment.
func connectSecret(ctx context.Context, s Secrets, urls map[string]string, set *policy.Set, w *World) (map[string]Connector, error) {
	out := map[string]Connector{}
	for _, name := range Platforms() {
		r := &rotating{name: name, url: urls[name], secrets: s, set: set, world: w}
		if err := r.renew(ctx); err != nil {
			return nil, err
		}
		if name == record.Salesforce {
			out[name] = rotatingEvents{r}
			continue
		}
		out[name] = r
	}
	return out, nil
}

// rotating is a connector whose credentials come from a secret.
type rotating struct {
	name, url string
	secrets   Secrets
	set       *policy.Set
	world     *World
	current   atomic.Pointer[Connector]
}

func (r *rotating) renew(ctx context.Context) error {
	values, err := r.secrets.Secrets(ctx)
	if err != nil {
		return err
	}
	merged, err := mergeSecrets(values[r.name])
	if err != nil {
		return &fault.Error{Class: fault.Contract, Op: "boot.secret", ID: r.name, Detail: err.Error(), Remedy: "put the connector's credentials, a JSON object as text, under the platform's name"}
	}
	c, err := connectOne(r.name, Endpoint{r.url, merged}, r.set, r.world)
	if err != nil {
		return err
	}
	r.current.Store(&c)
	return nil
}

// mergeSecrets takes the current credentials and adds the previous webhook secrets to theirs, so that what was
// signed before a rotation still verifies.
func mergeSecrets(values []string) (json.RawMessage, error) {
	if len(values) == 0 {
		return nil, errors.New("the secret has no such name")
	}
	var current map[string]json.RawMessage
	if err := json.Unmarshal([]byte(values[0]), &current); err != nil {
		return nil, errors.New("the value is not a JSON object")
	}
	for _, old := range values[1:] {
		var previous map[string]json.RawMessage
		if json.Unmarshal([]byte(old), &previous) != nil {
			continue // a broken previous version helps nobody
		}
		for _, list := range []string{"webhookSecrets", "webhookTokens"} {
			var now, before []string
			if json.Unmarshal(current[list], &now) != nil || json.Unmarshal(previous[list], &before) != nil {
				continue
			}
			joined, err := json.Marshal(append(now, before...))
			if err != nil {
				return nil, err
			}
			current[list] = joined
		}
	}
	return json.Marshal(current)
}

func (r *rotating) connector() Connector { return *r.current.Load() }

// retry runs call, and once more if it failed for a credential that has been rotated meanwhile.
func (r *rotating) retry(ctx context.Context, call func(Connector) error) error {
	err := call(r.connector())
	if !fault.Is(err, fault.Unauthenticated) {
		return err
	}
	if changed, _ := r.secrets.Refresh(ctx); !changed || r.renew(ctx) != nil {
		return err // the first refusal is the one that counts
	}
	return call(r.connector())
}

func (r *rotating) Declaration() platform.Declaration { return r.connector().Declaration() }

func (r *rotating) Limits() []budget.Limit { return r.connector().Limits() }

func (r *rotating) Webhook(ctx context.Context, q platform.Request) (d platform.Delivery, err error) {
	err = r.retry(ctx, func(c Connector) error { d, err = c.Webhook(ctx, q); return err })
	return d, err
}

func (r *rotating) Read(ctx context.Context, ref record.Ref) (n record.Native, err error) {
	err = r.retry(ctx, func(c Connector) error { n, err = c.Read(ctx, ref); return err })
	return n, err
}

func (r *rotating) Find(ctx context.Context, object, external string) (n record.Native, err error) {
	err = r.retry(ctx, func(c Connector) error { n, err = c.Find(ctx, object, external); return err })
	return n, err
}

func (r *rotating) Write(ctx context.Context, writes []platform.Write) (out []platform.Written) {
	_ = r.retry(ctx, func(c Connector) error { // each Written carries its own error
		out = c.Write(ctx, writes)
		for _, w := range out {
			if !fault.Is(w.Err, fault.Unauthenticated) {
				return nil
			}
		}
		return fault.New(fault.Unauthenticated, r.name+".write", "credential refused")
	})
	return out
}

func (r *rotating) Changes(ctx context.Context, object, cursor string) (p platform.Page, err error) {
	err = r.retry(ctx, func(c Connector) error { p, err = c.Changes(ctx, object, cursor); return err })
	return p, err
}

func (r *rotating) Census(ctx context.Context, object string, within []platform.Span, width time.Duration) (n []platform.Count, err error) {
	err = r.retry(ctx, func(c Connector) error { n, err = c.Census(ctx, object, within, width); return err })
	return n, err
}

func (r *rotating) Within(ctx context.Context, object string, within []platform.Span, cursor string) (p platform.Page, err error) {
	err = r.retry(ctx, func(c Connector) error { p, err = c.Within(ctx, object, within, cursor); return err })
	return p, err
}

func (r *rotating) Deleted(ctx context.Context, object string, since time.Time, cursor string) (p platform.Page, err error) {
	err = r.retry(ctx, func(c Connector) error { p, err = c.Deleted(ctx, object, since, cursor); return err })
	return p, err
}

func (r *rotating) Among(ctx context.Context, object string, ids []string) (n []record.Native, err error) {
	err = r.retry(ctx, func(c Connector) error { n, err = c.Among(ctx, object, ids); return err })
	return n, err
}

// rotatingEvents is a rotating connector that also takes events of an event bus.
type rotatingEvents struct{ *rotating }

func (r rotatingEvents) Event(ctx context.Context, event []byte, now time.Time) (platform.Delivery, error) {
	e, ok := r.connector().(interface {
		Event(context.Context, []byte, time.Time) (platform.Delivery, error)
	})
	if !ok {
		return platform.Delivery{}, fault.New(fault.NotFound, r.name+".event", "this connector takes no events")
	}
	return e.Event(ctx, event, now)
}
