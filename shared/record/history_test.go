package record

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Random histories: edits on all platforms under all rules, echoes that come back normalised, late and repeated events,
// proposals with every end, overrides, deletions, merges. See world for what is checked at each step.
//
// SORREL_HISTORIES is how many are played; 100000 takes a quarter of an hour on two busy cores without the race detector.
func TestHistories(t *testing.T) {
	t.Parallel()
	count := 150
	if s := os.Getenv("SORREL_HISTORIES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("SORREL_HISTORIES is %q, want a number", s)
		}
		count = n
	}
	var next, failures atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1); seed <= int64(count) && failures.Load() < 3; seed = next.Add(1) {
				if play(uint64(seed), historySteps) == nil {
					continue
				}
				failures.Add(1)
				for steps := 1; steps <= historySteps; steps++ {
					if err := play(uint64(seed), steps); err != nil {
						t.Errorf("history %d fails at step %d: %v", seed, steps, err)
						break
					}
				}
			}
		})
	}
	wg.Wait()
}

const historySteps = 24

// play plays one history, and returns the law that it breaks.
func play(seed uint64, steps int) (err error) {
	defer func() {
		if law, is := recover().(broken); is {
			err = fmt.Errorf("%s", law)
		}
	}()
	w := newWorld(seed, Record{ID: "customer/1", Views: map[string]View{}})
	for step := range steps {
		frozen := ""
		if step%8 == 3 {
			frozen = fmt.Sprintf("%+v", w.r)
		}
		before := w.r
		w.step()
		w.must(frozen == "" || frozen == fmt.Sprintf("%+v", before), "a record was modified that was given as an argument")
		if step == historySteps/2 {
			w.explained()
		}
	}
	w.quiet()
	w.explained()
	return nil
}

// step lets one thing happen.
func (w *world) step() {
	who := ""
	w.moved, w.created = 0, 0
	switch living := w.living(); {
	case len(living) == 0, w.chance(12):
		who = w.create()
	case w.chance(14):
		w.remove(pick(w, living))
	case w.chance(9):
		w.override()
	case w.chance(14):
		w.assign()
	case w.chance(9):
		w.refuse()
	case w.chance(4):
		w.decide()
	case w.chance(8):
		w.now = w.now.Add(time.Duration(w.rng.IntN(150)) * time.Minute)
		w.note("time passes to %s", w.now.Format(time.TimeOnly))
		w.refold()
	case w.chance(10):
		w.divide()
	case w.chance(8):
		w.late()
	default:
		who = pick(w, living)
		w.edit(who)
	}
	if w.storm && !w.chance(4) {
		w.partly()
		return
	}
	calm := !w.storm
	for p, n := range w.quiet() {
		allowed := 1 + w.moved + w.created // an owner that answers, and what a new native record says of itself
		if p == who || w.returned() {      // put back after it waited
			allowed++
		}
		w.must(!calm || n <= allowed, "%d writes to %s after one step", n, p)
	}
}

// returned reports whether people went back to a former value somewhere. A platform that repeats such a value with its
// whole record says it anew, as far as is known (see View.Since), and that may change what is newest.
func (w *world) returned() bool {
	for _, v := range w.r.Views {
		for f, c := range v.Said {
			if len(c.Spans) > 1 && v.Since(f) == c.Version && c.Spans[c.Value].First != c.Version {
				return true
			}
		}
	}
	return false
}

// partly delivers and writes some of what there is, in any order.
func (w *world) partly() {
	var batch []Observation
	for _, p := range w.some(everyPlatform, 0) {
		s := w.on[p]
		n := w.rng.IntN(len(s.sent) + 1)
		batch = append(batch, s.sent[len(s.sent)-n:]...) // the newest overtake
		s.sent = slices.Clone(s.sent[:len(s.sent)-n])
	}
	if len(batch) > 0 {
		w.deliver(batch)
	}
	for _, p := range w.some(everyPlatform, 0) {
		w.write(p)
	}
}

