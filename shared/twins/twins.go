// Package twins boots the vendors' stand-ins on loopback ports and tells a Sorrel process how to reach them: for
// the demo, `sorrel twins`, `sorrel dev`, benchmarks and tests. It is the only package that knows all of them.
package twins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/fault"
	"sorrel/shared/netsuite"
	"sorrel/shared/netsuite/netsuitetwin"
	"sorrel/shared/record"
	"sorrel/shared/salesforce/salesforcetwin"
	"sorrel/shared/servicenow/servicenowtwin"
	"sorrel/shared/twin"
	"sorrel/shared/zendesk"
	"sorrel/shared/zendesk/zendesktwin"
)

// Options of the twins.
type Options struct {
	BasePort int // netsuite here, salesforce +1, zendesk +2, servicenow +3; 0 = free ports
	Now      func() time.Time
	Clocks   map[string]func() time.Time // by platform, instead of Now: clocks of several vendors differ
	Seed     uint64
	First    int64 // native ids begin after it: twins that start anew beside an old store must not repeat ids
	// Roomy lifts the limits that a load would meet at once (Zendesk's per-minute and per-record budgets), and
	// shows Zendesk's exports and searches without their lag.
	Roomy bool
	// Normalise is what an account makes of a value that anybody saves there; see the twins' own options. ServiceNow's
	// has business rules for that: servicenowtwin's AddRule.
	Normalise func(platform, object, field string, value any) any
	Push      map[string]salesforcetwin.Push // how changes leave Salesforce; see salesforcetwin.Options
	// Watch stands before each twin and sees every request; nil = nobody does.
	Watch func(platform string, twin http.Handler) http.Handler
}

func (o Options) clock(platform string) func() time.Time {
	if c := o.Clocks[platform]; c != nil {
		return c
	}
	return o.Now
}

func (o Options) normalise(platform string) func(object, field string, value any) any {
	if o.Normalise == nil {
		return nil
	}
	return func(object, field string, value any) any { return o.Normalise(platform, object, field, value) }
}

// Twins are running twins.
type Twins struct {
	NetSuite   *netsuitetwin.Twin
	Salesforce *salesforcetwin.Twin
	Zendesk    *zendesktwin.Twin
	ServiceNow *servicenowtwin.Twin

	handlers  map[string]http.Handler
	servers   []*http.Server
	endpoints map[string]boot.Endpoint
}

// Start boots all twins on ports of this machine.
func Start(o Options) (*Twins, error) {
	t, err := New(o)
	if err != nil {
		return nil, err
	}
	for i, name := range boot.Platforms() {
		port := 0
		if o.BasePort > 0 {
			port = o.BasePort + i
		}
		if err := t.listen(name, port, o.Watch); err != nil {
			return nil, errors.Join(err, t.Close(context.Background()))
		}
	}
	return t, nil
}

