package salesforcetwin

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sorrel/shared/twin"
)

// done commits x: what it changed leaves the org.
func (t *Twin) done(x *tx) {
	if len(x.changes) == 0 {
		return
	}
	t.commit += int64(1 + t.rng.IntN(50)) // rises, with gaps
	tell := map[*object][]string{}
	var order []*object
	for _, c := range x.changes {
		c.r.o.compact()
		if t.push(c.r.o).Message && !c.quiet && (c.kind == "CREATE" || c.kind == "UPDATE") {
			if tell[c.r.o] == nil {
				order = append(order, c.r.o)
			}
			if !slices.Contains(tell[c.r.o], c.r.id[:15]) {
				tell[c.r.o] = append(tell[c.r.o], c.r.id[:15])
			}
		}
	}
	for _, o := range order {
		for ids := range slices.Chunk(tell[o], 100) {
			t.sendMessage(o, ids)
		}
	}
	if t.events != "" {
		t.sendEvents(x)
	}
}

func (t *Twin) push(o *object) Push {
	if p, ok := t.opts.Push[o.name]; ok {
		return p
	}
	if o.name == "Pricebook2" { // the kit's channel has no member for it
		return Push{}
	}
	return Push{Events: true, Message: slices.Contains([]string{"Account", "Contact", "Opportunity"}, o.name)}
}

// sendEvents makes the change events of a transaction. Records that changed alike share one event.
func (t *Twin) sendEvents(x *tx) {
	type alike struct {
		change
		ids []string
	}
	var events []*alike
	same := map[string]*alike{}
	for _, c := range x.changes {
		if !t.push(c.r.o).Events {
			continue
		}
		said, err := json.Marshal([]any{c.r.o.name, c.kind, c.fields, c.values})
		if err != nil {
			continue // not reachable: values are text, numbers and bools
		}
		if e := same[string(said)]; e != nil && !slices.Contains(e.ids, c.r.id) {
			e.ids = append(e.ids, c.r.id)
			continue
		}
		e := &alike{c, []string{c.r.id}}
		same[string(said)] = e
		events = append(events, e)
	}
	key := t.uuid()
	for i, e := range events {
		h := t.header(e.r.o.name, e.kind, e.ids, x.origin, x.user)
		h["transactionKey"], h["sequenceNumber"] = key, i+1
		t.sendEvent(e.r.o.name, h, t.body(e.change, x, h))
	}
}

func (t *Twin) header(object, kind string, ids []string, origin, user string) map[string]any {
	return map[string]any{
		"entityName": object, "recordIds": ids, "changeType": kind, "changeOrigin": origin, "transactionKey": t.uuid(), "sequenceNumber": 1,
		"commitTimestamp": t.latest.UnixMilli(), "commitNumber": t.commit, "commitUser": user,
		"nulledFields": []string{}, "diffFields": []string{}, "changedFields": []string{},
	}
}

func (t *Twin) uuid() string {
	return fmt.Sprintf("%08x-%04x-4%03x-9%03x-%012x", t.rng.Uint32(), t.rng.IntN(1<<16), t.rng.IntN(1<<12), t.rng.IntN(1<<12), t.rng.Int64N(1<<48))
}

// body is the event's fields: all of a new record, only the changed ones of an updated one. Parts of an
// address or of a person's name are nested under its compound name.
func (t *Twin) body(c change, x *tx, h map[string]any) map[string]any {
	body := map[string]any{}
	if c.kind == "DELETE" {
		return body
	}
	var changed, nulled []string
	put := func(name string, v any) {
		f := c.r.o.field(name)
		if f.Type == typeDatetime && v != nil || f.Type == typeDate && v != nil && t.opts.EpochDates {
			v = t.eventTime(f, v)
		}
		path := name
		if compound, part, ok := compoundPart(c.r.o, name); ok {
			path = compound + "." + part
			nested, _ := body[compound].(map[string]any)
			if nested == nil {
				nested = map[string]any{}
				body[compound] = nested
			}
			nested[part] = v
		} else {
			body[name] = v
		}
		changed = append(changed, path)
		if v == nil {
			nulled = append(nulled, path)
		}
	}
	for _, name := range c.fields {
		put(name, c.values[name])
	}
	if c.kind == "UPDATE" {
		put("LastModifiedDate", x.at.Format(restTime))
		h["changedFields"], h["nulledFields"] = changed, append([]string{}, nulled...)
	}
	return body
}

