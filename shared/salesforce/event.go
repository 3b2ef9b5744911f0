package salesforce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// envelope is what EventBridge puts around an event.
type envelope struct {
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Detail     json.RawMessage `json:"detail"`
}

// header of a change event.
// https://developer.salesforce.com/docs/atlas.en-us.change_data_capture.meta/change_data_capture/cdc_event_fields_header.htm
type header struct {
	EntityName      string   `json:"entityName"`
	RecordIDs       []string `json:"recordIds"`
	ChangeType      string   `json:"changeType"`
	ChangeOrigin    string   `json:"changeOrigin"`
	TransactionKey  string   `json:"transactionKey"`
	SequenceNumber  int64    `json:"sequenceNumber"`
	CommitTimestamp int64    `json:"commitTimestamp"`
	CommitNumber    int64    `json:"commitNumber"`
	CommitUser      string   `json:"commitUser"`
	NulledFields    []string `json:"nulledFields"`
	DiffFields      []string `json:"diffFields"`
	ChangedFields   []string `json:"changedFields"`
}

// Event decodes a Change Data Capture event that EventBridge delivered: by Event Relay (the change is in
// detail.payload) or by AppFlow (it is detail). The event bus vouches for the sender; still, its source must
// be one of Config.EventSources.
//
//   - CREATE, UPDATE and UNDELETE are partial observations (an event never carries formulas or parents), one
//     for each record id; DELETE says Gone.
//   - A DELETE of an account or contact may be the end of a merge, which the event does not tell: one query for
//     all of its records finds into what they went. Where that cannot be asked now, they are hints.
//   - GAP_* events, changes sent as text differences, and versions out of all bounds are hints: the records
//     are named, what changed must be read.
//   - GAP_OVERFLOW and ids such as 001* name no record. They are told to Config.Missed, and a Delivery
//     without natives is returned: nothing is lost, the next Changes finds what changed.
func (c *Connector) Event(ctx context.Context, body []byte, now time.Time) (platform.Delivery, error) {
	const op = "salesforce.event"
	malformed := func(err error) (platform.Delivery, error) {
		return platform.Delivery{}, &fault.Error{Class: fault.Malformed, Op: op, Detail: "the body is not the JSON of an EventBridge event", Err: err}
	}
	if err := shallow(body); err != nil {
		return malformed(err)
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return malformed(err)
	}
	if !slices.ContainsFunc(c.sources, func(prefix string) bool { return strings.HasPrefix(e.Source, prefix) }) {
		return platform.Delivery{}, &fault.Error{Class: fault.Unauthenticated, Op: op, ID: clip(e.ID), Detail: fmt.Sprintf("source %q is not this org's", clip(e.Source)),
			Remedy: "check orgId in the platform's secret and the event source of the rule"}
	}
	var relayed struct {
		Payload json.RawMessage `json:"payload"`
	}
	_ = json.Unmarshal(e.Detail, &relayed) // no object: found out below
	change := relayed.Payload
	if len(change) == 0 {
		change = e.Detail
	}
	var h struct {
		Header *header `json:"ChangeEventHeader"`
	}
	if err := json.Unmarshal(change, &h); err != nil {
		return malformed(err)
	}
	if h.Header == nil {
		return platform.Delivery{}, &fault.Error{Class: fault.NotFound, Op: op, ID: clip(e.ID), Detail: fmt.Sprintf("%q is not a change event", clip(e.DetailType)), Remedy: "relay a channel of change events"}
	}
	dec := json.NewDecoder(bytes.NewReader(change))
	dec.UseNumber()
	var fields map[string]any
	if err := dec.Decode(&fields); err != nil {
		return malformed(err)
	}
	delete(fields, "ChangeEventHeader")
	return c.change(ctx, e, *h.Header, fields, now)
}

