package record

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// A world is a record with the platforms that it lives on, played by a seeded random number generator: people edit,
// create, delete and decide there, observations travel late, twice and out of order, and what Project says is written.

var everyPlatform = []string{NetSuite, Salesforce, ServiceNow, Zendesk}

// side is one platform and its native record.
type side struct {
	name    string
	object  string
	exists  bool
	born    time.Time
	last    time.Time // its newest version
	fields  map[string]Value
	set     map[string]Value // what somebody there set last, by field
	clouded map[string]bool  // fields that hold something unusable
	normal  func(Value) Value
	knows   bool // the mapping knows what the platform makes of a value
	told    bool // an answer to a write tells its version, and shows what was made of it
	ours    bool // changes that we make are marked
	full    bool // an event carries the whole record
	refuses map[string]Value
	life    int           // how often its native record was withdrawn
	lived   bool          // it has said anything in this life
	sent    []Observation // under way
	ever    []Observation // everything that was ever sent
}

type world struct {
	rng     *rand.Rand
	rules   Rules
	now     time.Time
	r       Record
	on      map[string]*side
	storm   bool // observations are delivered whenever it suits
	log     []string
	trace   int
	others  map[ID]Record // records that were merged into this one
	natives int
	moved   int // how often something took effect by itself or by a decision in this step
	created int // how many native records were made in this step
	left    int // how many native records have been withdrawn
}

// broken is what a world panics with when a law is broken; play turns it into an error.
type broken string

func (w *world) must(ok bool, format string, args ...any) {
	if !ok {
		panic(broken(fmt.Sprintf(format, args...) + "\n  " + strings.Join(w.log, "\n  ")))
	}
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

func pick[T any](w *world, of []T) T { return of[w.rng.IntN(len(of))] }

// some picks a random part of a list, in random order; at least min of them.
func (w *world) some(of []string, min int) []string {
	mixed := slices.Clone(of)
	w.rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	return mixed[:min+w.rng.IntN(len(mixed)-min+1)]
}

func newWorld(seed uint64, start Record) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), now: epoch, on: map[string]*side{}, others: map[ID]Record{}, r: start}
	w.rules = w.drawRules()
	w.storm = w.chance(2)
	for _, p := range everyPlatform {
		s := &side{name: p, object: "customer", fields: map[string]Value{}, set: map[string]Value{}, clouded: map[string]bool{}, refuses: map[string]Value{},
			normal: pick(w, normalisers), knows: w.chance(2), told: w.chance(2), ours: w.chance(2), full: w.chance(2)}
		if !s.knows && !s.told && !s.ours { // nobody could tell its echo from an edit
			s.knows = true
		}
		// Known gap: of two writes in a row whose answers tell no version, the echo of the first may be taken for what the
		// platform made of the second.
		s.told = s.told || s.ours && w.storm
		w.on[p] = s
	}
	return w
}

var normalisers = []func(Value) Value{
	func(v Value) Value { return v },
	func(v Value) Value { return v },
	func(v Value) Value { // trims, and stores nothing as nothing
		if v.Kind() != Text {
			return v
		}
		if s := strings.TrimSpace(v.Raw()); s != "" {
			return TextValue(s)
		}
		return NullValue()
	},
	func(v Value) Value { // rounds
		if d, number := v.Decimal(); number {
			return NumberValue(d.Round(1))
		}
		return v
	},
	func(v Value) Value { // reformats phone numbers
		digits := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, v.Raw())
		if v.Kind() != Text || len(digits) < 5 {
			return v
		}
		return TextValue("(" + digits[:3] + ") " + digits[3:])
	},
}

func number(s string) Value { return NumberValue(decimal.RequireFromString(s)) }

var values = []Value{NullValue(), TextValue(""), TextValue("a"), TextValue("b"), TextValue("cde"), TextValue(" a "), TextValue("5551234"),
	TextValue("555-1234"), TextValue("(555) 1234"), number("12"), number("1.04"), number("1"), number("0.25"), BoolValue(true), BoolValue(false)}

func (w *world) forms(platform string) func(string, Value) Value {
	s := w.on[platform]
	if s == nil || !s.knows {
		return same
	}
	return func(_ string, v Value) Value {
		if v.IsAbsent() {
			return v
		}
		return s.normal(v)
	}
}