func (w *world) create() string {
	p := pick(w, everyPlatform)
	s := w.on[p]
	if s.exists || !w.r.Views[p].Exists() && w.r.Views[p].ID != "" && w.chance(2) {
		return p
	}
	w.reborn(s)
	v := w.tick(s)
	s.exists, s.born = true, v.At
	if w.r.Views[p].ID == "" {
		s.fields, s.clouded = map[string]Value{}, map[string]bool{}
	}
	fields := slices.Sorted(maps.Keys(w.rules.Fields))
	for _, f := range fields {
		if w.chance(2) {
			s.fields[f] = s.normal(pick(w, values))
		}
	}
	w.note("%s creates %v", p, s.fields)
	full := s.full
	s.full = true
	w.send(s, v, fields, false)
	s.full = full
	return p
}

func (w *world) remove(p string) {
	s := w.on[p]
	s.exists = false
	o := Observation{Ref: w.ref(s), Version: w.tick(s), Gone: true, Trace: "gone"}
	if w.chance(3) {
		o.Into = s.name + "-2"
	}
	s.sent, s.ever = append(s.sent, o), append(s.ever, o)
	w.note("%s deletes %s", p, o.Into)
}

func (w *world) edit(p string) {
	s := w.on[p]
	fields := w.some(slices.Sorted(maps.Keys(w.rules.Fields)), 1)
	fields = fields[:min(len(fields), 1+w.rng.IntN(3))]
	for _, f := range fields {
		if s.clouded[f] = w.chance(12); !s.clouded[f] {
			delete(s.clouded, f)
			if _, some := s.set[f]; !some || !w.chance(3) { // else the same again, whatever we wrote over it
				s.set[f] = pick(w, values)
			}
			s.fields[f] = s.normal(s.set[f])
		}
		w.note("%s edits %s: %v (unusable %v)", p, f, s.fields[f], s.clouded[f])
	}
	w.send(s, w.tick(s), fields, false)
}

// late sends old events once more.
func (w *world) late() {
	var batch []Observation
	for _, p := range everyPlatform {
		for range w.rng.IntN(3) {
			if ever := w.on[p].ever; len(ever) > 0 && w.r.Views[p].ID != "" {
				batch = append(batch, pick(w, ever))
			}
		}
	}
	if w.storm || len(batch) == 0 { // some of them may not have arrived yet
		return
	}
	w.note("%d old events come again", len(batch))
	before := w.r
	w.deliver(batch)
	if !alike(before, w.r) {
		w.must(false, "old events change something:\n%s", difference(before, w.r))
	}
}

func (w *world) override() {
	f := pick(w, slices.Sorted(maps.Keys(w.rules.Fields)))
	o := Override{Value: pick(w, values), By: "stew", Reason: "because", When: w.now, Trace: "override"}
	if w.chance(2) {
		o = Chosen(w.r, f, o)
	} else {
		o.Until = w.now.Add(time.Duration(1+w.rng.IntN(100)) * time.Minute)
	}
	w.note("override %s: %v until %s", f, o.Value, o.Until.Format(time.TimeOnly))
	w.r.Overrides = maps.Clone(w.r.Overrides)
	if w.r.Overrides == nil {
		w.r.Overrides = map[string]Override{}
	}
	w.r.Overrides[f] = o
	w.refold()
}

func (w *world) assign() {
	stages := values
	if w.chance(2) {
		stages = []Value{values[2], values[4]} // as a workflow would
	}
	a := Assigned{Value: pick(w, stages), When: w.now, By: "flow", Trace: "run"}
	w.note("assign stage: %v", a.Value)
	w.r.Assigned = map[string]Assigned{"stage": a}
	w.refold()
}

