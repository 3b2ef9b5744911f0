package servicenow

import (
	"net/http"
	"strconv"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/jsonread"
	"sorrel/shared/platform"
	"sorrel/shared/vendorhttp"
)

// Codes that the vendor has only as sentences, and one for rows that an import set did not take.
const (
	codeUnique  = "unique-key"
	codeTime    = "execution-time"
	codeTable   = "invalid-table"
	codeImport  = "import-row"
	codeAborted = "business-rule"
	codePolicy  = "data-policy"
)

// sentence → code, matched without regard to case. The first that is found decides.
func sentences() [6][2]string {
	return [...][2]string{
		{"unique key violation", codeUnique},
		{"maximum execution time exceeded", codeTime},
		{"invalid table", codeTable},
		{"aborted by business rule", codeAborted},
		{"data policy exception", codePolicy},
		{"transaction cancelled", codeTime},
	}
}

// errorTable is the only place where answers become fault classes: the first row that matches decides.
// https://www.servicenow.com/docs/r/api-reference/rest-api-explorer/r_RESTAPIHTTPResponseCodes.html
func errorTable() []platform.ErrorRow {
	row := platform.Row
	return []platform.ErrorRow{
		row(401, "", fault.Unauthenticated, "after one fresh token"),
		row(429, "", fault.Throttled, "a rate limit rule, per hour; Retry-After"),
		row(0, codeTime, fault.Down, "the transaction quota ended the call; an answer may hold half of the result"),
		row(0, codeUnique, fault.Refused, "another record has this value; a create looks again"),
		row(0, codeAborted, fault.Refused, "a business rule said no"),
		row(0, codePolicy, fault.Refused, "a data policy said no; the detail names the fields"),
		row(0, codeTable, fault.Refused, "the plugin or the kit is not installed"),
		row(201, codeImport, fault.Refused, "an import set's row that failed"),
		row(403, "", fault.Refused, "access rule, business rule or data policy"),
		row(404, "", fault.NotFound, "deleted, never was, or hidden by an access rule"),
		row(409, "", fault.Conflict, ""),
		row(413, "", fault.TooLarge, ""),
		row(400, "", fault.Refused, "request shape"),
		row(405, "", fault.Internal, "method"),
		row(406, "", fault.Internal, "Accept"),
		row(415, "", fault.Internal, "Content-Type"),
		row(500, "", fault.Down, "and every 5xx above 504"),
		row(502, "", fault.Down, ""),
		row(503, "", fault.Down, "maintenance, an HTML page, no free semaphore"),
		row(504, "", fault.Down, ""),
		row(0, "", fault.Internal, "nothing that is documented"),
	}
}

// classify is vendorhttp's Classify. Errors inside a success are found where the answer is decoded.
func classify(resp vendorhttp.Response) error {
	if resp.Status < 300 {
		return nil
	}
	read := jsonread.New(resp.Body, maxDepth)
	answer := read.Map()
	if read.End() == nil {
		if e := refusal(resp.Status, answer); e != nil {
			return e
		}
	}
	return fromTable(resp.Status, &fault.Error{Code: strconv.Itoa(resp.Status)})
}

// refusal reads an error's shape; nil if the answer is none.
//
//	{"error":{"message":"…","detail":"…"},"status":"failure"}
//	{"result":{"error":{"message":"…"}}}
//	{"error":"invalid_client","error_description":"…"}
func refusal(status int, answer map[string]any) *fault.Error {
	inside := answer["error"]
	if nested, ok := answer["result"].(map[string]any); ok && inside == nil {
		if status < 300 {
			return nil // a record may have a field of that name
		}
		inside = nested["error"]
	}
	var parts []string
	switch x := inside.(type) {
	case string:
		parts = []string{x, text(answer["error_description"])}
	case map[string]any:
		parts = []string{text(x["message"]), text(x["detail"])}
	default:
		return nil
	}
	return said(status, parts...)
}

// said classifies by status and by what the sentences say.
func said(status int, parts ...string) *fault.Error {
	var full []string
	for _, p := range parts {
		if p != "" {
			full = append(full, p)
		}
	}
	e := &fault.Error{Code: strconv.Itoa(status), Detail: strings.Join(full, ": ")}
	low := strings.ToLower(e.Detail)
	for _, s := range sentences() {
		if strings.Contains(low, s[0]) {
			e.Code = s[1]
			break
		}
	}
	e.Detail = cut(e.Detail, 400)
	return fromTable(status, e)
}

// fromTable gives e its class by status and code.
func fromTable(status int, e *fault.Error) *fault.Error {
	if status > http.StatusGatewayTimeout { // an edge's own
		status = http.StatusInternalServerError
	}
	for _, r := range errorTable() {
		if r.Matches(status, e.Code) {
			e.Class = fault.Class(r.Class)
			break
		}
	}
	switch {
	case status == http.StatusUnauthorized:
		e.Remedy = "check the platform's credential"
	case e.Code == codeTable:
		e.Remedy = "activate Customer Service Management and install infra/servicenow"
	case e.Code == strconv.Itoa(http.StatusForbidden):
		e.Remedy = "give the integration user the roles in infra/servicenow"
	}
	return e
}

// cut shortens s to n bytes at a character's border.
func cut(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
