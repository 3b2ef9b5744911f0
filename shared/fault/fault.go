// Package fault is the closed vocabulary of failure: every error that crosses a package boundary has a
// Class, and one table (Table) says what each class means to HTTP callers, queues and alarms.
//
// A class answers "what should happen next?", never "which line failed?". Anything unclassified is Internal.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Class says what may be done about a failure.
type Class string

const (
	// Internal is a defect or an unclassified failure: retried, then dead-lettered, and alarmed.
	Internal Class = "internal"
	// Malformed input cannot be parsed (broken JSON or XML, wrong content type, too deep).
	Malformed Class = "malformed"
	// TooLarge input exceeds a declared bound.
	TooLarge Class = "too-large"
	// Unauthenticated means a signature or credential is missing, wrong or expired.
	Unauthenticated Class = "unauthenticated"
	// Forbidden means that the person who asks is known, or should be, but may not do this.
	Forbidden Class = "forbidden"
	// NotFound names a platform, record, type or id that is not known.
	NotFound Class = "not-found"
	// Contract means a value is readable but breaks its contract.
	Contract Class = "contract-violation"
	// Refused is a vendor's or policy's final no: validation, permission, duplicate, closed record.
	Refused Class = "refused-write"
	// MissingReference means a record that this one points to is not there yet.
	MissingReference Class = "missing-reference"
	// Conflict means somebody else changed the same thing first: reload and try again.
	Conflict Class = "conflict"
	// Throttled means a budget is used up: try again at RetryAt.
	Throttled Class = "throttled"
	// Down means a platform, store or queue does not answer usefully at all: breaker territory.
	Down Class = "platform-down"
	// OverQuota means that a caller asks more often than it was allowed to: it is to come again at RetryAt.
	OverQuota Class = "over-quota"
	// Unknown means a write was sent and no answer came: read back before writing again.
	Unknown Class = "unknown-outcome"
	// Unsettled means a value cannot be trusted until it is read again (two pushes of one version that differ).
	Unsettled Class = "unsettled"
)

// Outcome is what a queue consumer does with the message after a failure of a class.
type Outcome string

const (
	// Retry leaves the message on its queue; the queue's redelivery and dead-letter rules apply.
	Retry Outcome = "retry"
	// Park acknowledges the message after an exception has been recorded durably.
	Park Outcome = "park"
	// Keep acknowledges the message because durable due work already stands for it.
	Keep Outcome = "keep-due"
)

// Row is the fixed meaning of one class.
type Row struct {
	Class  Class
	Status int     // HTTP status for a caller
	Queue  Outcome // what a queue consumer does
	Alarm  bool    // whether operators are told at once
	Title  string  // RFC 9457 title
}

// Table maps every class to the outside world. It is the only such mapping in Sorrel.
func Table() []Row {
	rows := table()
	return rows[:]
}

// table is an array, so that looking up a row allocates nothing.
func table() [15]Row {
	return [...]Row{
		{Internal, 500, Retry, true, "Internal error"},
		{Malformed, 400, Park, false, "Malformed input"},
		{TooLarge, 413, Park, false, "Input too large"},
		{Unauthenticated, 401, Park, false, "Not authenticated"},
		{Forbidden, 403, Park, false, "Not allowed"},
		{NotFound, 404, Park, false, "Not found"},
		{Contract, 422, Park, false, "Contract violation"},
		{Refused, 422, Park, false, "Refused"},
		{MissingReference, 409, Keep, false, "Missing reference"},
		{Conflict, 409, Retry, false, "Conflict"},
		{Throttled, 503, Keep, false, "Throttled"},
		{Down, 503, Keep, true, "Unavailable"},
		{OverQuota, 429, Keep, false, "Over quota"},
		{Unknown, 502, Keep, false, "Unknown outcome"},
		{Unsettled, 409, Keep, false, "Unsettled"},
	}
}

// RowOf returns the row of err's class.
func RowOf(err error) Row {
	c := ClassOf(err)
	rows := table()
	for _, r := range rows {
		if r.Class == c {
			return r
		}
	}
	return rows[0]
}

// NotCalled is the Code of errors that cost the vendor nothing: its breaker is open, or it asked for a pause.
const NotCalled = "not-called"

// Error is a classified failure. Op and ID say where; Fields, Remedy and RetryAt say what to do.
type Error struct {
	Class   Class
	Op      string    // operation, such as "zendesk.write"
	ID      string    // what it was done to, such as "order/…"
	Detail  string    // plain words for a person; never a secret, never a whole payload
	Code    string    // the vendor's own code, such as INVALID_FIELD
	Fields  []string  // canonical or native field names concerned
	Remedy  string    // what the reader can do
	RetryAt time.Time // for Throttled and Down; zero = the caller's own backoff
	Err     error
}

func (e *Error) Error() string {
	s := e.Op
	if e.ID != "" {
		s += fmt.Sprintf("(%s)", e.ID)
	}
	if s != "" {
		s += ": "
	}
	s += string(e.Class)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if len(e.Fields) > 0 {
		s += fmt.Sprintf(" %v", e.Fields)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Remedy != "" {
		s += " (" + e.Remedy + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// New returns a classified error without a cause.
func New(c Class, op, detail string) *Error { return &Error{Class: c, Op: op, Detail: detail} }

// Wrap classifies err; it returns nil for nil. A cause that is already classified keeps its class
// when c is empty.
func Wrap(c Class, op, id string, err error) error {
	if err == nil {
		return nil
	}
	if c == "" {
		c = ClassOf(err)
	}
	w := &Error{Class: c, Op: op, ID: id, Err: err}
	var inner *Error
	if errors.As(err, &inner) {
		w.RetryAt, w.Fields, w.Code = inner.RetryAt, inner.Fields, inner.Code
	}
	return w
}

// ClassOf returns the class of the outermost classified error in err's chain, Internal if there is none.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Internal
}

// Is reports whether err is of class c.
func Is(err error, c Class) bool { return err != nil && ClassOf(err) == c }

// RetryAt returns when err says to try again, or zero.
func RetryAt(err error) time.Time {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAt
	}
	return time.Time{}
}

// Outermost returns the outermost classified error in err's chain that has something to tell a person, or the
// outermost one, or nil.
func Outermost(err error) *Error {
	var first *Error
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			break
		}
		if first == nil {
			first = e
		}
		if e.Detail != "" {
			return e
		}
		err = e.Err
	}
	return first
}