func (t *Twin) eventTime(f *Field, v any) any {
	s, _ := v.(string)
	layout := restTime
	if f.Type == typeDate {
		layout = time.DateOnly
	}
	at, err := time.Parse(layout, s)
	if err != nil {
		return v
	}
	if t.opts.EpochDates {
		return at.UnixMilli()
	}
	return at.UTC().Format("2006-01-02T15:04:05.000Z")
}

func compoundPart(o *object, name string) (compound, part string, ok bool) {
	if f := o.field("Name"); f != nil && f.Compound && slices.Contains([]string{"Salutation", "FirstName", "LastName"}, name) {
		return "Name", name, true
	}
	for _, prefix := range []string{"Billing", "Shipping", "Mailing", "Other"} {
		if part, ok := strings.CutPrefix(name, prefix); ok && slices.Contains([]string{"Street", "City", "State", "PostalCode", "Country"}, part) {
			return prefix + "Address", part, true
		}
	}
	return "", "", false
}

// sendEvent posts one change event as EventBridge would deliver it, until it is taken.
func (t *Twin) sendEvent(object string, header, body map[string]any) {
	t.replay++
	body["ChangeEventHeader"] = header
	var detail any = body
	if !t.opts.AppFlow {
		detail = map[string]any{"payload": body, "schemaId": "kR3aGmsv4V1Jnq8sLwYp0w", "replayId": fmt.Sprint(t.replay)}
	}
	event, err := json.Marshal(map[string]any{
		"version": "0", "id": t.uuid(), "detail-type": strings.TrimSuffix(object, "c") + "ChangeEvent", "source": "aws.partner/salesforce.com/" + t.opts.OrgID + "/0YLxx0000000001GAA",
		"account": "123456789012", "time": t.latest.Format(time.RFC3339), "region": "eu-central-1", "resources": []string{}, "detail": detail,
	})
	if err != nil {
		return // not reachable: see sendEvents
	}
	t.kit.Push(twin.Webhook{
		To: func() string { t.mu.Lock(); defer t.mu.Unlock(); return t.events },
		Request: func(to string) (*http.Request, error) {
			req, err := http.NewRequest(http.MethodPost, to, bytes.NewReader(event))
			if err == nil {
				req.Header.Set("Content-Type", "application/json")
			}
			return req, err
		},
		After: func(attempt, status int, _ []byte) (time.Duration, bool) {
			return t.again(attempt, status/100 == 2)
		},
	})
}

// Gap sends an event that tells of changes without their values (GAP_UPDATE, …, GAP_OVERFLOW), or one of any
// other type about the given ids, which may be such as 001*.
func (t *Twin) Gap(name, kind string, ids ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.objects[strings.ToLower(name)]
	if o == nil {
		return fmt.Errorf("salesforcetwin: no object %q", name)
	}
	if kind == "GAP_OVERFLOW" && len(ids) == 0 {
		ids = []string{"000000000000000AAA"}
	}
	t.begin("", Person)
	t.commit++
	if t.events != "" {
		t.sendEvent(o.name, t.header(o.name, kind, ids, "", Person), map[string]any{})
	}
	return nil
}

// again is the schedule of repeats: exponential, at most 2 hours apart, given up after 24 hours.
// https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging_notifications.htm
func (t *Twin) again(attempt int, taken bool) (time.Duration, bool) {
	const most, end = 2 * time.Hour, 24 * time.Hour
	var total, wait time.Duration
	for i := range attempt {
		wait = min(t.opts.RetryBase<<min(i, 30), most)
		total += wait
	}
	return wait, !taken && total < end
}

var errEmpty = errors.New("no record of the message is left")

