package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	all := []Class{Internal, Malformed, TooLarge, Unauthenticated, Forbidden, NotFound, Contract, Refused, MissingReference, Conflict, Throttled, Down, OverQuota, Unknown, Unsettled}
	if len(Table()) != len(all) {
		t.Fatalf("%d rows for %d classes", len(Table()), len(all))
	}
	for _, c := range all {
		row := RowOf(New(c, "op", "detail"))
		if row.Class != c || row.Status < 400 || row.Status > 599 || row.Title == "" || (row.Queue != Retry && row.Queue != Park && row.Queue != Keep) {
			t.Errorf("%s: %+v", c, row)
		}
	}
	if RowOf(errors.New("x")).Class != Internal || RowOf(nil).Class != Internal {
		t.Error("what nobody classified is internal")
	}
}

func TestWrapKeepsWhatTheCauseKnows(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	cause := &Error{Class: Throttled, Op: "zendesk.write", Code: "429", Fields: []string{"name"}, RetryAt: at, Detail: "too many requests"}
	err := Wrap("", "deliver", "order/7", fmt.Errorf("sending: %w", cause))
	if ClassOf(err) != Throttled || !RetryAt(err).Equal(at) || !Is(err, Throttled) || !errors.Is(err, cause) {
		t.Errorf("%#v", err)
	}
	if o := Outermost(err); o.Detail != "too many requests" || o.Code != "429" {
		t.Errorf("outermost with words: %+v", o)
	}
	if Wrap(Down, "op", "", nil) != nil {
		t.Error("no error became one")
	}
	if err := Wrap(Down, "op", "", cause); ClassOf(err) != Down {
		t.Errorf("a new class does not count: %v", err)
	}
	if Is(nil, Internal) || Outermost(errors.New("x")) != nil || !RetryAt(errors.New("x")).IsZero() {
		t.Error("something out of nothing")
	}
}

func TestTextSaysWhereWhatAndRemedy(t *testing.T) {
	t.Parallel()
	e := &Error{Class: Refused, Op: "zendesk.write", ID: "order/7", Code: "X", Detail: "no", Fields: []string{"name"}, Remedy: "shorten it", Err: errors.New("cause")}
	for _, part := range []string{"zendesk.write(order/7): refused-write X: no", "[name]", ": cause", "(shorten it)"} {
		if !strings.Contains(e.Error(), part) {
			t.Errorf("%q lacks %q", e, part)
		}
	}
}