// expression is a function over named values, written in the rule's text so that others can compute it again.
func expression(kind string, names []string, find func(string) Value) (Value, error) {
	switch kind {
	case "coalesce": // the first that is not null
		for _, n := range names {
			if v := find(n); !v.IsNull() {
				return v, nil
			}
		}
		return NullValue(), nil
	case "joined": // all texts, one after the other; anything else cannot be joined
		var sb strings.Builder
		for _, n := range names {
			v := find(n)
			if v.Kind() == Bool {
				return Value{}, errors.New("a truth value cannot be joined")
			}
			sb.WriteString(v.Raw())
		}
		return TextValue(sb.String()), nil
	}
	return Value{}, errors.New("no such expression")
}

func evaluate(kind string, names []string) (func(Lookup) (Value, error), string) {
	return func(find Lookup) (Value, error) { return expression(kind, names, find) }, kind + " " + strings.Join(names, " ")
}

// drawRules makes rules of every kind, with random orders, paths and targets.
func (w *world) drawRules() Rules {
	rules := Rules{Entity: "customer", Version: "v1", Fields: map[string]Rule{}, Platforms: everyPlatform,
		Deletes: map[string]Deletion{}, Deactivated: map[string]Value{"active": BoolValue(false)}, DeletesAt: "customer.yaml:2:1"}
	line := 10
	at := func() string { line++; return fmt.Sprintf("customer.yaml:%d:3", line) }
	paths := func(deciders []string, path Path, otherwise ...Path) map[string]Path {
		out := map[string]Path{}
		for _, p := range everyPlatform {
			if out[p] = pick(w, otherwise); slices.Contains(deciders, p) {
				out[p] = path
			}
		}
		return out
	}
	for _, group := range []string{"billing", "limit", "active"} {
		approval := &Approval{Roles: []string{"finance"}, Expires: time.Duration(w.rng.IntN(3)) * time.Hour, PutBack: w.chance(2), At: at()}
		if w.chance(3) {
			limit := decimal.NewFromInt(int64(w.rng.IntN(3)))
			approval.Auto = []Auto{{Text: "small", At: at(), Holds: func(find Lookup) (bool, error) {
				d, number := find("after.limit").Decimal()
				return number && d.LessThan(limit), nil
			}}}
		}
		owner := pick(w, everyPlatform)
		for _, f := range map[string][]string{"billing": {"street", "city", "terms"}, "limit": {"limit"}, "active": {"active"}}[group] {
			r := Rule{Kind: Owner, Owner: owner, Text: "owner " + owner, At: at(), Approval: approval, Group: group,
				Paths: paths(nil, "", Propose, Propose, Revert, Reject, Ignore), Targets: slices.Sorted(slices.Values(w.some(everyPlatform, 2)))}
			delete(r.Paths, owner)
			others := slices.DeleteFunc(slices.Clone(everyPlatform), func(p string) bool { return p == owner })
			if w.chance(2) {
				r.Meanwhile = w.some(others, 1)
			}
			rules.Fields[f] = r
		}
	}
	contributed := func(kind Survivorship) Rule {
		order := w.some(everyPlatform, 1)
		return Rule{Kind: kind, Order: order, Text: string(kind) + " of " + strings.Join(order, ", "), At: at(), Group: "f",
			Paths: paths(order, Accept, Revert, Reject, Ignore), Targets: slices.Sorted(slices.Values(w.some(everyPlatform, 1)))}
	}
	rules.Fields["phone"] = contributed(Latest)
	rules.Fields["site"] = contributed(Rank)
	rules.Fields["notes"] = contributed(Longest)
	rules.Fields["since"] = contributed(First)
	rules.Fields["tier"] = contributed(Unanimous)
	together := contributed(MostComplete)
	together.Set = []string{"first", "last", "mail"}
	for _, f := range together.Set {
		together.At = at()
		rules.Fields[f] = together
	}
	chosen := contributed(Expr)
	chosen.Eval, chosen.Text = evaluate(pick(w, []string{"coalesce", "joined"}), chosen.Order)
	rules.Fields["segment"] = chosen
	computed := Rule{Kind: Assign, At: at(), Paths: paths(nil, "", Revert, Reject, Ignore), Targets: slices.Sorted(slices.Values(w.some(everyPlatform, 1)))}
	stage := computed
	computed.Eval, computed.Text = evaluate(pick(w, []string{"coalesce", "joined"}), w.some([]string{"phone", "site", "street", "limit", "stage"}, 1))
	rules.Fields["label"] = computed
	stage.Text, stage.At = "assign workflow", at()
	rules.Fields["stage"] = stage
	for _, p := range everyPlatform {
		rules.Deletes[p] = pick(w, []Deletion{DeleteIgnored, DeleteDeactivate, DeleteProposed, DeleteProposed, DeletePropagated, ""})
		if rules.Deletes[p] == "" {
			delete(rules.Deletes, p)
		}
	}
	switch w.rng.IntN(4) {
	case 0:
		rules.Copies = map[string]Copy{}
		for _, p := range w.some(everyPlatform, 1) {
			rules.Copies[p] = Copy{}
		}
	case 1, 2:
		rules.Copies = map[string]Copy{}
		condition := func(of ...Value) *Condition {
			return &Condition{Text: fmt.Sprintf("stage in %v", of), At: at(), Holds: func(find Lookup) (bool, error) {
				if find("golden.stage").Kind() == Bool {
					return false, errors.New("no stage at all")
				}
				return slices.Contains(of, find("golden.stage")), nil
			}}
		}
		for _, p := range everyPlatform {
			rules.Copies[p] = Copy{}
			if w.chance(2) {
				rules.Copies[p] = Copy{When: condition(NullValue(), values[2], values[3], values[9]), Withdraw: condition(values[1], values[4], values[5], values[7], values[10])}
			}
		}
	}
	return rules
}

