package salesforce_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/platform/platformtest"
	"sorrel/shared/record"
	"sorrel/shared/salesforce"
	"sorrel/shared/salesforce/salesforcetwin"
)

// bus is where change events arrive.
func bus(t *testing.T, twin *salesforcetwin.Twin) func() [][]byte {
	t.Helper()
	var mu sync.Mutex
	var got [][]byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		got = append(got, body)
		mu.Unlock()
	}))
	t.Cleanup(s.Close)
	twin.SendEventsTo(s.URL)
	return func() [][]byte {
		t.Helper()
		if err := twin.Kit().Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		all := got
		got = nil
		return all
	}
}

// one decodes the only event that arrived.
func one(t *testing.T, c *salesforce.Connector, events [][]byte, now time.Time) platform.Delivery {
	t.Helper()
	if len(events) != 1 {
		t.Fatalf("%d events, want 1", len(events))
	}
	d, err := c.Event(t.Context(), events[0], now)
	if err != nil {
		t.Fatalf("%v\n%s", err, events[0])
	}
	return d
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]salesforcetwin.Options{
		"event relay": {}, "appflow": {AppFlow: true}, "epoch": {EpochDates: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := platformtest.NewClock()
			c, twin := start(t, clock.Now, opts, nil)
			events := bus(t, twin)
			read := func(object, id string) record.Native {
				t.Helper()
				n, err := c.Read(t.Context(), record.Ref{Platform: record.Salesforce, Object: object, ID: id})
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			customer := c.Write(t.Context(), []platform.Write{account("", "customer-1", map[string]any{"Name": "Folk och fä HB", "BillingCity": "Bräcke", "Phone": "1"})})[0]
			d := one(t, c, events(), clock.Now())
			n := d.Natives[0]
			if len(d.Natives) != 1 || n.ID != customer.ID || !n.Ours || n.Hint() || !n.Partial || n.External != "customer-1" || n.Born.IsZero() || n.Actor == "" {
				t.Fatalf("create: %+v", n)
			}
			id := edit(t, twin, "Order", "", map[string]any{"AccountId": customer.ID, "EffectiveDate": "2026-11-02", "Status": "Draft", "Sorrel_Id__c": "order-1",
				"ERP_Total__c": 440.5, "ERP_Requested_Ship_Date__c": "2026-11-30", "ShippingStreet": "Åkergatan 24", "ShippingCity": "Bräcke"})
			n = one(t, c, events(), clock.Now()).Natives[0]
			full := read("Order", id)
			if n.Ours || !n.Version.At.Equal(full.Version.At) {
				t.Errorf("order: %+v", n)
			}
			for f, v := range full.Fields { // one shape, however it came
				if _, parent := v.(map[string]any); parent || f == "Id" || f == "IsDeleted" || f == "SystemModstamp" {
					continue
				}
				if !reflect.DeepEqual(n.Fields[f], v) {
					t.Errorf("%s: event says %v, read says %v", f, n.Fields[f], v)
				}
			}
			clock.Advance(1500 * time.Millisecond)
			edit(t, twin, "Order", id, map[string]any{"ShippingCity": nil, "ERP_Freight__c": 12})
			u := one(t, c, events(), clock.Now()).Natives[0]
			want := []string{"ERP_Freight__c", "LastModifiedDate", "ShippingCity"}
			if got := slices.Sorted(maps.Keys(u.Fields)); !slices.Equal(got, want) || u.Fields["ShippingCity"] != nil {
				t.Errorf("update says %v", u.Fields)
			}
			if u.Version.Compare(n.Version) <= 0 || !u.Version.At.Equal(read("Order", id).Version.At) {
				t.Errorf("versions %+v then %+v, read %+v", n.Version, u.Version, read("Order", id).Version)
			}
			edit(t, twin, "Order", id, map[string]any{"ERP_Freight__c": 13})
			if v := one(t, c, events(), clock.Now()).Natives[0].Version; v.Compare(u.Version) <= 0 || !v.At.Equal(u.Version.At) {
				t.Errorf("two changes of one second: %+v then %+v", u.Version, v)
			}
			clock.Advance(5 * time.Second)
			if late := read("Order", id).Version; !late.Final || late.Compare(u.Version) <= 0 {
				t.Errorf("a final read beats the events of its second: %+v", late)
			}
			if err := twin.Delete("Order", id); err != nil {
				t.Fatal(err)
			}
			gone := one(t, c, events(), clock.Now()).Natives[0]
			if !gone.Gone || gone.Hint() {
				t.Errorf("delete: %+v", gone)
			}
			clock.Advance(time.Second)
			if err := twin.Undelete("Order", id); err != nil {
				t.Fatal(err)
			}
			if back := one(t, c, events(), clock.Now()).Natives[0]; back.Gone || !back.Born.After(gone.Version.At) || back.Fields["ERP_Total__c"] == nil {
				t.Errorf("undelete: %+v", back)
			}
		})
	}
}

