package salesforce

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/jsonread"
	"sorrel/shared/platform"
	"sorrel/shared/vendorhttp"
)

// errorRow is one line of the error table. says narrows it to messages that contain the text (then Note says
// so); pause is how long to wait after a Throttled answer, which never carries Retry-After; about is the field that it is
// about where the answer names none.
type errorRow struct {
	platform.ErrorRow
	says  string
	pause time.Duration
	about string
}

// errorTable is the only place where answers become fault classes: the first row that matches decides, for
// top-level errors ([{errorCode,message,fields}]), for rows of a collection ({statusCode,…}, no HTTP status
// of their own) and for sign-ins ({error,error_description}).
// https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm
func errorTable() []errorRow {
	row := func(status int, code string, class fault.Class, note string) errorRow {
		return errorRow{ErrorRow: platform.Row(status, code, class, note)}
	}
	says := func(r errorRow, text string) errorRow { r.says = text; return r }
	about := func(r errorRow, field string) errorRow { r.about = field; return r }
	pause := func(r errorRow, d time.Duration) errorRow { r.pause = d; return r }
	return []errorRow{
		row(401, "INVALID_SESSION_ID", fault.Unauthenticated, "after one fresh sign-in"),
		row(0, "INVALID_SESSION_ID", fault.Unauthenticated, "session not valid for this API"),
		row(401, "", fault.Unauthenticated, "any other 401; one fresh sign-in, no loop"),
		pause(says(row(0, "REQUEST_LIMIT_EXCEEDED", fault.Throttled, "too many long calls at once; message says Concurrent"), "Concurrent"), 5*time.Second),
		pause(row(0, "REQUEST_LIMIT_EXCEEDED", fault.Throttled, "calls of the last 24 hours used up; the window rolls and a refused look costs nothing"), time.Minute),
		pause(row(0, "rate_limit_exceeded", fault.Throttled, "too many sign-ins"), time.Minute),
		row(0, "API_DISABLED_FOR_ORG", fault.Down, "no call can succeed until an administrator acts"),
		row(0, "inactive_org", fault.Down, "org suspended"),
		row(0, "invalid_grant", fault.Unauthenticated, "assertion or user refused; approve the app for the user"),
		row(0, "invalid_client_id", fault.Unauthenticated, "wrong consumer key"),
		row(0, "invalid_client", fault.Unauthenticated, "wrong consumer secret"),
		row(0, "invalid_client_credentials", fault.Unauthenticated, "wrong consumer secret"),
		row(0, "inactive_user", fault.Unauthenticated, "integration user inactive"),
		row(0, "invalid_request", fault.Unauthenticated, "sign-in form refused"),
		row(0, "unsupported_grant_type", fault.Unauthenticated, "flow not enabled for the app"),

		says(row(0, "INVALID_FIELD", fault.MissingReference, "parent named by external id is not there; message says Foreign key external ID"), "Foreign key external ID"),
		row(0, "STANDARD_PRICE_NOT_DEFINED", fault.MissingReference, "the product has no price in the standard price book yet"),
		row(0, "INVALID_CROSS_REFERENCE_KEY", fault.MissingReference, "parent id is not there"),
		row(0, "UNABLE_TO_LOCK_ROW", fault.Conflict, "somebody else writes it now"),
		row(0, "ALL_OR_NONE_OPERATION_ROLLED_BACK", fault.Conflict, "a batch mate failed"),
		row(0, "PROCESSING_HALTED", fault.Conflict, "a batch mate failed"),
		row(0, "INVALID_QUERY_LOCATOR", fault.Conflict, "listing lost; start it again"),
		row(0, "ENTITY_IS_DELETED", fault.NotFound, "deleted"),
		row(0, "NOT_FOUND", fault.NotFound, "no such record, object or external-id field"),
		row(0, "INVALID_TYPE", fault.NotFound, "no such object, or no permission on it"),
		row(0, "MALFORMED_ID", fault.NotFound, "no id of this object"),
		row(0, "MALFORMED_QUERY", fault.Internal, "our SOQL is wrong"),
		row(0, "QUERY_TIMEOUT", fault.Down, "query took too long"),
		row(0, "SERVER_UNAVAILABLE", fault.Down, "maintenance"),
		row(0, "UNKNOWN_EXCEPTION", fault.Down, "vendor's defect"),
		row(0, "INVALID_FIELD", fault.Refused, "no such field, or no permission on it"),
		row(0, "INVALID_FIELD_FOR_INSERT_UPDATE", fault.Refused, "read-only field"),
		row(0, "REQUIRED_FIELD_MISSING", fault.Refused, "validation"),
		row(0, "FIELD_CUSTOM_VALIDATION_EXCEPTION", fault.Refused, "validation rule of the org"),
		row(0, "STRING_TOO_LONG", fault.Refused, "validation"),
		row(0, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", fault.Refused, "the picklist does not know the value, or the field may not be empty"),
		row(0, "INVALID_EMAIL_ADDRESS", fault.Refused, "validation"),
		row(0, "FIELD_INTEGRITY_EXCEPTION", fault.Refused, "validation"),
		row(0, "NUMBER_OUTSIDE_VALID_RANGE", fault.Refused, "validation"),
		row(0, "JSON_PARSER_ERROR", fault.Refused, "value of the wrong kind"),
		row(0, "DUPLICATE_VALUE", fault.Refused, "unique field or external id is taken"),
		row(0, "DUPLICATE_EXTERNAL_ID", fault.Refused, "several records carry the external id"),
		row(0, "DUPLICATES_DETECTED", fault.Refused, "duplicate rule"),
		row(0, "INSUFFICIENT_ACCESS_OR_READONLY", fault.Refused, "permission"),
		row(0, "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", fault.Refused, "permission on the parent"),
		about(row(0, "INACTIVE_OWNER_OR_USER", fault.Refused, "the user who is to own it is inactive; name another one, or let the integration user update records with inactive owners"), "OwnerId"),
		row(0, "STORAGE_LIMIT_EXCEEDED", fault.Refused, "org is full"),

		row(300, "", fault.Refused, "several records carry the external id; nothing was written"),
		row(301, "", fault.Internal, "and every other 3xx: the org has moved; set URL to its own domain"),
		row(400, "", fault.Refused, "any other validation"),
		row(403, "", fault.Refused, "permission"),
		row(404, "", fault.NotFound, ""),
		row(405, "", fault.Internal, "our call is wrong"),
		row(409, "", fault.Conflict, ""),
		row(410, "", fault.Internal, "API version retired; raise Version"),
		row(412, "", fault.Conflict, "changed since"),
		row(415, "", fault.Internal, "our call is wrong"),
		pause(row(429, "", fault.Throttled, "edge"), 30*time.Second),
		row(500, "", fault.Down, "and every other 5xx, HTML from the edge included"),
		row(0, "", fault.Refused, "any other code"),
	}
}

// vendorError is one error in any of the vendor's shapes.
type vendorError struct {
	ErrorCode  string   `json:"errorCode"`  // top level
	StatusCode string   `json:"statusCode"` // row of a collection
	Message    string   `json:"message"`
	Fields     []string `json:"fields"`
}

func (e vendorError) code() string {
	if e.ErrorCode != "" {
		return e.ErrorCode
	}
	return e.StatusCode
}

// class looks up the table; status is 0 for a row of a collection.
func class(status int, code, message string) errorRow {
	switch {
	case status > 500:
		status = 500
	case status > 300 && status < 400:
		status = 301
	}
	table := errorTable()
	for _, r := range table {
		if r.Matches(status, code) && strings.Contains(message, r.says) {
			return r
		}
	}
	return table[len(table)-1]
}

// failure turns the vendor's errors into one: the first decides the class, all are told.
func (c *Connector) failure(status int, errs []vendorError) *fault.Error {
	if len(errs) == 0 {
		errs = []vendorError{{}}
	}
	row := class(status, errs[0].code(), errs[0].Message)
	e := &fault.Error{Class: fault.Class(row.Class), Code: errs[0].code(), Remedy: row.Note}
	if e.Code == "" && status != 0 {
		e.Code = strconv.Itoa(status)
	}
	for _, v := range errs {
		e.Fields = append(e.Fields, v.Fields...)
		if v.Message != "" {
			e.Detail += "; " + v.Message
		}
	}
	if len(e.Fields) == 0 && row.about != "" {
		e.Fields = []string{row.about}
	}
	e.Detail = clip(strings.TrimPrefix(e.Detail, "; "))
	if row.pause > 0 {
		e.RetryAt = c.cfg.Now().Add(row.pause)
	}
	return e
}

// clip keeps a vendor's message short: it may quote what was written.
func clip(s string) string {
	const most = 200
	r := []rune(s)
	if len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// classify is called for every answer, sign-ins included.
func (c *Connector) classify(resp vendorhttp.Response) error {
	if resp.Status < 300 {
		return nil
	}
	var errs []vendorError
	body := bytes.TrimSpace(resp.Body)
	switch {
	case resp.Status == http.StatusMultipleChoices || len(body) == 0: // 300: a list of URLs
	case body[0] == '[':
		_ = json.Unmarshal(body, &errs) // broken: the status alone decides
	case body[0] == '{':
		var signIn struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if json.Unmarshal(body, &signIn) == nil && signIn.Error != "" {
			errs = []vendorError{{ErrorCode: signIn.Error, Message: signIn.Description}}
		}
	}
	return c.failure(resp.Status, errs)
}

// unreadable is an answer that is not what the API promises. A write may have been done.
func unreadable(op string, write bool, err error) error {
	e := &fault.Error{Class: fault.Down, Op: "salesforce." + op, Detail: "the answer cannot be read", Err: err}
	if write {
		e.Class = fault.Unknown
	}
	return e
}

// maxNesting bounds the nesting of JSON that the vendor sends.
const maxNesting = 64

// decode reads one JSON value that nests no deeper than maxNesting, and nothing after it.
func decode(body []byte) (any, error) {
	r := jsonread.New(body, maxNesting)
	v := r.Value()
	return v, r.End()
}

func notFound(op, id string) error {
	return &fault.Error{Class: fault.NotFound, Op: "salesforce." + op, ID: id, Detail: "no such record", Remedy: fmt.Sprintf("check that it is there and that the integration user may see it (%s)", op)}
}