func (w *world) living() []string {
	return slices.DeleteFunc(slices.Clone(everyPlatform), func(p string) bool { return !w.on[p].exists })
}

// tick makes a version of a platform's clock. Clocks of platforms differ.
func (w *world) tick(s *side) Version {
	w.now = w.now.Add(time.Duration(1+w.rng.IntN(5)) * time.Second)
	skew := time.Duration(slices.Index(everyPlatform, s.name)*7-10) * time.Second
	s.last = w.now.Add(skew)
	return Version{At: s.last}
}

// send emits what the platform says about fields that changed.
func (w *world) send(s *side, v Version, fields []string, ours bool) {
	w.trace++
	o := Observation{Ref: w.ref(s), Version: v, Born: s.born, Fields: map[string]Value{}, Doubts: map[string]Doubt{}, Ours: ours && s.ours,
		Actor: "somebody@" + s.name, Trace: fmt.Sprintf("t%d", w.trace), Timed: w.rules.Timed()}
	if s.full && !o.Ours {
		fields = slices.Collect(maps.Keys(w.rules.Fields))
	}
	for _, f := range fields {
		value, some := s.fields[f]
		switch {
		case s.clouded[f]:
			o.Doubts[f] = Doubt{Type: "invalid-value", Raw: "?", Detail: "unusable"}
		case some:
			o.Fields[f] = value
		default:
			o.Fields[f] = NullValue()
		}
	}
	s.sent, s.ever, s.lived = append(s.sent, o), append(s.ever, o), true
}

func (w *world) ref(s *side) Ref {
	if s.life > 0 {
		return Ref{s.name, s.object, fmt.Sprintf("%s-1-%d", s.name, s.life)}
	}
	return Ref{s.name, s.object, s.name + "-1"}
}

// reborn begins another life of a native record that was withdrawn.
func (w *world) reborn(s *side) {
	if _, former := w.r.Former(w.ref(s)); former && !s.exists {
		s.life++
		s.lived, s.fields, s.clouded = false, map[string]Value{}, map[string]bool{}
	}
}

// deliver hands observations over. The result must not depend on their order or number.
func (w *world) deliver(batch []Observation) {
	before := w.r
	one := w.observed(before, batch)
	two := w.observed(before, w.mixed(batch))
	folded, out := Fold(one, w.rules, w.forms, w.now)
	again, out2 := Fold(two, w.rules, w.forms, w.now)
	if !alike(folded, again) {
		w.must(false, "the order of %d observations matters:\n%s", len(batch), difference(folded, again))
	}
	w.must(alikeOutcomes(out, out2), "the order of observations changes the outcome:\n%+v\n%+v", out, out2)
	for _, p := range everyPlatform {
		a, b := Project(folded, w.rules, p, w.forms(p)), Project(again, w.rules, p, w.forms(p))
		w.must(alikePatches(a, b), "the order of observations changes what is to be written to %s: %+v, %+v", p, a, b)
	}
	w.r = folded
	w.settled(out)
}

