package zendesk

import (
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/vendorhttp"
)

// Whatever an answer holds, it becomes natives with id and version, or an error with a class from the table.
func FuzzAnswer(f *testing.F) {
	f.Add(200, `{"custom_object_records":[{"id":"01A","updated_at":"2026-11-02T08:00:00Z","name":"[DELETED]","custom_object_fields":{"a":"[DELETED]","b":null}}]}`)
	f.Add(200, `{"custom_object_records":[{"id":1,"updated_at":"x"}]}`)
	f.Add(422, `{"error":"RecordInvalid","details":{"name":[{"description":"é","error":"BlankValue"}],"x":1}}`)
	f.Add(403, `{"error":{"title":"Forbidden"}}`)
	f.Add(400, `{"errors":[{}]}`)
	f.Add(500, `{"error":null}`)
	f.Add(520, "<html>")
	f.Add(200, `{"error":"Strange","custom_object_records":[{"id":1e999,"updated_at":"9999-12-31T23:59:59Z"}]}`)
	f.Add(422, `{"error":"RecordInvalid","error":{"title":1e999},"details":{"":[{"error":"DuplicateValue"}]},"errors":null}`)
	f.Add(200, "\xef\xbb\xbf{}")
	f.Add(200, "{\"custom_object_records\":[{\"id\":\"\xf3\"}]}")
	f.Add(200, strings.Repeat(`{"a":[`, 100))
	f.Fuzz(func(t *testing.T, status int, body string) {
		resp := vendorhttp.Response{Status: status, Body: []byte(body)}
		if err := classify(resp); (err == nil) != (status < 300) {
			t.Fatalf("status %d gave %v", status, err)
		} else if err != nil && fault.ClassOf(err) == "" {
			t.Fatalf("an error without class: %v", err)
		} else if status >= 500 && status != 501 && status != 505 && fault.Is(err, fault.Internal) {
			t.Fatalf("status %d is a defect of ours: %v", status, err)
		}
		answer, err := decode(resp.Body)
		if err != nil {
			return
		}
		page, _, err := natives("x", custom+"order", answer, "custom_object_records", time.Now())
		for _, n := range page.Natives {
			if err != nil || n.ID == "" || n.Version.At.IsZero() || n.Gone == (n.Fields != nil) {
				t.Fatalf("native %+v with error %v", n, err)
			}
		}
	})
}

func TestGone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		object string
		fields map[string]any
		want   bool
	}{
		"living record":             {custom + "order", map[string]any{"name": "SO", "custom_object_fields": map[string]any{"a": "1"}}, false},
		"one value says it":         {custom + "order", map[string]any{"name": "[DELETED]", "custom_object_fields": map[string]any{"a": "[DELETED]", "b": "x"}}, false},
		"all values say it":         {custom + "order", map[string]any{"name": "SO", "custom_object_fields": map[string]any{"a": "[DELETED]", "b": nil}}, true},
		"name only, no values":      {custom + "order", map[string]any{"name": "[DELETED]"}, true},
		"organization of that name": {Organization, map[string]any{"name": "[DELETED]"}, false},
		"deleted organization":      {Organization, map[string]any{"deleted_at": "2026-11-02T08:00:00Z"}, true},
		"closed ticket":             {Ticket, map[string]any{"status": "closed"}, false},
		"deleted ticket":            {Ticket, map[string]any{"status": "deleted"}, true},
	} {
		if got := gone(c.object, c.fields); got != c.want {
			t.Errorf("%s: gone is %v", name, got)
		}
	}
}
