// Package drift shows the report of a reconciliation to people: as text of 80 columns, and as one HTML page that needs nothing else.
// Both are functions of the report alone, and hold no value of a record: ids, versions, names of fields and counts.
package drift

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/flow/reconcile"
)

// verdict is the run in one line, and why it leaves something open.
func verdict(r reconcile.Report) (line string, open []string) {
	open = r.Statement("").Open()
	found, healed, excepted := 0, 0, 0
	for _, s := range r.Sets {
		found, healed, excepted = found+s.Found(), healed+s.Healed(), excepted+s.Excepted()
	}
	switch {
	case r.State == reconcile.Running:
		return "still running", nil
	case r.State != reconcile.Done:
		return "failed: " + r.Reason, open
	case len(open) == 0 && found == 0:
		return "complete: nothing differed", nil
	case len(open) == 0:
		return fmt.Sprintf("complete: %s differed, all handed to the hub to be healed", count(found)), nil
	case r.DryRun:
		return fmt.Sprintf("dry run: %s differ, nothing was healed", count(found)), open
	}
	return fmt.Sprintf("open: %s differed, %s healed, %s left to people", count(found), count(healed), count(excepted)), open
}

// total adds up the sets. What a full read takes is known in total only if it is of each.
func total(sets []reconcile.Set) (t reconcile.Set, calls int) {
	known := true
	for _, s := range sets {
		known = known && (s.FullCalls > 0 || s.Calls.Sum() == 0)
		t.There, t.Here, t.Compared, t.Equal, t.FullCalls = t.There+s.There, t.Here+s.Here, t.Compared+s.Compared, t.Equal+s.Equal, t.FullCalls+s.FullCalls
		calls += s.Calls.Sum()
	}
	if !known {
		t.FullCalls = 0
	}
	return t, calls
}

// span is the time that buckets cover; buckets without an end count for what they have.
func span(buckets []reconcile.Bucket) (from, to time.Time) {
	for _, b := range buckets {
		for _, at := range []time.Time{b.From, b.To} {
			if at.IsZero() {
				continue
			}
			if from.IsZero() || at.Before(from) {
				from = at
			}
			if at.After(to) {
				to = at
			}
		}
	}
	return from, to
}

// groups is drift gathered into n parts of the buckets' time, each as long as the others.
func groups(buckets []reconcile.Bucket, n int) []int {
	from, to := span(buckets)
	out := make([]int, n)
	for _, b := range buckets {
		if b.Drift > 0 {
			out[place(b, from, to, n)] += b.Drift
		}
	}
	return out
}

func place(b reconcile.Bucket, from, to time.Time, n int) int {
	at := b.From
	if at.IsZero() {
		at = from
	}
	if !to.After(from) {
		return 0
	}
	return min(n-1, int(float64(n)*float64(at.Sub(from))/float64(to.Sub(from))))
}

// share is calls against those of a full read.
func share(calls, full int) string {
	if full <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g %%", 100*float64(calls)/float64(full))
}

// count prints 1,234,567.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

const (
	minute = "2006-01-02 15:04"
	second = "2006-01-02 15:04:05"
	day    = "2006-01-02"
)

func moment(t time.Time, layout string) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(layout)
}

// named is a native record's version for people.
func named(at time.Time, seq int64) string {
	switch {
	case at.IsZero() && seq == 0:
		return "-"
	case at.IsZero():
		return "#" + strconv.FormatInt(seq, 10)
	case seq == 0:
		return moment(at, second)
	}
	return moment(at, second) + " #" + strconv.FormatInt(seq, 10)
}

// meaning says what a kind is.
func meaning(k reconcile.Kind) string {
	switch k {
	case reconcile.Missing:
		return "exists there, and no record knew of it"
	case reconcile.Unlinked:
		return "carries a record's external id; the record knew of none there"
	case reconcile.Duplicated:
		return "carries the external id of a record that has another there"
	case reconcile.Changed:
		return "modified there, with other values than were heard"
	case reconcile.Stale:
		return "modified there, with the values that were heard"
	case reconcile.Deleted:
		return "deleted there, unheard"
	case reconcile.Merged:
		return "merged into another there, unheard"
	case reconcile.Extra:
		return "known here, and unknown there"
	}
	return ""
}

// about is what a sample says beside its ids and versions.
func about(s reconcile.Sample) string {
	var out []string
	if s.Into != "" {
		out = append(out, "into "+s.Into)
	}
	if len(s.Fields) > 0 {
		out = append(out, strings.Join(slices.Clone(s.Fields), ", "))
	}
	if s.Detail != "" {
		out = append(out, s.Detail)
	}
	return strings.Join(out, "; ")
}
