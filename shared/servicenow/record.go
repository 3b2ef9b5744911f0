package servicenow

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// maxDepth bounds nesting of any JSON that comes in.
const maxDepth = 64

// layout of times, in UTC.
const layout = "2006-01-02 15:04:05"

// text is a string, a number's digits, or true or false as the vendor writes them; "" for anything else.
func text(a any) string {
	switch x := a.(type) {
	case string:
		return x
	case json.Number:
		return x.String()
	case bool:
		return strconv.FormatBool(x)
	}
	return ""
}

// instant reads a time as the vendor writes it; zero if it is none.
func instant(a any) time.Time {
	t, err := time.Parse(layout, text(a))
	if err != nil {
		return time.Time{}
	}
	return t
}

// sysID is the form of a native id.
var sysID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func checkID(op, id string) error {
	if sysID.MatchString(id) {
		return nil
	}
	return &fault.Error{Class: fault.Contract, Op: "servicenow." + op, Fields: []string{"sys_id"}, Detail: fmt.Sprintf("a sys_id of %d characters; want 32 hexadecimal digits", len(id))}
}

// plain brings one value into the native shape: a string, or nil for empty.
func plain(a any) any {
	if m, ok := a.(map[string]any); ok { // a reference with its link
		a = m["value"]
	}
	if s := text(a); s != "" {
		return s
	}
	return nil
}

// native makes a full native of a record. date is the vendor's clock at that answer. It takes fields over.
func native(op, object string, fields map[string]any, date time.Time) (record.Native, error) {
	for k, v := range fields {
		fields[k] = plain(v)
	}
	delete(fields, "user_password") // a contact is a user; some instances show the hash
	n := record.Native{Ref: record.Ref{Platform: record.ServiceNow, Object: object, ID: text(fields["sys_id"])}, Fields: fields}
	n.Version.At, n.Born = instant(fields["sys_updated_on"]), instant(fields["sys_created_on"])
	seq, err := strconv.ParseInt(text(fields["sys_mod_count"]), 10, 64)
	for _, f := range []struct {
		name string
		bad  bool
	}{{"sys_id", !sysID.MatchString(n.ID)}, {"sys_updated_on", n.Version.At.IsZero()}, {"sys_mod_count", err != nil || seq < 0}} {
		if f.bad {
			return record.Native{}, &fault.Error{Class: fault.Contract, Op: "servicenow." + op, ID: object, Fields: []string{f.name},
				Detail: fmt.Sprintf("a record without a usable %q", f.name), Remedy: "let the integration user read it"}
		}
	}
	n.Version.Seq = seq
	n.Version.Final = date.Sub(n.Version.At) > resolution
	n.External, n.Actor = text(fields[external]), text(fields["sys_updated_by"])
	return n, nil
}
