package deadletters

import (
	"encoding/json"
	"strings"
	"testing"

	"sorrel/shared/message"
)

// FuzzMasked: whatever lies in a dead-letter queue, its masked form is JSON without a value of a field.
func FuzzMasked(f *testing.F) {
	for _, body := range []string{``, `{`, `7`, `"Xyzzy"`, `[null,true,{"a":"Xyzzy"}]`, `{"v":1} {"v":"Xyzzy"}`,
		`{"v":1,"correlationId":"c","receivedAt":"2026-01-01T00:00:00Z","source":"webhook","native":{"platform":"p","object":"o","id":"1","version":{"at":"2026-01-01T00:00:00Z"},"fields":{"at":"Xyzzy"}}}`,
		`{"v":1,"native":{"native":{"v":"Xyzzy"}},"correlationId":["Xyzzy"]}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := message.ParseInbound(body)
		out, fails := json.Marshal(masked(body, err == nil))
		if fails != nil {
			t.Fatal(fails)
		}
		envelope := []string{in.CorrelationID, string(in.Source), in.Native.Ref.String(), in.Native.Into, in.Native.External}
		for _, v := range in.Native.Fields {
			text, is := v.(string)
			if quoted, _ := json.Marshal(v); is && len(text) > 8 && !strings.Contains(strings.Join(envelope, " "), text) && strings.Contains(string(out), ":"+string(quoted)) {
				t.Errorf("%s shows %s", out, quoted)
			}
		}
	})
}
