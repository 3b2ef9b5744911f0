package zendesk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// maxDepth bounds nesting of any JSON that comes in.
const maxDepth = 64

// decode reads one JSON object with numbers as they stand.
func decode(b []byte) (map[string]any, error) {
	if err := shallow(b); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		var typed *json.UnmarshalTypeError
		if errors.As(err, &typed) {
			return nil, fmt.Errorf("a JSON %s where an object belongs", typed.Value)
		}
		return nil, err
	}
	if m == nil {
		return nil, errors.New("null where an object belongs")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return m, nil
}

// shallow refuses nesting deeper than maxDepth before anything is built from b.
func shallow(b []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("JSON nested deeper than %d", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// text is a string, or a number's digits; "" for anything else.
func text(a any) string {
	switch x := a.(type) {
	case string:
		return x
	case json.Number:
		return x.String()
	}
	return ""
}

// instant reads a time as the vendor writes it; zero if it is none.
func instant(a any) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text(a))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// native makes a full native of a record in REST's shape. date is the vendor's clock at that answer.
func native(op, object string, fields map[string]any, date time.Time) (record.Native, error) {
	n := record.Native{Ref: record.Ref{Platform: record.Zendesk, Object: object, ID: text(fields["id"])}}
	n.Version.At, n.Born = instant(fields["updated_at"]), instant(fields["created_at"])
	for field, missing := range map[string]bool{"id": n.ID == "", "updated_at": n.Version.At.IsZero()} {
		if missing {
			return record.Native{}, &fault.Error{Class: fault.Contract, Op: "zendesk." + op, ID: object, Fields: []string{field},
				Detail: fmt.Sprintf("a record without a usable %q", field)}
		}
	}
	n.Version.Final = date.Sub(n.Version.At) > resolution
	n.External, n.Actor = text(fields["external_id"]), text(fields["updated_by_user_id"])
	if gone(object, fields) {
		if at := instant(fields["deleted_at"]); at.After(n.Version.At) {
			n.Version.At = at
		}
		n.Gone = true
		return n, nil
	}
	for _, odd := range []string{"deleted_at", "result_type"} { // listings add them
		delete(fields, odd)
	}
	n.Fields = fields
	return n, nil
}

// scrubbed replaces the values of a deleted custom object record in exports.
const scrubbed = "[DELETED]"

// gone reports that a record is a deleted one: organizations carry deleted_at, users active: false, tickets the
// status "deleted", custom object records "[DELETED]" in place of their values.
func gone(object string, fields map[string]any) bool {
	if fields["deleted_at"] != nil {
		return true
	}
	switch {
	case object == User:
		return fields["active"] == false
	case object == Ticket:
		return fields["status"] == "deleted" || fields["status"] == "scrubbed"
	case strings.HasPrefix(object, custom):
		values, _ := fields["custom_object_fields"].(map[string]any)
		said := 0
		for _, v := range values {
			if v == nil {
				continue
			}
			if v != scrubbed {
				return false
			}
			said++
		}
		return said > 0 || fields["name"] == scrubbed
	}
	return false
}
