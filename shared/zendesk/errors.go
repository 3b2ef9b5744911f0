package zendesk

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/vendorhttp"
)

// errorTable is the only place where answers become fault classes: the first row that matches decides.
// A Code is matched against the code of a field's error (details.*[].error) and the answer's own.
// https://developer.zendesk.com/api-reference/introduction/requests/
func errorTable() []platform.ErrorRow {
	row := platform.Row
	return []platform.ErrorRow{
		row(401, "", fault.Unauthenticated, "after one fresh token"),
		row(403, "", fault.Refused, "role, plan or scope of the credential"),
		row(404, "InvalidEndpoint", fault.Refused, "the feature is not there in this plan, or the kit is not installed"),
		row(404, "", fault.NotFound, "RecordNotFound: deleted, or never was"),
		row(409, "", fault.Conflict, "stale updated_stamp, running idempotent request, database conflict"),
		row(413, "", fault.TooLarge, "record over 32 KB"),
		row(429, "", fault.Throttled, "Retry-After; one endpoint or record only, if the account's minute is not used up"),
		row(0, "TooManyJobs", fault.Throttled, "30 background jobs queued or running"),
		row(0, "DuplicateValue", fault.Refused, "another record has this name, external id or e-mail address"),
		row(0, "RecordInvalid", fault.Refused, "validation; details name the fields"),
		row(422, "", fault.Refused, "InvalidValue and other validation"),
		row(400, "", fault.Refused, "request shape, or an idempotency key with another body"),
		row(500, "", fault.Down, "and every 5xx above 504"),
		row(502, "", fault.Down, ""),
		row(503, "", fault.Down, "maintenance, an HTML page"),
		row(504, "", fault.Down, ""),
		row(0, "", fault.Internal, "nothing that is documented"),
	}
}

// classify is vendorhttp's Classify.
func classify(resp vendorhttp.Response) error {
	if resp.Status < 300 {
		return nil
	}
	if err := refusal(resp); err != nil {
		return err
	}
	return fromTable(resp.Status, &fault.Error{Code: strconv.Itoa(resp.Status)})
}

// fromTable gives e its class by status and by the codes given (e.Code is the answer's own).
func fromTable(status int, e *fault.Error, codes ...string) *fault.Error {
	codes = append(codes, e.Code)
	if status > http.StatusGatewayTimeout { // an edge's own
		status = http.StatusInternalServerError
	}
	for _, r := range errorTable() {
		if r.Matches(status, codes...) {
			e.Class = fault.Class(r.Class)
			break
		}
	}
	switch {
	case status == http.StatusUnauthorized:
		e.Remedy = "check the platform's credential"
	case status == http.StatusForbidden:
		e.Remedy = "give the integration's user an admin role and its OAuth client the scopes read and write"
	}
	return e
}

// refusal reads any of the vendor's four error shapes; nil if the body is none of them.
//
//	{"error":"RecordInvalid","description":"…","details":{"name":[{"description":"…","error":"BlankValue"}]}}
//	{"error":{"title":"Forbidden","message":"…"}}
//	{"errors":[{"code":"InvalidPaginationDepth","title":"…","detail":"…"}]}
//	{"error":"Couldn't authenticate you"}
func refusal(resp vendorhttp.Response) *fault.Error {
	var body struct {
		Error            json.RawMessage            `json:"error"`
		Description      json.RawMessage            `json:"description"`
		ErrorDescription string                     `json:"error_description"`
		Details          map[string]json.RawMessage `json:"details"`
		Errors           []struct{ Code, Title, Detail, Message string }
	}
	if json.Unmarshal(resp.Body, &body) != nil {
		return nil
	}
	e := &fault.Error{}
	var codes []string
	text := func(raw json.RawMessage) (s string) {
		_ = json.Unmarshal(raw, &s) // another shape gives no text
		return s
	}
	switch {
	case len(body.Errors) > 0:
		first := body.Errors[0]
		e.Code, e.Detail = first.Code, strings.Join(nonEmpty(first.Title, first.Detail, first.Message), ": ")
	case len(body.Error) > 0 && string(body.Error) != "null":
		e.Code = text(body.Error)
		e.Detail = strings.Join(nonEmpty(text(body.Description), body.ErrorDescription), ": ")
		var titled struct{ Title, Message string }
		if e.Code == "" && json.Unmarshal(body.Error, &titled) == nil {
			e.Code, e.Detail = titled.Title, titled.Message
		}
	default:
		return nil
	}
	for field, raw := range body.Details {
		var list []struct{ Error, Description string }
		if json.Unmarshal(raw, &list) != nil {
			continue // a detail of another shape says nothing that can be classified
		}
		e.Fields = append(e.Fields, field)
		for _, d := range list {
			codes = append(codes, nonEmpty(d.Error)...)
			e.Detail = strings.Join(nonEmpty(e.Detail, d.Description), "; ")
		}
	}
	sort.Strings(e.Fields)
	fromTable(resp.Status, e, codes...)
	if len(codes) == 1 {
		e.Code = codes[0]
	}
	e.Code, e.Detail = cut(e.Code, 80), cut(e.Detail, 400)
	if e.Code == "" {
		e.Code = fmt.Sprint(resp.Status)
	}
	return e
}

func nonEmpty(s ...string) (out []string) {
	for _, x := range s {
		if x != "" {
			out = append(out, x)
		}
	}
	return out
}

// cut shortens s to n bytes at a character's border.
func cut(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
