package store

import "time"

// WholeSeconds is the form in which every adapter keeps Op.Expires: UTC, fractions of a second dropped.
// The zero time stays zero (never).
func WholeSeconds(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Unix(t.Unix(), 0).UTC()
}

// Expired is the one rule of expiry: an entry is gone for reads and for preconditions from the second named
// by expires on.
func Expired(expires, now time.Time) bool {
	return !expires.IsZero() && expires.Unix() <= now.Unix()
}
