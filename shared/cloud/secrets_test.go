package cloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/cloud"
	"sorrel/shared/fault"
)

// secret answers one GetSecretValue.
func secret(content string) step {
	b, _ := json.Marshal(map[string]string{"ARN": "arn", "Name": "vendor-keys", "SecretString": content})
	return answer(200, string(b))
}

func TestSecretsHaveCurrentAndPreviousValues(t *testing.T) {
	w := scripted(t, secret(`{"zendesk":"new","netsuite":"same"}`), secret(`{"zendesk":"old","netsuite":"same","gone":"x"}`))
	got, err := w.secrets(calls(new(waits))).Secrets(t.Context())
	if err != nil || !slices.Equal(got["zendesk"], []string{"new", "old"}) || !slices.Equal(got["netsuite"], []string{"same"}) || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
	var a, b struct{ SecretId, VersionStage string }
	w.body(0, &a)
	w.body(1, &b)
	if a.SecretId != "vendor-keys" || a.VersionStage != "AWSCURRENT" || b.VersionStage != "AWSPREVIOUS" {
		t.Errorf("asked for %v and %v", a, b)
	}
}

// clocked returns calls whose clock the test moves.
func clocked() (cloud.Calls, *time.Time) {
	now := epoch
	c := calls(new(waits))
	c.Now = func() time.Time { return now }
	return c, &now
}

var noPrevious = refuse(400, "ResourceNotFoundException")

func TestSecretsAreCached(t *testing.T) {
	c, now := clocked()
	w := scripted(t, secret(`{"k":"1"}`), noPrevious)
	s := w.secrets(c)
	value := func() string {
		t.Helper()
		got, err := s.Secrets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(got["k"], ",")
	}
	for range 2 {
		if got := value(); got != "1" || len(w.ops()) != 2 {
			t.Errorf("%s by requests %v", got, w.ops())
		}
	}
	*now = now.Add(5*time.Minute - 1)
	if value(); len(w.ops()) != 2 {
		t.Error("read again before five minutes were over")
	}
	w.script = []step{secret(`{"k":"2"}`), secret(`{"k":"1"}`)}
	*now = now.Add(1)
	if got := value(); got != "2,1" {
		t.Errorf("after five minutes: %s", got)
	}
	mine, _ := s.Secrets(t.Context())
	mine["k"][0] = "changed"
	if got := value(); got != "2,1" {
		t.Errorf("a caller changed the cache: %s", got)
	}
}

func TestRefreshIsRateLimited(t *testing.T) {
	c, now := clocked()
	w := scripted(t, secret(`{"k":"1"}`), noPrevious)
	s := w.secrets(c)
	refresh := func(want bool) {
		t.Helper()
		if changed, err := s.Refresh(t.Context()); err != nil || changed != want {
			t.Errorf("changed %v, %v; want %v", changed, err, want)
		}
	}
	refresh(true)
	refresh(false)
	*now = now.Add(30*time.Second - 1)
	refresh(false)
	if len(w.ops()) != 2 {
		t.Fatalf("requests %v: forged signatures must not become requests", w.ops())
	}
	*now = now.Add(1)
	w.script = []step{secret(`{"k":"1"}`), noPrevious}
	refresh(false)
	*now = now.Add(time.Minute)
	w.script = []step{secret(`{"k":"2"}`), secret(`{"k":"1"}`)}
	refresh(true)
}

func TestOutageOfSecretsManager(t *testing.T) {
	c, now := clocked()
	down := repeat(4, refuse(500, "InternalServiceError"))
	w := scripted(t, down...)
	s := w.secrets(c)
	for range 3 { // only the first asks
		if _, err := s.Secrets(t.Context()); !fault.Is(err, fault.Down) {
			t.Fatalf("got %v, want down", err)
		}
	}
	if len(w.ops()) != 4 {
		t.Errorf("requests %v", w.ops())
	}
	*now = now.Add(30 * time.Second)
	w.script = []step{secret(`{"k":"1"}`), noPrevious}
	if _, err := s.Secrets(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := *now
	*now = read.Add(time.Hour - 1)
	w.script = down
	if got, err := s.Secrets(t.Context()); err != nil || got["k"][0] != "1" {
		t.Errorf("the copy must serve on for an hour: %v, %v", got, err)
	}
	*now = read.Add(time.Hour)
	if _, err := s.Secrets(t.Context()); !fault.Is(err, fault.Down) {
		t.Errorf("after an hour: %v", err)
	}
}

// One caller that gives up must not make the secret unavailable to the next.
func TestEndedContextIsNoOutage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := scripted(t, between(cancel, loseRequest), secret(`{"k":"1"}`), noPrevious)
	s := w.secrets(calls(new(waits)))
	if _, err := s.Secrets(ctx); err == nil {
		t.Fatal("no error")
	}
	if _, err := s.Secrets(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBadSecretsAreNamedNotShown(t *testing.T) {
	for content, want := range map[string]string{
		`hunter2`:                 "not a JSON object",
		`["hunter2"]`:             "not a JSON object",
		`null`:                    "not a JSON object",
		``:                        "not a JSON object",
		`{"zendesk":{"hunter2"`:   "not a JSON object",
		`{"zendesk":["hunter2"]}`: "zendesk",
		`{"zendesk":null}`:        "zendesk",
	} {
		w := scripted(t, secret(content))
		_, err := w.secrets(calls(new(waits))).Secrets(t.Context())
		if !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", content, err)
		}
	}
}

func TestSecretsAndSettingsArePrintedWithoutValues(t *testing.T) {
	w := scripted(t, secret(`{"zendesk":"hunter2"}`), noPrevious)
	s := w.secrets(calls(new(waits)))
	if _, err := s.Secrets(t.Context()); err != nil {
		t.Fatal(err)
	}
	settings := cloud.Settings{Region: "eu-west-1", AccessKeyID: "hunter2", SecretKey: "hunter2", SessionToken: "hunter2"}
	var out bytes.Buffer
	for _, v := range []any{s, settings, &settings, []any{s, settings}, struct{ S cloud.Settings }{settings}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(b)
	}
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2")} {
		if i := strings.Index(out.String(), leak); i >= 0 {
			t.Errorf("leaked at …%.80s", out.String()[max(0, i-60):])
		}
	}
	if !strings.Contains(out.String(), "vendor-keys") || !strings.Contains(out.String(), "eu-west-1") {
		t.Error("the printed form does not say which secret or region")
	}
}