func (c *Connector) change(ctx context.Context, e envelope, h header, raw map[string]any, now time.Time) (platform.Delivery, error) {
	d := platform.Delivery{ID: e.ID}
	if h.TransactionKey != "" { // the same event relayed twice may carry two EventBridge ids
		d.ID = fmt.Sprintf("%s:%d:%s", clip(h.TransactionKey), h.SequenceNumber, h.EntityName)
	}
	wrong := func(class fault.Class, field, remedy string) (platform.Delivery, error) {
		return platform.Delivery{}, &fault.Error{Class: class, Op: "salesforce.event", ID: clip(d.ID), Fields: []string{"ChangeEventHeader." + field}, Detail: field + " is missing or wrong", Remedy: remedy}
	}
	kind, gap := strings.CutPrefix(h.ChangeType, "GAP_")
	switch {
	case h.EntityName == "":
		return wrong(fault.Contract, "entityName", "send what Salesforce sends")
	case h.ChangeType == "":
		return wrong(fault.Contract, "changeType", "send what Salesforce sends")
	case h.CommitTimestamp <= 0 || h.CommitTimestamp >= 1<<47:
		return wrong(fault.Contract, "commitTimestamp", "epoch milliseconds are expected")
	}
	o, ok := c.objects[h.EntityName]
	if !ok {
		return wrong(fault.NotFound, "entityName "+clip(h.EntityName), "map the object or take it off the channel")
	}
	moment := time.UnixMilli(h.CommitTimestamp).UTC()
	commit := moment.Truncate(Resolution)
	if h.ChangeType == "GAP_OVERFLOW" {
		c.cfg.Missed(Missed{Object: h.EntityName, Reason: "overflow", At: commit})
		return d, nil
	}
	if !slices.Contains([]string{"CREATE", "UPDATE", "DELETE", "UNDELETE"}, kind) {
		return wrong(fault.NotFound, "changeType "+clip(h.ChangeType), "CREATE, UPDATE, DELETE, UNDELETE and their GAP_ forms are known")
	}
	if len(h.RecordIDs) == 0 {
		return wrong(fault.Contract, "recordIds", "send what Salesforce sends")
	}
	for _, given := range h.RecordIDs {
		id, ok := canonicalID(given)
		if !ok {
			if strings.HasSuffix(given, "*") {
				c.cfg.Missed(Missed{Object: h.EntityName, Reason: "wildcard", At: commit})
				continue
			}
			return wrong(fault.Contract, "recordIds", "ids have 15 or 18 letters and digits")
		}
		n := record.Native{Ref: record.Ref{Platform: record.Salesforce, Object: h.EntityName, ID: id}, Ours: c.ours(h.ChangeOrigin), Actor: h.CommitUser}
		n.External, _ = raw[o.external].(string)
		switch version, ok := h.version(raw, commit, now); {
		case gap || !ok || kind != "DELETE" && len(h.DiffFields) > 0:
			n.Ours = false // what it says is not known, so neither whether it is all ours
		case kind == "DELETE":
			n.Version, n.Gone = record.Version{At: moment, Seq: version.Seq}, true
		default:
			n.Version, n.Fields, n.Partial = version, o.eventFields(h, raw), true
			switch born, ok := parseTime(raw["CreatedDate"]); {
			case kind == "UNDELETE":
				n.Born = moment
			case kind == "CREATE" && ok:
				n.Born = born
			case kind == "CREATE":
				n.Born = version.At
			}
		}
		d.Natives = append(d.Natives, n)
	}
	if o.merges && len(d.Natives) > 0 && d.Natives[0].Gone { // one header tells of all
		c.follow(ctx, h.EntityName, d.Natives)
	}
	return d, nil
}