// refuse changes what platforms refuse, and lets go of holds.
func (w *world) refuse() {
	s := w.on[pick(w, everyPlatform)]
	f := pick(w, slices.Sorted(maps.Keys(w.rules.Fields)))
	if w.chance(2) {
		s.refuses = map[string]Value{f: pick(w, values)}
		w.note("%s refuses %v from now on", s.name, s.refuses)
		return
	}
	s.refuses = map[string]Value{}
	held := maps.Clone(w.r.Held)
	for k := range held {
		if p, _ := SplitHoldKey(k); p == s.name {
			delete(held, k)
		}
	}
	if w.r.Held = held; len(held) == 0 {
		w.r.Held = nil
	}
	w.note("%s refuses nothing from now on", s.name)
}

// decide enters verdicts, sensible and otherwise.
func (w *world) decide() {
	keys := slices.Sorted(maps.Keys(w.r.Proposals))
	if len(keys) == 0 {
		return
	}
	p := w.r.Proposals[pick(w, keys)]
	v := Verdict{Proposal: p.ID, Revision: p.Revision, Approve: w.chance(2), By: "fiona"}
	if w.chance(6) {
		v.Revision++
	}
	before := w.r
	after, events, err := Decide(w.r, v, w.now)
	w.note("decide %s (%s %s %v): approve %v, %v", p.ID, p.Platform, p.Status, p.names(), v.Approve, err)
	w.must(err == nil || alike(before, after), "a refused decision changes the record")
	wanted := ProposalRejected
	if v.Approve {
		wanted = ProposalApproved
	}
	expired := p.Status == ProposalExpired || p.Status == ProposalOpen && !p.Expires.IsZero() && !w.now.Before(p.Expires)
	switch {
	case p.Status == wanted || v.Approve && p.Status == ProposalApplied:
		w.must(err == nil && len(events) == 0 && alike(before, after), "deciding the same again is no empty decision: %v", err)
	case expired:
		w.must(err == ErrExpired, "an expired proposal can be decided: %v", err)
	case p.Status != ProposalOpen:
		w.must(err == ErrDecided, "a decided proposal can be decided otherwise: %v", err)
	case v.Revision != p.Revision:
		w.must(err == ErrMoved, "something else can be decided than what was shown: %v", err)
	default:
		w.must(err == nil && len(events) == 1, "an open proposal cannot be decided: %v %v", err, events)
		again, more, err := Decide(after, v, w.now)
		w.must(err == nil && len(more) == 0 && alike(again, after), "deciding the same again is no empty decision: %v", err)
		other := v
		other.Approve = !v.Approve
		_, _, err = Decide(after, other, w.now)
		w.must(err == ErrDecided, "a decided proposal can be decided otherwise: %v", err)
	}
	w.r = after
	w.refold()
	if len(events) > 0 && v.Approve {
		w.moved++
	}
}

// divide merges another record into this one, which brings a platform along, or takes it out again.
func (w *world) divide() {
	for _, id := range slices.Sorted(maps.Keys(w.others)) {
		if w.chance(2) {
			continue
		}
		came := w.r.Absorbed[id]
		was := w.r
		into, other := Divide(w.r, w.others[id])
		w.note("divide: %v goes with %s", came, id)
		for _, p := range came {
			w.must(alikeViews(other.Views[p], was.Views[p]), "%s does not go with %s as it is", p, id)
			w.must(!into.Views[p].Exists(), "%s stays though it goes", p)
			s := w.on[p]
			s.exists, s.sent, s.ever, s.lived = false, nil, nil, false
			if v := into.Views[p]; v.ID != "" {
				w.natives++
			}
		}
		delete(w.others, id)
		w.r = into
		w.refold()
		return
	}
	p := pick(w, everyPlatform)
	s := w.on[p]
	if s.exists || len(s.sent) > 0 || w.r.Views[p].ID != "" {
		return
	}
	w.reborn(s)
	w.natives++
	other := Record{ID: ID(fmt.Sprintf("customer/other%d", w.natives)), Views: map[string]View{}}
	v := w.tick(s)
	s.exists, s.born, s.fields, s.clouded = true, v.At, map[string]Value{}, map[string]bool{}
	for _, f := range slices.Sorted(maps.Keys(w.rules.Fields)) {
		s.fields[f] = s.normal(pick(w, values))
	}
	w.send(s, v, slices.Sorted(maps.Keys(w.rules.Fields)), false)
	other = w.observed(other, s.sent)
	other, _ = Fold(other, w.rules, w.forms, w.now)
	s.sent = nil
	into, from, ok := Unite(w.r, other)
	w.must(ok && from.Into == w.r.ID && len(from.Views) == 0, "cannot unite %+v", from)
	back, separate := Divide(into, from)
	w.must(maps.EqualFunc(back.Views, w.r.Views, alikeViews) && maps.EqualFunc(separate.Views, other.Views, alikeViews), "dividing does not restore the views")
	w.note("unite: %s comes with %v", p, s.fields)
	from, _ = Fold(from, w.rules, w.forms, w.now)
	w.must(len(from.Golden) == 0, "a redirect has golden fields")
	w.others[from.ID] = from
	w.r = into
	w.refold()
}

