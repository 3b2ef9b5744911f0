package drift

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"sorrel/shared/flow/reconcile"
)

// Tone is what a piece of text should look like, where it can.
type Tone int

// The tones.
const (
	Plain Tone = iota
	Heading
	Good
	Bad
	Doubt
	Faint
)

const width = 80

// text writes lines of at most 80 columns.
type text struct {
	b     strings.Builder
	paint func(Tone, string) string
}

// Text shows a report. paint colours; nil leaves all as it is.
func Text(w io.Writer, r reconcile.Report, paint func(Tone, string) string) error {
	if paint == nil {
		paint = func(_ Tone, s string) string { return s }
	}
	t := &text{paint: paint}
	t.head(r)
	t.sets(r.Sets)
	for _, s := range r.Sets {
		t.set(s)
	}
	t.limits(r.Sets)
	_, err := io.WriteString(w, t.b.String())
	return err
}

func (t *text) line(tone Tone, indent int, s string) {
	for _, part := range wrap(clean(s), width-indent) {
		t.b.WriteString(strings.Repeat(" ", indent) + t.paint(tone, part) + "\n")
	}
}

func (t *text) head(r reconcile.Report) {
	line, open := verdict(r)
	tone := Good
	switch {
	case r.State == reconcile.Running:
		tone = Plain
	case r.State != reconcile.Done:
		tone = Bad
	case len(open) > 0:
		tone = Doubt
	}
	t.line(Heading, 0, "Reconciliation "+r.ID)
	t.line(tone, 0, line)
	how := "by counts of modifications"
	if r.Mode == reconcile.Full {
		how = "by reading everything"
	}
	if r.DryRun {
		how += ", dry run"
	}
	t.line(Faint, 0, fmt.Sprintf("%s; by %s, %s to %s UTC; policy %s, configuration %s", how, r.By, moment(r.Started, second), moment(r.Ended, second), r.Policy, r.Config))
	for _, o := range open {
		t.line(Doubt, 2, o)
	}
}

func (t *text) sets(sets []reconcile.Set) {
	if len(sets) == 0 {
		return
	}
	t.b.WriteString("\n")
	t.line(Heading, 0, fmt.Sprintf("%-10s %-16s %9s %9s %7s %7s %6s %7s", "platform", "object", "there", "equal", "differ", "healed", "people", "calls"))
	row := func(p, object string, s reconcile.Set, found, healed, excepted, calls int) {
		t.line(Plain, 0, fmt.Sprintf("%-10s %-16s %9s %9s %7s %7s %6s %7s", cut(p, 10), cut(object, 16), count(s.There), count(s.Equal), count(found), count(healed), count(excepted), count(calls)))
	}
	found, healed, excepted := 0, 0, 0
	for _, s := range sets {
		row(s.Platform, s.Object, s, s.Found(), s.Healed(), s.Excepted(), s.Calls.Sum())
		found, healed, excepted = found+s.Found(), healed+s.Healed(), excepted+s.Excepted()
	}
	all, calls := total(sets)
	if len(sets) > 1 {
		row("together", "", all, found, healed, excepted, calls)
	}
	if all.FullCalls == 0 {
		t.line(Faint, 0, fmt.Sprintf("calls to the platforms: %s; what reading everything takes is known after a full run", count(calls)))
		return
	}
	t.line(Faint, 0, fmt.Sprintf("calls to the platforms: %s, where reading everything takes about %s: %s", count(calls), count(all.FullCalls), share(calls, all.FullCalls)))
}

func (t *text) set(s reconcile.Set) {
	if s.State == reconcile.Done && s.Found() == 0 && s.Unexplained == 0 && !s.Capped && len(s.Exceptions) == 0 {
		return
	}
	t.b.WriteString("\n")
	t.line(Heading, 0, fmt.Sprintf("%s %s (%s), as of %s UTC", s.Platform, s.Object, s.Entity, moment(s.AsOf, second)))
	if s.State != reconcile.Done {
		t.line(Bad, 2, strings.TrimSuffix(state(s)+": "+s.Reason, ": "))
	}
	if s.Capped {
		t.line(Doubt, 2, "more differed than may be healed without people: nothing was healed")
	}
	if s.Unexplained > 0 {
		t.line(Doubt, 2, fmt.Sprintf("counts still differ by %s after %d rounds", count(s.Unexplained), s.Rounds))
	}
	if from, to := span(s.Buckets); s.Found() > 0 && !to.IsZero() {
		t.line(Plain, 2, "differing, by when they were modified last")
		t.line(Bad, 2, sparkline(groups(s.Buckets, width-4)))
		first, last := moment(from, day), moment(to, day)
		t.line(Faint, 2, first+strings.Repeat(" ", max(1, width-4-len(first)-len(last)))+last)
	}
	for _, d := range s.Drift {
		if d.Found == 0 {
			continue
		}
		t.line(Plain, 2, fmt.Sprintf("%s %s: %s; %s healed, %s left to people", count(d.Found), d.Kind, meaning(d.Kind), count(d.Healed), count(d.Excepted)))
		for _, x := range d.Samples[:min(len(d.Samples), shown)] {
			said := fmt.Sprintf("%s  there %s, here %s", x.ID, named(x.There.At, x.There.Seq), named(x.Here.At, x.Here.Seq))
			if a := about(x); a != "" {
				said += "  " + a
			}
			t.line(Faint, 4, cut(said, width-4))
		}
		if more := d.Found - min(len(d.Samples), shown); more > 0 && len(d.Samples) > 0 {
			t.line(Faint, 4, "and "+count(more)+" more")
		}
	}
	if n := len(s.Exceptions); n > 0 {
		t.line(Doubt, 2, fmt.Sprintf("%s for people: %s", exceptions(n), cut(strings.Join(s.Exceptions[:min(n, shown)], ", "), 2*width)))
	}
}

// limits lists once what no comparison of the run could have seen.
func (t *text) limits(sets []reconcile.Set) {
	var said []string
	for _, s := range sets {
		for _, l := range s.Limits {
			if !slices.Contains(said, l) {
				said = append(said, l)
			}
		}
	}
	if len(said) > 0 {
		t.b.WriteString("\n")
		t.line(Plain, 0, "What this could not have seen:")
	}
	for _, l := range said {
		t.line(Faint, 2, l)
	}
}

// shown is how many samples of a kind stand in a text.
const shown = 5

func exceptions(n int) string {
	if n == 1 {
		return "1 exception"
	}
	return count(n) + " exceptions"
}

func state(s reconcile.Set) string {
	if s.State == "" {
		return "not begun"
	}
	return s.State
}

// sparkline draws one character per value; what is above 0 is never blank.
func sparkline(values []int) string {
	most := 0
	for _, v := range values {
		most = max(most, v)
	}
	bars := []rune("▁▂▃▄▅▆▇█")
	out := make([]rune, len(values))
	for i, v := range values {
		if out[i] = '·'; v > 0 {
			out[i] = bars[(v*len(bars)-1)/most]
		}
	}
	return string(out)
}

// clean takes what could move a terminal's cursor out of a text that somebody else wrote.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// wrap breaks a text at spaces; a word that is longer than a line is broken.
func wrap(s string, n int) []string {
	var out []string
	for utf8.RuneCountInString(s) > n {
		r := []rune(s)
		at := n
		for i := n; i > n/2; i-- {
			if r[i] == ' ' {
				at = i
				break
			}
		}
		out = append(out, strings.TrimRight(string(r[:at]), " "))
		s = strings.TrimLeft(string(r[at:]), " ")
	}
	return append(out, s)
}