// follow finds where deleted records went: into another by a merge, or nowhere. One that is erased already was
// deleted for all that anybody will ever know. When the vendor cannot be asked they become hints, so that their
// reader asks: taken for plain deletions, merges would be lost.
func (c *Connector) follow(ctx context.Context, name string, natives []record.Native) {
	for chunk := range slices.Chunk(natives, MaxBatch) {
		ids := make([]string, len(chunk))
		for i, n := range chunk {
			ids[i] = quote(n.ID)
		}
		a, err := c.query(ctx, "event.merged", "queryAll", "SELECT Id,MasterRecordId FROM "+name+" WHERE Id IN ("+strings.Join(ids, ",")+")")
		into := make(map[string]string, len(a.Records))
		for _, row := range a.Records {
			id, _ := row["Id"].(string)
			into[id], _ = row["MasterRecordId"].(string)
		}
		for i, n := range chunk {
			switch winner, found := into[n.ID]; {
			case found:
				chunk[i].Into = winner
			case err != nil || !a.Done:
				chunk[i] = record.Native{Ref: n.Ref, External: n.External, Actor: n.Actor}
			}
		}
	}
}

// longest is how long a transaction may take from the save to the commit.
const longest = 15 * time.Minute

// version of the event; false where the header cannot be believed.
func (h header) version(raw map[string]any, commit, now time.Time) (record.Version, bool) {
	const sequences = 1 << 10
	if commit.After(now.Add(replayWindow)) || h.CommitNumber < 0 || h.CommitNumber >= 1<<52 {
		return record.Version{}, false
	}
	v := record.Version{At: commit, Seq: h.CommitNumber*sequences + min(max(h.SequenceNumber, 0), sequences-1)}
	if at, ok := parseTime(raw["LastModifiedDate"]); ok && !at.After(commit) && commit.Sub(at) < longest {
		v.At = at
	}
	return v, true
}

// ours reports whether our client's name is in the origin: com/salesforce/api/rest/66.0;client=Sorrel.
func (c *Connector) ours(origin string) bool {
	for _, part := range strings.Split(origin, ";")[1:] {
		if client, ok := strings.CutPrefix(part, "client="); ok && client == c.cfg.Client {
			return true
		}
	}
	return false
}

// eventFields turns the body of an event into REST's flat names and forms. Of an UPDATE only what the header
// lists as changed counts: other fields may come along as nulls or as an enrichment of the channel.
func (o object) eventFields(h header, raw map[string]any) map[string]any {
	out := map[string]any{}
	partial := h.ChangeType == "UPDATE"
	listed := len(h.ChangedFields) > 0 && !slices.ContainsFunc(h.ChangedFields, func(f string) bool { return strings.HasPrefix(f, "0x") })
	put := func(path, outer, name string, v any) {
		changed := slices.Contains(h.ChangedFields, path) || slices.Contains(h.ChangedFields, outer)
		if partial && (listed && !changed || !listed && v == nil) {
			return
		}
		out[name] = native(o.kinds[name], v)
	}
	for name, v := range raw {
		parts, nested := v.(map[string]any)
		if !nested {
			put(name, name, name, v)
			continue
		}
		for part, v := range parts {
			put(name+"."+part, name, flat(name, part), v)
		}
	}
	if partial {
		for _, path := range h.NulledFields {
			if strings.HasPrefix(path, "0x") {
				continue
			}
			name, part, nested := strings.Cut(path, ".")
			switch {
			case nested:
				out[flat(name, part)] = nil
			case strings.HasSuffix(name, "Address"):
				for _, p := range []string{"Street", "City", "State", "PostalCode", "Country"} {
					out[flat(name, p)] = nil
				}
			default:
				out[name] = nil
			}
		}
	}
	return out
}

// flat is REST's name for a part of a compound: BillingAddress.City is BillingCity, Name.LastName is LastName,
// Place__c.Latitude is Place__Latitude__s.
func flat(compound, part string) string {
	if custom, ok := strings.CutSuffix(compound, "__c"); ok {
		return custom + "__" + part + "__s"
	}
	if compound == "Name" {
		return part
	}
	return strings.TrimSuffix(compound, "Address") + part
}

// shallow checks the depth of JSON before anything builds it in memory.
func shallow(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	depth := 0
	for {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return fmt.Errorf("deeper than %d", maxDepth)
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}
