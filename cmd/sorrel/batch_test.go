package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sorrel/shared/fault"
	"sorrel/shared/flow/batch"
)

func TestBar(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]batch.Loaded{
		"netsuite product: 45,000 of 100,000 [#########...........]  45 % 2,500/s, 22s left": {Records: 45_000, Total: 100_000},
		"netsuite product: 0 of 10 [....................]   0 % 2,500/s, 0s left":            {Total: 10},
		"netsuite product: 12 of 10 [####################] 100 % 2,500/s":                    {Records: 12, Total: 10}, // more came meanwhile
		"netsuite product: 1,234 records, 2,500/s":                                           {Records: 1234},
	} {
		l.Platform, l.Entity = "netsuite", "product"
		if got := barText(l, 2500); got != cut(want, 79) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := barText(batch.Loaded{Platform: "salesforce", Entity: strings.Repeat("x", 40), Records: 1_234_567, Total: 98_765_432}, 1); utf8.RuneCountInString(got) > 79 {
		t.Errorf("%q", got)
	}
}

// On a terminal one line is drawn over and over; elsewhere there is a line a second. Waiting is told below.
func TestBarIsDrawn(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		var errs bytes.Buffer
		b := &loadBar{s: screen{err: &errs}, on: on, began: time.Now()}
		b.show(batch.Loaded{Platform: "zendesk", Entity: "order", Records: 1, Queued: 1})
		b.show(batch.Loaded{Platform: "zendesk", Entity: "order", Records: 2, Queued: 2})
		b.show(batch.Loaded{Platform: "zendesk", Entity: "order", Records: 3, Queued: 3, Complete: true})
		b.last = time.Time{}
		b.waits(fault.New(fault.Throttled, "zendesk", "slow down"))
		b.end()
		got := errs.String()
		if strings.Count(got, "\r") != map[bool]int{true: 2, false: 0}[on] || strings.Count(got, "\n") != map[bool]int{true: 2, false: 3}[on] || !strings.Contains(got, "waiting: zendesk: throttled: slow down") {
			t.Errorf("on a terminal %v: %q", on, got)
		}
	}
}
