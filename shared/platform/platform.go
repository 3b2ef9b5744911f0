// Package platform is the contract between Sorrel's flows and the vendors' connectors: what a connector
// declares about its vendor, how it decodes webhooks, reads, writes and lists changes. Each connector
// (shared/netsuite, shared/salesforce, shared/zendesk) is a concrete type; shared/platform/platformtest is
// the suite that all of them pass against their twins. Flows declare their own one- or two-method interfaces.
//
// Native names and value shapes stay native here; shared/mapping translates.
package platform

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// Declaration says, beside the code, what the vendor promises. It is data: the connector's error table decides by
// it, batch lists its objects, and tests hold the twins to it.
type Declaration struct {
	Name       string
	Title      string
	Auth       []string // such as "OAuth 2.0 client credentials with a signed assertion"
	Limits     []Limit
	Webhook    string // the scheme in one line
	Resolution time.Duration
	Objects    []Object
	Errors     []ErrorRow
}

// Limit is one published limit.
type Limit struct {
	Scope  string // such as "account", "incremental exports"
	Kind   string // "concurrency", "per-minute", "per-day", "page", "batch"
	Max    int
	Source string // vendor URL
}

// Object is one native object that the connector can handle.
type Object struct {
	Name     string // native name
	External string // native field that carries Sorrel's external id; "" = none
	Batch    bool   // Changes lists it

	Census  string // how Census counts it: Grouped, Ranges or "" (not at all)
	Sum     string // what Count.Sum adds up: SumIDs, SumSeqs or "" (nothing)
	Numeric bool   // its native ids are ordered as numbers, otherwise bytewise
	Deleted bool   // Deleted lists its deletions

	Unlisted bool          // Within lists neither all of it nor what was modified within spans
	Settles  time.Duration // how long after a change until counts and listings surely show it
}

// ErrorRow is one line of the connector's error table: the first row that matches decides.
type ErrorRow struct {
	Status int    // HTTP status; 0 = any
	Code   string // vendor code; "" = any
	Class  string // fault class
	Note   string
}

// Row makes an ErrorRow.
func Row(status int, code string, class fault.Class, note string) ErrorRow {
	return ErrorRow{Status: status, Code: code, Class: string(class), Note: note}
}

// Matches reports whether the row is about an answer with this status and any of these vendor codes.
func (r ErrorRow) Matches(status int, codes ...string) bool {
	return (r.Status == 0 || r.Status == status) && (r.Code == "" || slices.Contains(codes, r.Code))
}

// Request is a webhook as it arrived: raw body, never re-encoded.
type Request struct {
	Header      http.Header
	Query       url.Values
	ContentType string
	Body        []byte
	Now         time.Time // the receiver's clock, for the replay window
}

// Delivery is a verified, decoded webhook.
type Delivery struct {
	ID      string          // the vendor's delivery or event id; stable over the vendor's own retries where possible
	Natives []record.Native // observations and hints; empty is allowed only for a vendor's test call
	Ack     Ack             // how the vendor wants its acknowledgement; the zero value means the default 202 answer
}

// Ack is a vendor-required acknowledgement.
type Ack struct {
	Status      int
	ContentType string
	Body        []byte
}

// Page is a part of an incremental listing.
type Page struct {
	Natives []record.Native
	Cursor  string // where to go on; opaque to the caller, durable, safe to repeat from
	More    bool   // another page is there now
}

// BadCursor is the Code of the answer that a cursor is none of the listing's.
const BadCursor = "cursor"

// Write is one desired change to one native record. An empty Ref.ID means: create it, or update the one
// that carries External (upsert).
type Write struct {
	Ref      record.Ref
	External string         // Sorrel's external id, always set
	Fields   map[string]any // body in the vendor's JSON shape, nested objects as map[string]any; nil = clear
	Key      string         // idempotency key: equal for a repeat of the same attempt, and for all attempts to create one record
	Delete   bool           // delete the native record Ref; Fields are empty. One that is gone already counts as deleted
}

// Written is what became of one Write. Err is classified (package fault); Unknown means no answer came.
type Written struct {
	ID      string         // native id
	Version record.Version // zero where the vendor does not say
	Created bool
	Fields  map[string]any // with Version: the native record as the answer shows it, which tells what became of the values
	Err     error
}