// refold lets time pass or a decision take effect.
func (w *world) refold() {
	var out Outcome
	w.r, out = Fold(w.r, w.rules, w.forms, w.now)
	w.settled(out)
}

// settled checks what must hold after every fold.
func (w *world) settled(out Outcome) {
	still, nothing := Fold(w.r, w.rules, w.forms, w.now)
	if !alike(still, w.r) || len(nothing.Changes)+len(nothing.Events)+len(nothing.Closed) > 0 {
		w.must(false, "folding again at the same moment changes something: %+v\n%s", nothing, difference(w.r, still))
	}
	w.moved += max(0, len(w.r.Withdrawn)-w.left) // an owner left: others decide now
	w.left = len(w.r.Withdrawn)
	for _, e := range out.Events {
		if e.Action == "approved" || e.Action == "applied" || e.Action == "override-ended" {
			w.moved++
		}
		w.note("      %s %s %v %s %s", e.Action, e.Platform, e.Fields, e.Proposal, e.Detail)
	}
	gone := slices.ContainsFunc(everyPlatform, func(p string) bool {
		v := w.r.Views[p]
		return w.rules.Deletes[p] == DeletePropagated && v.Gone() && v.Into == ""
	})
	for _, p := range everyPlatform {
		patch := Project(w.r, w.rules, p, w.forms(p))
		w.must(!patch.Delete || gone || patch.Withdraw, "%s is to be deleted though no policy propagates a deletion", p)
		w.must(!patch.Withdraw || w.r.Views[p].Made && w.withdraws(p), "%s is to be withdrawn", p)
		w.must(!patch.Create || len(patch.Fields) == 0 || w.copies(p), "%s is to get a native record, against policy", p)
		w.must(!w.r.Views[p].Gone() || patch.Empty(), "%s is gone, and is to be written %v", p, patch.Fields)
	}
}

// copies and withdraws ask the policy.
func (w *world) copies(p string) bool {
	c, some := w.rules.Copies[p]
	if w.rules.Copies == nil || some && c.When == nil {
		return true
	}
	ok, err := false, error(nil)
	if some {
		ok, err = c.When.Holds(func(string) Value { return nullFor(w.r.Golden["stage"].Value) })
	}
	return ok && err == nil && !w.withdraws(p)
}

func (w *world) withdraws(p string) bool {
	c := w.rules.Copies[p].Withdraw
	if c == nil {
		return false
	}
	ok, err := c.Holds(func(string) Value { return nullFor(w.r.Golden["stage"].Value) })
	return ok && err == nil
}

// observed merges a batch into the views. Heard is for people, and is not the same for all orders. What is said about a
// native record that was withdrawn means nothing, unless it lives again.
func (w *world) observed(r Record, batch []Observation) Record {
	r = r.Clone()
	for _, o := range batch {
		if was, former := r.Former(o.Ref); former {
			if o.Gone || o.Version.Compare(was.Died) <= 0 || r.Views[o.Platform].ID != "" || !w.on[o.Platform].exists {
				continue
			}
			r = r.Restored(o.Ref)
		}
		v, _ := Observe(r.Views[o.Platform], o)
		r.Views[o.Platform] = v
	}
	for p, v := range r.Views {
		v.Heard = Version{At: w.on[p].last}
		r.Views[p] = v
	}
	return r
}

