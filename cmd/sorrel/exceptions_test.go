package main

import (
	"testing"
	"time"
)

func TestUntil(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 8, 15, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2027-01-31":                "2027-01-31T00:00:00Z",
		"2027-01-31T12:00:00+01:00": "2027-01-31T11:00:00Z",
		"12h":                       "2026-11-02T20:15:00Z",
		"90m":                       "2026-11-02T09:45:00Z",
		"7d":                        "2026-11-09T08:15:00Z",
	} {
		if got, err := until(text, now); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s is %s (%v), want %s", text, got, err, want)
		}
	}
	if got, err := until("", now); err != nil || !got.IsZero() {
		t.Errorf("no end is %s (%v)", got, err)
	}
	for _, bad := range []string{"yesterday", "-1h", "0d", "-3d", "d", "7", "2027-13-01", "1.5d"} {
		if got, err := until(bad, now); err == nil {
			t.Errorf("%s is %s", bad, got)
		}
	}
}