// sendMessage posts one Outbound Message about records of an object. Values are those at the moment of
// sending; empty fields are left out.
func (t *Twin) sendMessage(o *object, ids []string) {
	notifications := make([]string, len(ids))
	for i := range ids {
		t.serial++
		notifications[i] = fullID("04l", t.serial)
	}
	var empty atomic.Bool // sends of one message may run side by side
	t.kit.Push(twin.Webhook{
		Request: func(to string) (*http.Request, error) {
			body, err := t.message(o, ids, notifications)
			if err != nil {
				empty.Store(errors.Is(err, errEmpty))
				return nil, err
			}
			u, err := url.Parse(to)
			if err != nil {
				return nil, err
			}
			if q := u.Query(); !q.Has("token") {
				q.Set("token", t.opts.Token)
				u.RawQuery = q.Encode()
			}
			req, err := http.NewRequest(http.MethodPost, u.String(), bytes.NewReader(body))
			if err != nil {
				return nil, err
			}
			req.Header.Set("Content-Type", "text/xml; charset=UTF-8")
			req.Header.Set("SOAPAction", `""`)
			return req, nil
		},
		After: func(attempt, status int, body []byte) (time.Duration, bool) {
			return t.again(attempt, empty.Load() || status == http.StatusOK && acknowledged(body))
		},
	})
}

// acknowledged reports whether body is the acknowledgement that the vendor insists on.
func acknowledged(body []byte) bool {
	var e struct {
		XMLName xml.Name `xml:"http://schemas.xmlsoap.org/soap/envelope/ Envelope"`
		Body    struct {
			Response struct {
				Ack string `xml:"http://soap.sforce.com/2005/09/outbound Ack"`
			} `xml:"http://soap.sforce.com/2005/09/outbound notificationsResponse"`
		} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Body"`
	}
	return xml.Unmarshal(body, &e) == nil && strings.TrimSpace(e.Body.Response.Ack) == "true"
}

func (t *Twin) message(o *object, ids, notifications []string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b bytes.Buffer
	text := func(s string) {
		_ = xml.EscapeText(&b, []byte(s)) // a buffer does not fail
	}
	host := "https://northwind.my.salesforce.com/services/Soap/"
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
 <notifications xmlns="http://soap.sforce.com/2005/09/outbound">
  <OrganizationId>%s</OrganizationId><ActionId>04kxx0000000001AAA</ActionId><SessionId xsi:nil="true"/>
  <EnterpriseUrl>%sc/66.0/%s</EnterpriseUrl><PartnerUrl>%su/66.0/%s</PartnerUrl>
`, t.opts.OrgID, host, t.opts.OrgID[:15], host, t.opts.OrgID[:15])
	fields := t.push(o).Fields
	if fields == nil {
		for _, n := range o.names {
			if f := o.field(n); f.filterable() {
				fields = append(fields, n)
			}
		}
	}
	left := 0
	for i, id := range ids {
		r := o.rows[id]
		if r == nil || r.deleted {
			continue
		}
		left++
		fmt.Fprintf(&b, "  <Notification><Id>%s</Id><sObject xsi:type=\"sf:%s\" xmlns:sf=\"urn:sobject.enterprise.soap.sforce.com\"><sf:Id>%s</sf:Id>", notifications[i], o.name, r.id)
		for _, n := range fields {
			f := o.field(n)
			if f == nil || f.Type == typeID {
				continue
			}
			v := r.value(f)
			if v == nil {
				continue
			}
			if f.Type == typeDatetime {
				v = isoTime(v)
			}
			fmt.Fprintf(&b, "<sf:%s>", f.Name)
			text(fmt.Sprint(v))
			fmt.Fprintf(&b, "</sf:%s>", f.Name)
		}
		b.WriteString("</sObject></Notification>\n")
	}
	b.WriteString(" </notifications></soapenv:Body></soapenv:Envelope>")
	if left == 0 {
		return nil, errEmpty
	}
	return b.Bytes(), nil
}

// isoTime is how messages say a time.
func isoTime(v any) string {
	s, _ := v.(string)
	return strings.Replace(s, "+0000", "Z", 1)
}