func TestEventsOfManyRecords(t *testing.T) {
	t.Parallel()
	var missed []salesforce.Missed
	c, twin := start(t, time.Now, salesforcetwin.Options{}, func(cfg *salesforce.Config) {
		cfg.Missed = func(m salesforce.Missed) { missed = append(missed, m) }
	})
	out := c.Write(t.Context(), []platform.Write{account("", "customer-1", nil), account("", "customer-2", nil)})
	events := bus(t, twin)
	same := map[string]any{"Phone": "030-0074321"}
	c.Write(t.Context(), []platform.Write{account(out[0].ID, "customer-1", same), account(out[1].ID, "customer-2", same)})
	d := one(t, c, events(), time.Now())
	if len(d.Natives) != 2 || d.Natives[0].ID != out[0].ID || d.Natives[1].ID != out[1].ID || d.Natives[1].Fields["Phone"] != "030-0074321" {
		t.Errorf("one change of two records: %+v", d)
	}
	gap := func(kind string, ids ...string) platform.Delivery {
		t.Helper()
		if err := twin.Gap("Account", kind, ids...); err != nil {
			t.Fatal(err)
		}
		return one(t, c, events(), time.Now())
	}
	for _, kind := range []string{"GAP_CREATE", "GAP_UPDATE", "GAP_DELETE", "GAP_UNDELETE"} {
		if d := gap(kind, out[0].ID); len(d.Natives) != 1 || !d.Natives[0].Hint() || d.Natives[0].ID != out[0].ID {
			t.Errorf("%s: %+v", kind, d)
		}
	}
	if d := gap("GAP_OVERFLOW"); len(d.Natives) != 0 || d.ID == "" {
		t.Errorf("overflow: %+v", d)
	}
	if d := gap("UPDATE", "001*", out[1].ID); len(d.Natives) != 1 || d.Natives[0].ID != out[1].ID {
		t.Errorf("wildcard: %+v", d)
	}
	if len(missed) != 2 || missed[0].Reason != "overflow" || missed[1].Reason != "wildcard" || missed[1].Object != "Account" {
		t.Errorf("missed: %+v", missed)
	}
}

// event is an Event Relay event with the given header and body.
func event(header, body string) []byte {
	return []byte(`{"id":"e-1","detail-type":"AccountChangeEvent","source":"aws.partner/salesforce.com/00Dxx0000001gEREAY/0YLxx0000000001GAA","detail":{"payload":{"ChangeEventHeader":{` +
		header + `}` + body + `},"replayId":42}}`)
}

const updated = `"entityName":"Account","recordIds":["001xx000003DGb2"],"changeType":"UPDATE","transactionKey":"k","sequenceNumber":1,"commitTimestamp":1793607320900,"commitNumber":7`

