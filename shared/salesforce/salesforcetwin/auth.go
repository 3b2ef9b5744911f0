package salesforcetwin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// token serves the sign-in. https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm
func (t *Twin) token(w http.ResponseWriter, r *http.Request) {
	t.kit.Called("POST token")
	refuse := func(code, description string) {
		t.kit.Unauthorised()
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": description})
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	if err := r.ParseForm(); err != nil {
		refuse("invalid_request", "the form cannot be read")
		return
	}
	switch grant := r.PostForm.Get("grant_type"); grant {
	case "client_credentials":
		id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
		if user, pass, ok := r.BasicAuth(); ok {
			id, secret = user, pass
		}
		if id != t.opts.ClientID {
			refuse("invalid_client_id", "client identifier invalid")
			return
		}
		if !hmac.Equal([]byte(secret), []byte(t.opts.ClientSecret)) {
			refuse("invalid_client", "invalid client credentials")
			return
		}
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if code, description := t.assertion(r.PostForm.Get("assertion")); code != "" {
			refuse(code, description)
			return
		}
	case "":
		refuse("invalid_request", "grant type is missing")
		return
	default:
		refuse("unsupported_grant_type", "grant type not supported")
		return
	}
	now := t.opts.Now()
	t.mu.Lock()
	access := fmt.Sprintf("%s!AQ%016x%016x", t.opts.OrgID[:15], t.rng.Uint64(), t.rng.Uint64())
	t.sessions[access] = now.Add(t.opts.SessionLife)
	t.mu.Unlock()
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	id := "https://login.salesforce.com/id/" + t.opts.OrgID + "/" + IntegrationUser
	issued := strconv.FormatInt(now.UnixMilli(), 10)
	mac := hmac.New(sha256.New, []byte(t.opts.ClientSecret))
	mac.Write([]byte(id + issued))
	writeJSON(w, http.StatusOK, map[string]string{"access_token": access, "instance_url": scheme + "://" + r.Host, "id": id, "token_type": "Bearer",
		"scope": "api", "issued_at": issued, "signature": base64.StdEncoding.EncodeToString(mac.Sum(nil))})
}

// assertion checks a JWT: signature by the app's certificate, issuer, user, audience, and an end at most five
// minutes ahead, which clients say as a number or as text.
func (t *Twin) assertion(text string) (code, description string) {
	if t.opts.Key == nil {
		return "invalid_app_access", "user is not admin approved to access this app"
	}
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation(), jwt.WithJSONNumber())
	if _, err := parser.ParseWithClaims(text, claims, func(*jwt.Token) (any, error) { return &t.opts.Key.PublicKey, nil }); err != nil {
		return "invalid_grant", "invalid assertion"
	}
	said := func(name string) string { s, _ := claims[name].(string); return s }
	if said("iss") != t.opts.ClientID {
		return "invalid_client_id", "client identifier invalid"
	}
	if aud := said("aud"); aud != "https://login.salesforce.com" && aud != "https://test.salesforce.com" {
		return "invalid_grant", "audience is invalid"
	}
	if said("sub") != t.opts.Username {
		return "invalid_grant", "user hasn't approved this consumer"
	}
	var end string
	switch e := claims["exp"].(type) {
	case json.Number:
		end = e.String()
	case string:
		end = e
	}
	seconds, err := strconv.ParseFloat(end, 64)
	ahead := time.Unix(int64(seconds), 0).Sub(t.opts.Now())
	if err != nil || ahead <= 0 || ahead > 5*time.Minute+10*time.Second {
		return "invalid_grant", "expired or too long assertion"
	}
	return "", ""
}

// session checks the caller's token.
func (t *Twin) session(r *http.Request) *apiError {
	scheme, access, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if access == "" || scheme != "Bearer" && scheme != "OAuth" {
		return &apiError{status: http.StatusUnauthorized, code: "INVALID_AUTH_HEADER", message: "INVALID_AUTH_HEADER"}
	}
	t.mu.Lock()
	end, ok := t.sessions[access]
	if ok && !t.opts.Now().Before(end) {
		delete(t.sessions, access)
		ok = false
	}
	t.mu.Unlock()
	if !ok {
		return &apiError{status: http.StatusUnauthorized, code: "INVALID_SESSION_ID", message: "Session expired or invalid"}
	}
	return nil
}