// mixed permutes a batch, and repeats some of it and of what came earlier.
func (w *world) mixed(batch []Observation) []Observation {
	out := slices.Clone(batch)
	for _, o := range batch {
		if w.chance(2) {
			out = append(out, o)
		}
	}
	w.rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// write does what Project says for one platform, and reports whether that was anything.
func (w *world) write(p string) bool {
	s := w.on[p]
	as := w.forms(p)
	patch := Project(w.r, w.rules, p, as)
	if patch.Empty() || patch.Create && len(patch.Fields) == 0 {
		return false
	}
	w.reborn(s)
	if s.exists == patch.Create || patch.Create && s.lived {
		return false // it was deleted or made there meanwhile: the platform refuses, and its own event is under way
	}
	before := w.r.Views[p]
	after := w.r.Clone()
	if patch.Delete {
		w.note("    delete on %s", p)
		s.exists = false
		v := w.tick(s)
		if after.Views[p] = Buried(before); patch.Withdraw {
			if s.refuses["stage"] == TextValue("a") && !w.chance(2) { // it has dependent records
				s.exists = true
				after.Held = maps.Clone(w.r.Held)
				if after.Held == nil {
					after.Held = map[string]Hold{}
				}
				after.Views[p] = before
				after.Held[HoldKey(p, Whole)] = Hold{Type: "refused-write", Detail: "no", Since: w.now}
				w.r = after
				w.refold()
				_, refused := w.r.Refused(p)
				w.must(refused, "nobody can see that %s refuses the deletion", p)
				return true
			}
			after.Views[p] = before
			after = after.Withdraw(p, v.At)
		}
		w.r = after
		o := Observation{Ref: w.ref(s), Version: v, Gone: true, Trace: "gone"}
		s.sent, s.ever = append(s.sent, o), append(s.ever, o)
		w.refold()
		return true
	}
	refused := false
	for f, v := range patch.Fields {
		if s.refuses[f] == v {
			after.Held = maps.Clone(after.Held)
			if after.Held == nil {
				after.Held = map[string]Hold{}
			}
			after.Held[HoldKey(p, f)] = Hold{Type: "refused-write", Detail: "no", Value: v, Since: w.now}
			delete(patch.Fields, f)
			refused = true
		}
	}
	if refused { // the next projection leaves them out
		w.r = after
		w.refold()
		return w.write(p)
	}
	if !s.exists {
		w.note("    create on %s %v", p, patch.Fields)
		s.exists, s.fields, s.clouded = true, map[string]Value{}, map[string]bool{}
	} else {
		w.note("    write to %s %v", p, patch.Fields)
	}
	v := w.tick(s)
	if patch.Create {
		s.born, s.lived = v.At, true
		w.created++
	}
	written := map[string]Value{}
	for f, value := range patch.Fields {
		s.fields[f] = s.normal(value)
		delete(s.clouded, f)
		written[f] = as(f, value)
	}
	w.trace++
	view := before
	view.Ref = w.ref(s)
	told := Version{}
	if s.told {
		told = v
		view.Echo = &Echo{Version: v, Fields: map[string]Value{}}
		for f := range written {
			view.Echo.Fields[f] = s.fields[f]
		}
	}
	after.Views[p] = Confirm(view, before, written, told, w.now, fmt.Sprintf("t%d", w.trace))
	if made := after.Views[p]; true {
		made.Made, made.Leaving = made.Made || patch.Create, false
		after.Views[p] = made
	}
	w.r = after
	w.refold()
	w.send(s, v, slices.Collect(maps.Keys(written)), true)
	return true
}

// quiet delivers and writes until nothing is left, and counts the writes. It must end.
func (w *world) quiet() map[string]int {
	writes := map[string]int{}
	for round := 0; ; round++ {
		w.must(round < 12, "it never gets quiet: %v", writes)
		busy := false
		for _, p := range everyPlatform {
			if w.write(p) {
				writes[p]++
				busy = true
			}
		}
		var batch []Observation
		for _, p := range everyPlatform {
			batch = append(batch, w.on[p].sent...)
			w.on[p].sent = nil
		}
		if len(batch) > 0 {
			w.deliver(batch)
			busy = true
		}
		if !busy {
			break
		}
	}
	w.converged()
	return writes
}

// converged checks that what governance wants is what the platforms really have.
func (w *world) converged() {
	if w.r.Into != "" {
		return
	}
	for _, p := range everyPlatform {
		s, v := w.on[p], w.r.Views[p]
		w.must(v.Exists() == s.exists, "%s: exists %v, known as %v", p, s.exists, v.Exists())
		if !s.exists {
			continue
		}
		patch := Project(w.r, w.rules, p, w.forms(p))
		for f, g := range w.r.Golden {
			rule := w.rules.Fields[f]
			really, some := s.fields[f]
			if !some {
				really = NullValue()
			}
			if s.clouded[f] || patch.Kept[f] != "" {
				continue
			}
			holds, origin := v.Holds(f)
			w.must(origin == FromNobody || s.normal(holds) == really, "%s really has %v in %s, and is known to hold %v", p, really, f, holds)
			if targets(rule, p) {
				w.must(s.normal(g.Value) == really || really.IsNull() && g.Value.IsNull(), "%s has %v in %s, golden is %v, and nothing is written", p, really, f, g.Value)
			}
		}
	}
}
