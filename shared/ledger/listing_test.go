package ledger

import (
	"context"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// A listing is moved on by one at a time, whose own lost answer it recognises; others are told.
func TestListing(t *testing.T) {
	t.Parallel()
	now := epoch
	mode := storetest.None
	s := &storetest.Faulty{Store: store.NewMemory(func() time.Time { return now }), Next: func(op string, _ []store.Key) storetest.Fault {
		if op == storetest.OpCommit {
			return mode
		}
		return storetest.None
	}}
	l := New(s, func() time.Time { return now })
	move := func(n Listing, cursor string) (Listing, error) {
		n.Cursor = cursor
		return l.MoveListing(t.Context(), n)
	}
	begin := must[Listing](t)(l.Listing(t.Context(), "netsuite", "item"))
	one := must[Listing](t)(move(begin, `{"v":1}`))
	if _, err := move(begin, "late"); !fault.Is(err, fault.Conflict) {
		t.Errorf("whoever read the beginning has moved it: %v", err)
	}
	mode = storetest.FailAfter
	two, err := move(one, "2")
	if err != nil || two.Cursor != "2" {
		t.Errorf("%+v, %v", two, err)
	}
	if _, err := move(one, "also 2"); !fault.Is(err, fault.Conflict) {
		t.Errorf("%v", err)
	}
	mode = storetest.FailBefore
	if _, err := move(two, "3"); !fault.Is(err, fault.Down) {
		t.Error(err)
	}
	mode = storetest.None
	two.Holder, two.Loading = &Holder{Run: "r", Life: "1", Place: "here", Until: now.Add(time.Minute)}, &Loading{By: "ada", Began: now, Records: 7}
	two.Account = "acme"
	check(t, func() error { _, err := l.MoveListing(t.Context(), two); return err }())
	check(t, func() error {
		_, err := l.MoveListing(t.Context(), Listing{Platform: "netsuite", Object: "customer"})
		return err
	}())
	check(t, func() error {
		_, err := l.MoveListing(t.Context(), Listing{Platform: "netsuites", Object: "x"})
		return err
	}())
	var objects []string
	for n, err := range l.Listings(t.Context(), "netsuite") {
		check(t, err)
		if objects = append(objects, n.Object); n.Object == "item" && (n.Loading.Records != 7 || n.Account != "acme" || n.Holder.Place != "here") {
			t.Errorf("%+v", n)
		}
	}
	if got := strings.Join(objects, " "); got != "customer item" {
		t.Error(got)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range l.Listings(gone, "netsuite") {
		if !fault.Is(err, fault.Down) {
			t.Error(err)
		}
	}

	held := must[Listing](t)(l.Listing(t.Context(), "netsuite", "item"))
	for _, tt := range []struct {
		by   Holder
		at   time.Duration
		held bool
	}{
		{Holder{Run: "r"}, 0, false},
		{Holder{Run: "s"}, 0, true},
		{Holder{Run: "s", Life: "2", Place: "there"}, 0, true},
		{Holder{Run: "s", Life: "1", Place: "here"}, 0, true},
		{Holder{Run: "s", Life: "2", Place: "here"}, 0, false},
		{Holder{Run: "s"}, time.Minute, false},
		{Holder{Run: "s"}, -MaxHold, false}, // by a clock that is wrong
	} {
		if _, got := held.Held(tt.by, now.Add(tt.at)); got != tt.held {
			t.Errorf("%+v: held %v", tt, got)
		}
	}
}