func TestEventDetails(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1793607321000)
	c, _ := start(t, func() time.Time { return now }, salesforcetwin.Options{}, nil)
	decode := func(header, body string) record.Native {
		t.Helper()
		d, err := c.Event(t.Context(), event(header, body), now)
		if err != nil {
			t.Fatal(err)
		}
		return d.Natives[0]
	}
	for _, test := range []struct {
		name, header, body string
		want               map[string]any
	}{
		{"nulls that did not change", updated + `,"changedFields":["Phone"]`, `,"Phone":"1","Fax":null,"Name":"enriched"`, map[string]any{"Phone": "1"}},
		{"no list of changes", updated, `,"Phone":"1","Fax":null`, map[string]any{"Phone": "1"}},
		{"bit masks", updated + `,"changedFields":["0x400"],"nulledFields":["0x2"]`, `,"Phone":"1"`, map[string]any{"Phone": "1"}},
		{"cleared", updated + `,"nulledFields":["Fax","BillingAddress.City","Place__c.Latitude"],"changedFields":["Fax"]`, `,"Fax":null`,
			map[string]any{"Fax": nil, "BillingCity": nil, "Place__Latitude__s": nil}},
		{"whole address cleared", updated + `,"nulledFields":["ShippingAddress"]`, ``,
			map[string]any{"ShippingStreet": nil, "ShippingCity": nil, "ShippingState": nil, "ShippingPostalCode": nil, "ShippingCountry": nil}},
		{"name parts", updated, `,"Name":{"LastName":"Moos"},"NumberOfEmployees":12`, map[string]any{"LastName": "Moos", "NumberOfEmployees": json.Number("12")}},
	} {
		n := decode(test.header, test.body)
		if !reflect.DeepEqual(n.Fields, test.want) || n.ID != "001xx000003DGb2AAG" || !n.Partial {
			t.Errorf("%s: %+v, want %v", test.name, n, test.want)
		}
	}
	if n := decode(updated+`,"changeOrigin":"com/salesforce/api/rest/66.0;client=SorrelX"`, `,"Phone":"1"`); n.Ours {
		t.Error("another client is taken for ours")
	}
	if n := decode(updated+`,"changeOrigin":"com/salesforce/api/rest/66.0;client=Sorrel"`, `,"Phone":"1"`); !n.Ours {
		t.Error("our own client is not recognised")
	}
	for name, header := range map[string]string{
		"text difference": updated + `,"diffFields":["Description"]`,
		"far future":      strings.Replace(updated, "1793607320900", "1893607320900", 1),
		"odd number":      strings.Replace(updated, `"commitNumber":7`, `"commitNumber":-7`, 1),
	} {
		if n := decode(header, `,"Phone":"1"`); !n.Hint() {
			t.Errorf("%s must be a hint: %+v", name, n)
		}
	}
	// The save was in an earlier second than the commit: the event has the save's, as a read has.
	commit := time.Unix(1793607320, 0).UTC()
	for said, want := range map[string]time.Time{
		commit.Add(-2 * time.Second).Format(time.RFC3339): commit.Add(-2 * time.Second),
		commit.Add(2 * time.Second).Format(time.RFC3339):  commit, // cannot be
		commit.Add(-time.Hour).Format(time.RFC3339):       commit, // set by hand
		"soon": commit,
	} {
		if n := decode(updated, `,"LastModifiedDate":"`+said+`"`); n.Version != (record.Version{At: want, Seq: 7<<10 + 1}) {
			t.Errorf("modified %s: version %v", said, n.Version)
		}
	}
	for name, test := range map[string]struct {
		body  []byte
		class fault.Class
		says  string
	}{
		"other org":      {bytes.ReplaceAll(event(updated, ""), []byte("00Dxx0000001gER"), []byte("00Dxx0000001gES")), fault.Unauthenticated, "source"},
		"own bus":        {bytes.ReplaceAll(event(updated, ""), []byte("aws.partner/"), []byte("custom/")), fault.Unauthenticated, "source"},
		"broken":         {[]byte(`{"id":`), fault.Malformed, ""},
		"deep":           {event(updated, `,"X":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)), fault.Malformed, "deeper"},
		"platform event": {[]byte(`{"source":"aws.partner/salesforce.com/00Dxx0000001gEREAY/x","detail-type":"Order_Event__e","detail":{"payload":{}}}`), fault.NotFound, "Order_Event__e"},
		"no object":      {event(strings.Replace(updated, `"Account"`, `""`, 1), ""), fault.Contract, "entityName"},
		"other object":   {event(strings.Replace(updated, `"Account"`, `"Lead"`, 1), ""), fault.NotFound, "Lead"},
		"no type":        {event(strings.Replace(updated, `"UPDATE"`, `""`, 1), ""), fault.Contract, "changeType"},
		"other type":     {event(strings.Replace(updated, `"UPDATE"`, `"MERGE"`, 1), ""), fault.NotFound, "MERGE"},
		"no ids":         {event(strings.Replace(updated, `"001xx000003DGb2"`, ``, 1), ""), fault.Contract, "recordIds"},
		"bad id":         {event(strings.Replace(updated, `001xx000003DGb2`, `001/..`, 1), ""), fault.Contract, "recordIds"},
		"no time":        {event(strings.Replace(updated, `1793607320900`, `0`, 1), ""), fault.Contract, "commitTimestamp"},
		"wrong kinds":    {event(strings.Replace(updated, `1793607320900`, `"soon"`, 1), ""), fault.Malformed, ""},
	} {
		_, err := c.Event(t.Context(), test.body, now)
		if !fault.Is(err, test.class) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %s naming %q", name, err, test.class, test.says)
		}
	}
}

func message(fields string) platform.Request {
	return platform.Request{Query: url.Values{"token": {"outbound-message-token"}}, ContentType: "text/xml; charset=UTF-8", Now: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC),
		Body: []byte(`<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
<notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>00Dxx0000001gEREAY</OrganizationId><Notification><Id>04lxx0000000009AAA</Id>
<sObject xsi:type="sf:Account" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">` + fields + `</sObject></Notification></notifications></soapenv:Body></soapenv:Envelope>`)}
}

func TestOutboundMessage(t *testing.T) {
	t.Parallel()
	c, _ := start(t, time.Now, salesforcetwin.Options{}, func(cfg *salesforce.Config) {
		cfg.Credentials.WebhookTokens = []string{"the-new-secret-token", "outbound-message-token"}
	})
	const id = `<sf:Id>001xx000003DGb2AAG</sf:Id>`
	d, err := c.Webhook(t.Context(), message(id+`<sf:Name>Müller &amp; Söhne</sf:Name><sf:Fax xsi:nil="true"/><sf:AnnualRevenue>3.5E8</sf:AnnualRevenue><sf:SystemModstamp>2026-11-02T07:59:58.000Z</sf:SystemModstamp><sf:Sorrel_Id__c>customer-1</sf:Sorrel_Id__c>`))
	if err != nil {
		t.Fatal(err)
	}
	n := d.Natives[0]
	if d.ID != "04lxx0000000009AAA" || n.Hint() || !n.Partial || n.External != "customer-1" || n.Fields["Name"] != "Müller & Söhne" ||
		n.Version != (record.Version{At: time.Date(2026, 11, 2, 7, 59, 58, 0, time.UTC)}) {
		t.Errorf("%+v", d)
	}
	if v, said := n.Fields["Fax"]; !said || v != nil {
		t.Error("a nil element is a cleared field")
	}
	if n.Fields["SystemModstamp"] != "2026-11-02T07:59:58.000+0000" || n.Fields["AnnualRevenue"] != json.Number("3.5E8") {
		t.Errorf("%v", n.Fields)
	}
	const ack = `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body><notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse></soapenv:Body></soapenv:Envelope>`
	if d.Ack.Status != 200 || !strings.HasPrefix(d.Ack.ContentType, "text/xml") || string(d.Ack.Body) != ack {
		t.Errorf("acknowledgement %+v", d.Ack)
	}
	for name, fields := range map[string]string{"no version": id + "<sf:Name>A</sf:Name>", "future version": id + "<sf:SystemModstamp>2026-11-03T08:00:00.000Z</sf:SystemModstamp>"} {
		if d, err := c.Webhook(t.Context(), message(fields)); err != nil || !d.Natives[0].Hint() || d.Natives[0].Fields != nil {
			t.Errorf("%s must be a hint: %+v %v", name, d, err)
		}
	}
	bad := func(change func(*platform.Request)) platform.Request {
		r := message(id)
		change(&r)
		return r
	}
	replace := func(old, new string) platform.Request {
		return bad(func(r *platform.Request) { r.Body = bytes.Replace(r.Body, []byte(old), []byte(new), 1) })
	}
	for name, test := range map[string]struct {
		r     platform.Request
		class fault.Class
		says  string
	}{
		"no token":        {bad(func(r *platform.Request) { r.Query = nil }), fault.Unauthenticated, "missing"},
		"bad token":       {bad(func(r *platform.Request) { r.Query = url.Values{"token": {"outbound-message-tokem"}} }), fault.Unauthenticated, "bad token"},
		"other org":       {replace("00Dxx0000001gEREAY", "00Dxx0000001gESEAY"), fault.Unauthenticated, "OrganizationId"},
		"no org":          {replace("<OrganizationId>00Dxx0000001gEREAY</OrganizationId>", ""), fault.Unauthenticated, "OrganizationId"},
		"json":            {bad(func(r *platform.Request) { r.ContentType = "application/json" }), fault.Malformed, "application/json"},
		"latin-1":         {bad(func(r *platform.Request) { r.ContentType = "text/xml; charset=iso-8859-1" }), fault.Malformed, "iso-8859-1"},
		"cut off":         {bad(func(r *platform.Request) { r.Body = r.Body[:len(r.Body)-30] }), fault.Malformed, ""},
		"two roots":       {bad(func(r *platform.Request) { r.Body = append(r.Body, "<a/>"...) }), fault.Malformed, "root"},
		"deep":            {replace(id, strings.Repeat("<a>", 70)+strings.Repeat("</a>", 70)), fault.Malformed, "deeper"},
		"document type":   {replace("?><soapenv", `?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><soapenv`), fault.Malformed, "document type"},
		"unknown entity":  {replace(id, "&e;"), fault.Malformed, ""},
		"other message":   {replace("<notifications", "<somethings"), fault.Malformed, ""},
		"other SOAP":      {bad(func(r *platform.Request) { r.Body = []byte(`<Envelope><Body/></Envelope>`) }), fault.NotFound, "Envelope"},
		"no record id":    {replace(id, "<sf:Name>A</sf:Name>"), fault.Contract, "Id"},
		"no notification": {replace("04lxx0000000009AAA", " "), fault.Contract, "Notification"},
		"other object":    {replace("sf:Account", "sf:Lead"), fault.NotFound, "Lead"},
	} {
		_, err := c.Webhook(t.Context(), test.r)
		if !fault.Is(err, test.class) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %s naming %q", name, err, test.class, test.says)
		}
		if err != nil && strings.Contains(err.Error(), "outbound-message-tok") {
			t.Errorf("%s: the token is in the error", name)
		}
	}
}

// The twin repeats a message until the acknowledgement is the one that the connector gives.
func TestMessagesAreRepeatedUntilAcknowledged(t *testing.T) {
	t.Parallel()
	c, twin := start(t, time.Now, salesforcetwin.Options{RetryBase: time.Millisecond}, nil)
	var mu sync.Mutex
	var ids, phones []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		d, err := c.Webhook(r.Context(), platform.Request{Header: r.Header, Query: r.URL.Query(), ContentType: r.Header.Get("Content-Type"), Body: body, Now: time.Now()})
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, d.ID)
		phone, _ := d.Natives[0].Fields["Phone"].(string)
		phones = append(phones, phone)
		switch len(ids) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2: // a plain 200 is no acknowledgement
		case 3:
			_, _ = w.Write(bytes.Replace(d.Ack.Body, []byte("true"), []byte("false"), 1))
		default:
			w.Header().Set("Content-Type", d.Ack.ContentType)
			_, _ = w.Write(d.Ack.Body)
		}
	}))
	defer s.Close()
	twin.Kit().SendTo(s.URL + "/webhooks/salesforce")
	edit(t, twin, "Account", "", map[string]any{"Name": "A", "Phone": "1"})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := twin.Kit().Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if want := []string{ids[0], ids[0], ids[0], ids[0]}; !slices.Equal(ids, want) {
		t.Errorf("deliveries %v", ids)
	}
	if !slices.Equal(phones, []string{"1", "1", "1", "1"}) {
		t.Errorf("values %v", phones)
	}
}

