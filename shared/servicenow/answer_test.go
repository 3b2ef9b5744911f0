package servicenow

import (
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/jsonread"
	"sorrel/shared/vendorhttp"
)

// Whatever an answer holds, it becomes natives with id and version, or an error with a class from the table.
func FuzzAnswer(f *testing.F) {
	f.Add(200, `{"result":[{"sys_id":"ba325dbe64f01300964fae39b050e9a6","sys_updated_on":"2026-11-02 08:00:00","sys_mod_count":"0","u_sorrel_id":"e"}]}`)
	f.Add(200, `{"result":[{"sys_id":1,"u_sorrel_id":{"value":{"value":"e"}}}]}`)
	f.Add(403, `{"error":{"message":{},"detail":[]}}`)
	f.Add(400, `{"result":{"error":"x"}}`)
	f.Add(500, `{"error":null}`)
	f.Add(520, "<html>")
	f.Add(200, `{"error":{"message":"Strange"},"result":[]}`)
	f.Add(200, `{"result":[{"sys_id":"ba325dbe64f01300964fae39b050e9a6","sys_updated_on":"9999-12-31 23:59:59","sys_mod_count":1e999}]}`)
	f.Add(200, `{"result":[null],"result":[{}]}`)
	f.Add(201, `{"result":[{"table":"customer_account","status":"inserted","sys_id":""}]}`)
	f.Add(200, "\xef\xbb\xbf{}")
	f.Add(400, "{\"error\":\"\xf3\"}")
	f.Add(200, strings.Repeat(`{"a":[`, 100))
	f.Fuzz(func(t *testing.T, status int, body string) {
		if err := classify(vendorhttp.Response{Status: status, Body: []byte(body)}); (err == nil) != (status < 300) {
			t.Fatalf("status %d gave %v", status, err)
		} else if err != nil && fault.ClassOf(err) == "" {
			t.Fatalf("an error without class: %v", err)
		}
		read := jsonread.New([]byte(body), maxDepth)
		answer := read.Map()
		if read.End() != nil || refusal(status, answer) != nil {
			return
		}
		list, err := rows("x", answer)
		if err != nil {
			return
		}
		for _, fields := range list {
			if n, err := native("x", Account, fields, time.Now()); err == nil && (n.ID == "" || n.Version.At.IsZero() || n.Fields == nil) {
				t.Fatalf("native %+v", n)
			}
		}
	})
}