// alike compares records deeply. Reflection would take most of the time of the histories.
func alike(a, b Record) bool {
	return maps.EqualFunc(a.Views, b.Views, alikeViews) && maps.Equal(a.Golden, b.Golden) && maps.Equal(a.Held, b.Held) &&
		maps.EqualFunc(a.Overrides, b.Overrides, func(x, y Override) bool {
			seen := maps.Equal(x.Seen, y.Seen)
			x.Seen, y.Seen = nil, nil
			return seen && reflect.DeepEqual(x, y)
		}) && maps.Equal(a.Assigned, b.Assigned) && maps.EqualFunc(a.Proposals, b.Proposals, alikeProposals) &&
		maps.Equal(a.Granted, b.Granted) && maps.Equal(a.Suspects, b.Suspects) && slices.Equal(a.Apart, b.Apart) &&
		maps.EqualFunc(a.Absorbed, b.Absorbed, func(x, y []string) bool { return slices.Equal(x, y) }) &&
		slices.EqualFunc(a.Withdrawn, b.Withdrawn, alikeViews) && a.ID == b.ID && a.Seq == b.Seq && a.Policy == b.Policy && a.Into == b.Into
}

func alikeViews(a, b View) bool {
	same := maps.EqualFunc(a.Said, b.Said, Cell.same) && maps.Equal(a.Wrote, b.Wrote) && reflect.DeepEqual(a.Past, b.Past) && reflect.DeepEqual(a.Echo, b.Echo)
	return same && a.Ref == b.Ref && a.External == b.External && a.Into == b.Into && a.Made == b.Made && a.Leaving == b.Leaving && a.Born == b.Born && a.Died == b.Died && a.Heard == b.Heard && a.Denied == b.Denied
}

func alikeProposals(a, b Proposal) bool {
	same := maps.Equal(a.Fields, b.Fields)
	a.Fields, b.Fields = nil, nil
	return same && fmt.Sprint(a) == fmt.Sprint(b)
}

func alikeOutcomes(a, b Outcome) bool {
	return slices.Equal(a.Changes, b.Changes) && slices.Equal(a.Decisions, b.Decisions) && reflect.DeepEqual(a.Events, b.Events) &&
		slices.EqualFunc(a.Closed, b.Closed, alikeProposals)
}

func alikePatches(a, b Patch) bool {
	return maps.Equal(a.Fields, b.Fields) && maps.Equal(a.Kept, b.Kept) && a.Create == b.Create && a.Delete == b.Delete && a.Withdraw == b.Withdraw
}

// difference shows the members in which two values differ.
func difference(a, b any) string {
	var sb strings.Builder
	if r, is := a.(Record); is {
		for p, v := range r.Views {
			if w := b.(Record).Views[p]; !alikeViews(v, w) {
				sb.WriteString(p + " " + difference(v, w))
			}
		}
	}
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		if x, y := fmt.Sprintf("%+v", va.Field(i)), fmt.Sprintf("%+v", vb.Field(i)); x != y {
			fmt.Fprintf(&sb, "%s:\n   %s\n   %s\n", va.Type().Field(i).Name, x, y)
		}
	}
	return sb.String()
}