// New makes all twins without ports, for a caller that calls their Handlers by itself; the addresses in Endpoints lead
// nowhere else.
func New(o Options) (*Twins, error) {
	t := &Twins{endpoints: map[string]boot.Endpoint{}, handlers: map[string]http.Handler{}}
	var err error
	if t.NetSuite, err = netsuitetwin.New(netsuitetwin.Options{Now: o.clock(record.NetSuite), Seed: o.Seed, First: o.First, Normalise: o.normalise(record.NetSuite)}); err != nil {
		return nil, err
	}
	t.Salesforce = salesforcetwin.New(salesforcetwin.Options{Now: o.clock(record.Salesforce), Seed: o.Seed, First: int(o.First), Push: o.Push, Normalise: o.normalise(record.Salesforce)})
	z := zendesktwin.Options{Now: o.clock(record.Zendesk), Seed: o.Seed, First: o.First, Normalise: o.normalise(record.Zendesk)}
	desk := struct {
		zendesk.Credentials
		Limits map[string]int `json:"limits,omitempty"` // what Sorrel keeps to
	}{}
	if o.Roomy {
		z.Limits, z.ExportLag, z.SearchLag = zendesktwin.NoLimits(), time.Nanosecond, time.Nanosecond
		desk.Limits = map[string]int{}
		for _, l := range zendesk.Limits() {
			desk.Limits[l.Name] = 1_000_000
		}
	}
	t.Zendesk = zendesktwin.New(z)
	desk.Credentials = t.Zendesk.Credentials()
	t.ServiceNow = servicenowtwin.New(servicenowtwin.Options{Now: o.clock(record.ServiceNow), Seed: o.Seed, First: o.First})
	account := struct {
		netsuite.Credentials
		IntegrationUser string `json:"integrationUser"`
	}{t.NetSuite.Credentials(), netsuitetwin.IntegrationUser}
	for _, p := range []struct {
		name        string
		handler     http.Handler
		credentials any
	}{
		{record.NetSuite, t.NetSuite.Handler(), account},
		{record.Salesforce, t.Salesforce.Handler(), t.Salesforce.Credentials()},
		{record.Zendesk, t.Zendesk.Handler(), desk},
		{record.ServiceNow, t.ServiceNow.Handler(), t.ServiceNow.Credentials()},
	} {
		secret, err := json.Marshal(p.credentials)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "twins", p.name, err)
		}
		t.handlers[p.name] = p.handler
		t.endpoints[p.name] = boot.Endpoint{URL: "http://localhost", Credentials: secret}
	}
	return t, nil
}

// Handlers serve the platforms' APIs, and what is under /_twin/.
func (t *Twins) Handlers() map[string]http.Handler { return t.handlers }

func (t *Twins) listen(name string, port int, watch func(string, http.Handler) http.Handler) error {
	h := t.handlers[name]
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return &fault.Error{Class: fault.Down, Op: "twins.listen", ID: name, Err: err, Remedy: "choose other ports with --base-port"}
	}
	if watch != nil {
		h = watch(name, h)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	t.servers = append(t.servers, s)
	t.endpoints[name] = boot.Endpoint{URL: "http://" + l.Addr().String(), Credentials: t.endpoints[name].Credentials}
	go func() { _ = s.Serve(l) }() // ends with Close
	return nil
}

// Endpoints say how to reach the twins, credentials included: they are worth nothing elsewhere.
func (t *Twins) Endpoints() map[string]boot.Endpoint { return t.endpoints }

// Kits gives each twin's shared part.
func (t *Twins) Kits() map[string]*twin.Kit {
	return map[string]*twin.Kit{record.NetSuite: t.NetSuite.Kit(), record.Salesforce: t.Salesforce.Kit(), record.Zendesk: t.Zendesk.Kit(), record.ServiceNow: t.ServiceNow.Kit()}
}

// SendTo points the twins' webhooks and events at a local host; an empty address stops them.
func (t *Twins) SendTo(host string) {
	if host == "" {
		for _, k := range t.Kits() {
			k.SendTo("")
		}
		t.Salesforce.SendEventsTo("")
		return
	}
	token := ""
	if tokens := t.Salesforce.Credentials().WebhookTokens; len(tokens) > 0 {
		token = url.QueryEscape(tokens[0])
	}
	t.NetSuite.Kit().SendTo(host + "/webhooks/netsuite")
	t.Salesforce.Kit().SendTo(host + "/webhooks/salesforce?token=" + token)
	t.Salesforce.SendEventsTo(host + "/_local/events")
	t.Zendesk.Kit().SendTo(host + "/webhooks/zendesk")
	t.ServiceNow.Kit().SendTo(host + "/webhooks/servicenow")
}

// Drain waits until no webhook is under way.
func (t *Twins) Drain(ctx context.Context) error {
	var errs []error
	for _, k := range t.Kits() {
		errs = append(errs, k.Drain(ctx))
	}
	return errors.Join(errs...)
}

// Close stops the twins.
func (t *Twins) Close(ctx context.Context) error {
	var errs []error
	for _, s := range t.servers {
		errs = append(errs, s.Shutdown(ctx))
	}
	return errors.Join(errs...)
}