func FuzzWebhook(f *testing.F) {
	c, err := salesforce.New(salesforce.Config{Now: time.Now, Credentials: salesforce.Credentials{OrgID: "00Dxx0000001gEREAY", WebhookTokens: []string{"outbound-message-token"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message(`<sf:Id>001xx000003DGb2AAG</sf:Id><sf:SystemModstamp>2026-11-02T07:59:58.000Z</sf:SystemModstamp>`).Body)
	f.Add([]byte(`<!DOCTYPE a><a/>`))
	f.Add([]byte(`<a b="c">&lt;</a>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := message("")
		r.Body = body
		check(t, r.Now, func() (platform.Delivery, error) { return c.Webhook(t.Context(), r) })
	})
}

func FuzzEvent(f *testing.F) {
	c, err := salesforce.New(salesforce.Config{Now: time.Now, Credentials: salesforce.Credentials{OrgID: "00Dxx0000001gEREAY"}})
	if err != nil {
		f.Fatal(err)
	}
	now := time.UnixMilli(1793607321000)
	f.Add(event(updated, `,"BillingAddress":{"City":"x"},"LastModifiedDate":1793607320000`))
	f.Add(event(updated+`,"nulledFields":["A.B","C"],"changedFields":["0x1"]`, ""))
	f.Add([]byte(`{"source":"aws.partner/salesforce.com/00Dxx0000001gEREAY/","detail":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		check(t, now, func() (platform.Delivery, error) { return c.Event(t.Context(), body, now) })
	})
}

// check demands of any input a classified error or sound natives.
func check(t *testing.T, now time.Time, decode func() (platform.Delivery, error)) {
	t.Helper()
	d, err := decode()
	if err != nil {
		if fault.Is(err, fault.Internal) {
			t.Errorf("unclassified: %v", err)
		}
		return
	}
	for _, n := range d.Natives {
		if len(n.ID) != 18 || n.Object == "" || n.Version.At.After(now.Add(6*time.Minute)) {
			t.Errorf("native %+v", n)
		}
	}
}

// One call that saves 150 records leaves as two messages, of 100 and 50.
func TestMessagesHoldAHundred(t *testing.T) {
	t.Parallel()
	c, twin := start(t, time.Now, salesforcetwin.Options{RetryBase: time.Millisecond}, nil)
	var mu sync.Mutex
	var sizes []int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		d, err := c.Webhook(r.Context(), platform.Request{Query: r.URL.Query(), ContentType: r.Header.Get("Content-Type"), Body: body, Now: time.Now()})
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		sizes = append(sizes, len(d.Natives))
		mu.Unlock()
		w.Header().Set("Content-Type", d.Ack.ContentType)
		_, _ = w.Write(d.Ack.Body)
	}))
	defer s.Close()
	twin.Kit().SendTo(s.URL)
	var writes []platform.Write
	for i := range 150 {
		writes = append(writes, account("", fmt.Sprint("customer-", i), nil))
	}
	for _, w := range c.Write(t.Context(), writes) {
		if w.Err != nil {
			t.Fatal(w.Err)
		}
	}
	if err := twin.Kit().Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.Sort(sizes); !slices.Equal(sizes, []int{50, 100}) {
		t.Errorf("messages of %v", sizes)
	}
}
