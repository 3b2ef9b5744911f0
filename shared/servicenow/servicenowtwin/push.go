package servicenowtwin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"sorrel/shared/twin"
)

// push posts what the kit's business rule posts: once, without retry. The twin is locked.
func (t *Twin) push(object string, r *row, operation, actor string) {
	if t.opt.NoCustomSetup || t.kit.Target() == "" {
		return
	}
	at := t.now().Format(time.RFC3339)
	message := map[string]any{"table": object, "operation": operation, "sys_id": r.id, "sys_mod_count": r.count,
		"sys_updated_on": r.data["sys_updated_on"], "sys_updated_by": actor, "sys_created_on": r.data["sys_created_on"]}
	if operation == "delete" {
		message["sys_mod_count"], message["sys_updated_on"] = r.count+1, t.now().Format(layout)
	} else {
		fields := make(map[string]string, len(r.data))
		for _, f := range t.tables[object].fields {
			if !f.Journal && !system(f.Name) {
				fields[f.Name] = r.data[f.Name]
			}
		}
		message["fields"] = fields
	}
	body, err := json.Marshal(message)
	if err != nil {
		return // strings and numbers always marshal
	}
	mac := hmac.New(sha256.New, []byte(t.opt.Credentials.WebhookSecrets[0]))
	fmt.Fprintf(mac, "%s.%s", at, body)
	signature := "v1=" + hex.EncodeToString(mac.Sum(nil))
	t.kit.Push(twin.Webhook{Request: func(url string) (*http.Request, error) {
		req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Sorrel-Timestamp", at)
		req.Header.Set("X-Sorrel-Signature", signature)
		return req, nil
	}})
}

func system(field string) bool { return len(field) > 4 && field[:4] == "sys_" }
