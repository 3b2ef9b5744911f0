package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/record"
)

// waiting says what is still to be done.
func (w *world) waiting() string {
	ctx := context.Background()
	var out []string
	for _, s := range w.sites {
		for p, err := range w.god.DueFor(ctx, s.name) {
			if err != nil {
				w.wrong("cannot look: %v", err)
				break
			}
			if w.lacks(w.state(p.Record), s.name) || w.vendors != nil && w.vendors.untold(w.state(p.Record).Record.Views[s.name].Ref) {
				continue
			}
			out = append(out, fmt.Sprintf("%s for %s", p.Record, s.name))
		}
	}
	for p, err := range w.god.DueFor(ctx, record.Sorrel) {
		if err != nil {
			w.wrong("cannot look: %v", err)
			break
		}
		out = append(out, fmt.Sprintf("runs that look at %s", p.Record))
	}
	for r, err := range w.god.Rechecks(ctx) {
		if err != nil {
			w.wrong("cannot look: %v", err)
			break
		}
		out = append(out, "recheck of "+r.Ref.String())
	}
	for _, l := range w.lanes() {
		if d, err := l.q.Depth(ctx); err != nil || d.Visible+d.InFlight+l.busy > 0 {
			out = append(out, fmt.Sprintf("%d messages on %s", d.Visible+d.InFlight, l.name))
		}
	}
	if ids := w.replaying(); len(ids) > 0 {
		out = append(out, fmt.Sprintf("replays %v", ids))
	}
	if w.listing > 0 {
		out = append(out, fmt.Sprintf("%d listings", w.listing))
	}
	if n := w.travelling + w.taking; n > 0 {
		out = append(out, fmt.Sprintf("%d webhooks", n))
	}
	return strings.Join(out, ", ")
}

// lacks reports whether a record waits for what it refers to, and will for ever: people have deleted that. What it refers to
// may have come meanwhile; then it waits for its next attempt only.
func (w *world) lacks(s ledger.State, platform string) bool {
	d := s.Due[platform]
	if d.Attempts <= 5 || !strings.Contains(d.Reason, string(fault.MissingReference)) {
		return false
	}
	m, _ := w.set.ByEntity(s.Record.ID.Entity(), platform)
	for field, g := range s.Record.Golden {
		id := record.ID(g.Value.Raw())
		if _, refers := m.Refers(field); !refers || g.Value.Kind() != record.Text || id.Validate() != nil {
			continue
		}
		to, err := w.god.Follow(context.Background(), id)
		if err != nil {
			w.wrong("cannot look: %v", err)
		}
		if v := to.Record.Views[platform]; !v.Exists() || w.deleted(v.Ref) {
			return true
		}
	}
	return false
}

// deleted reports whether people have deleted a native record.
func (w *world) deleted(ref record.Ref) bool {
	if w.vendors != nil {
		return w.vendors.deleted[ref] != ""
	}
	r := w.site(ref.Platform).rows[ref]
	return r == nil || r.gone
}

// returned holds a platform that was away for hours to one write per record that was changed meanwhile: see recount. A native
// record that becomes another record's after that is told of that one once as well: records that were merged elsewhere become
// one when none of their native records stands in the way any more, and such a one may be deleted only now, on this platform.
func (w *world) returned() {
	for _, s := range w.sites {
		for _, t := range slices.SortedFunc(maps.Keys(s.since), tale.compare) {
			if n := s.since[t].times; n > 1 {
				w.wrong("flood: %s is told %d times of %s after it was away", s.name, n, t.native)
			}
		}
		s.since = nil
	}
}

// check holds the end of a history to what must be true of it.
func (w *world) check() {
	open, err := w.god.Exceptions(context.Background(), false)
	if err != nil {
		w.wrong("cannot look: %v", err)
	}
	w.told = map[string]bool{}
	for _, x := range open {
		w.told[x.Native] = true
		if x.Type == "conflict" && x.Field != "" {
			w.told[x.Native+" "+x.Field] = true
		}
	}
	if w.vendors != nil {
		w.vendors.check()
		w.verified()
		return
	}
	shown := map[record.Ref]record.ID{}
	for _, id := range w.records() {
		s := w.state(id)
		if s.Record.Into != "" {
			continue
		}
		w.same(s.Record, shown)
	}
	if w.c.Profile.Workflows {
		w.sold()
	}
	carried := map[string]record.Ref{}
	for _, s := range w.sites {
		for _, ref := range s.order {
			r := s.rows[ref]
			if r.gone || w.told[ref.String()] {
				continue
			}
			if r.made && shown[ref] == "" {
				w.wrong("orphan: %s was made by us, and no record has it (it carries %s)", ref, r.external)
			}
			if of, _ := record.ParseExternal(r.external); slices.Contains(w.state(shown[ref]).Record.Apart, of) {
				continue // it went back to its record when the two were parted, and carries the other's id until it is written to
			}
			key := s.name + " " + ref.Object + " " + r.external
			if first, twice := carried[key]; twice && r.external != "" {
				w.wrong("duplicate: %s and %s are both %s", first, ref, r.external)
			}
			carried[key] = ref
		}
	}
	w.verified()
}

// verified holds what is remembered to itself: the claims to the records, the audit log to its chain.
func (w *world) verified() {
	w.claims()
	w.referrers()
	w.rolls()
	if v, err := w.god.Verify(context.Background(), func(int) {}); err != nil || len(v.Broken) > 0 {
		w.wrong("audit: %+v %v", v, err)
	}
}

// same holds every platform's copy of a record to what policy says. shown grows by the native records that it has.
func (w *world) same(r record.Record, shown map[record.Ref]record.ID) {
	entity := r.ID.Entity()
	rules, forms := w.set.Rules(entity), w.set.On(entity)
	for _, s := range w.sites {
		v := r.Views[s.name]
		if forms(s.name) == nil {
			continue
		}
		patch := record.Project(r, rules, s.name, forms(s.name))
		lacks := w.lacks(w.state(r.ID), s.name)
		if lacks && !patch.Create {
			delete(patch.Fields, "account")
		}
		if !patch.Empty() && !(lacks && patch.Create) {
			w.wrong("forgotten: %s is still to be told %+v of %s", s.name, patch, r.ID)
		}
		if !v.Exists() {
			continue
		}
		shown[v.Ref] = r.ID
		row := s.rows[v.Ref]
		if row == nil || row.gone {
			w.wrong("ghost: %s of %s is believed to exist", v.Ref, r.ID)
			continue
		}
		for _, field := range slices.Sorted(maps.Keys(r.Golden)) {
			g, rule := r.Golden[field], rules.Fields[field]
			says := g.From == s.name
			told := !(lacks && field == "account") && slices.Contains(rule.Targets, s.name) && rule.Owner != s.name && patch.Kept[field] == ""
			if !says && !told {
				continue
			}
			is, want := w.value(s, field, row.fields[field]), w.followed(g.Value)
			if w.c.Profile.Workflows {
				m, _ := w.set.ByEntity(entity, s.name)
				_, in, out := m.Native(field)
				if _, refers := m.Refers(field); refers || !in || !says && !out || r.Held[record.HoldKey(s.name, field)].Type != "" {
					continue
				}
				o, _, err := m.Observe(s.native(v.Ref))
				if err != nil {
					w.wrong("cannot translate: %v", err)
				}
				is, want = m.As(field, o.Fields[field]), m.As(field, g.Value)
			}
			if is == want || is.IsAbsent() && want.IsNull() {
				continue
			}
			if w.c.Profile.Rewriting && w.value(s, field, s.rewritten(field, g.Value.Any())) == is {
				continue
			}
			if is == v.Wrote[field].Back.Value && w.c.Profile.Rewriting {
				continue // what somebody set around our write, or the echo of the write before, may pass for its echo
			}
			if putBack := (change{field, row.fields[field], s.rewritten(field, g.Value.Any())}); w.told[v.Ref.String()+" "+field] && row.put[putBack] >= 3 {
				continue // what was put back that often and is there again stays: nobody knows whether a person insists, or the platform; people are told
			}
			held, _ := v.Holds(field) // perhaps of a record that was merged since
			apart := func(from record.Value) bool {
				return slices.Contains(w.state(record.ID(from.Raw())).Record.Apart, record.ID(is.Raw()))
			}
			if is.Kind() == record.Text && (apart(want) || apart(held)) {
				continue // what a copy refers to went back to another record when the two were parted, and nobody has looked at it since
			}
			w.wrong("differs: %s of %s shows %s = %v, golden is %v from %s (said %+v, wrote %+v)", v.Ref, r.ID, field, is, want, g.From, v.Said[field], v.Wrote[field])
		}
	}
}

// value is what a native record shows in a field, in canonical form.
func (w *world) value(s *site, field string, v any) record.Value {
	switch x := v.(type) {
	case bool:
		return record.BoolValue(x)
	case string:
		if field == "account" {
			ref := record.Ref{Platform: s.name, Object: "account", ID: x}
			switch id, linked, err := w.god.Lookup(context.Background(), ref); {
			case err == nil && linked:
				return record.TextValue(string(id))
			case w.told[ref.String()], s.rows[ref] != nil && s.rows[ref].gone: // no record's until people have decided about it, or never again
				return record.TextValue(string(ledger.Mint("account", ref)))
			}
			return record.TextValue("no record: " + x)
		}
		return record.TextValue(x)
	}
	return record.NullValue()
}

// followed is a value in which a record that was merged is the one that it is now.
func (w *world) followed(v record.Value) record.Value {
	id := record.ID(v.Raw())
	if v.Kind() != record.Text || id.Validate() != nil {
		return v
	}
	s, err := w.god.Follow(context.Background(), id)
	if err != nil {
		return v
	}
	return record.TextValue(string(s.Record.ID))
}

// referrers expects that each record is listed with exactly those that refer to it, or to one that was merged into it. Records
// that workflows have made, and that are on no platform yet, are known by that list alone.
func (w *world) referrers() {
	ids := w.records()
	refers := func(from record.ID) (to []record.ID) {
		r := w.state(from).Record
		for _, field := range w.set.Rules(from.Entity()).Refers {
			to = append(to, record.ID(w.followed(r.Golden[field].Value).Raw()))
		}
		return to
	}
	want := map[record.ID][]record.ID{}
	for _, from := range ids {
		for _, to := range refers(from) {
			want[to] = append(want[to], from)
		}
	}
	for _, id := range ids {
		if w.state(id).Record.Into != "" {
			continue
		}
		got := map[record.ID]bool{}
		for from, err := range w.god.ReferringTo(context.Background(), w.state(id)) {
			if err != nil {
				w.wrong("cannot look: %v", err)
				return
			}
			if got[from] = true; !slices.Contains(refers(from), id) {
				w.wrong("referring: %s is listed with %s, and does not refer to it", from, id)
			}
		}
		for _, from := range want[id] {
			if !got[from] {
				w.wrong("referring: %s refers to %s, and is not listed", from, id)
			}
		}
	}
}

// rolls expects that the roll has a line for each native record that is known to exist, of its record, and no other. Versions
// may be behind, where a process died between the state and its line.
func (w *world) rolls() {
	want, objects := map[record.Ref]record.ID{}, map[record.Ref]bool{}
	for _, id := range w.records() {
		r := w.state(id).Record
		for _, v := range append(slices.Collect(maps.Values(r.Views)), r.Withdrawn...) {
			objects[record.Ref{Platform: v.Platform, Object: v.Object}] = true
		}
		for _, v := range r.Views {
			if v.Exists() {
				want[v.Ref] = id
			}
		}
	}
	for of := range objects {
		for line, err := range w.god.Roll(context.Background(), of.Platform, of.Object, "") {
			if err != nil {
				w.wrong("cannot look: %v", err)
				return
			}
			of.ID = line.ID
			if line.Record != want[of] {
				w.wrong("roll: %s is enrolled for %q, want %q", of, line.Record, want[of])
			}
			delete(want, of)
		}
	}
	for ref, id := range want {
		w.wrong("roll: %s of %s is not enrolled", ref, id)
	}
}

// claims expects that each match key is claimed by exactly the records whose living native records have it.
func (w *world) claims() {
	want := map[ledger.Claim][]record.ID{}
	for _, id := range w.records() {
		s := w.state(id)
		for _, c := range s.Claims { // also those that it should have given up
			if _, some := want[c]; !some {
				want[c] = nil
			}
		}
		for c := range govern.Keys(w.set.Match(id.Entity()), s.Record) {
			want[c] = append(want[c], id)
		}
	}
	got, err := w.god.Claimed(context.Background(), slices.Collect(maps.Keys(want))...)
	if err != nil {
		w.wrong("cannot look: %v", err)
		return
	}
	for _, c := range slices.SortedFunc(maps.Keys(want), ledger.Claim.Compare) {
		if !slices.Equal(got[c].IDs, want[c]) {
			w.wrong("claim: %v is claimed by %v, want %v", c, got[c].IDs, want[c])
		}
	}
}

// acknowledged holds the views to what the hub has acknowledged: they hold that, or what is newer.
func (w *world) acknowledged(got queue.Received) {
	in, err := message.ParseInbound(got.Body)
	if err != nil {
		w.wrong("cannot read: %v", err)
		return
	}
	w.handled[w.hooks[in.CorrelationID]] = true
	n := in.Native
	if n.Hint() || n.Gone || n.Ours || n.Platform == record.Sorrel {
		return
	}
	heard := w.heard[n.Ref]
	if heard == nil {
		heard = map[string]record.Version{}
		w.heard[n.Ref] = heard
	}
	m, _ := w.set.ByObject(n.Platform, n.Object)
	said, _, err := m.Observe(n)
	if err != nil {
		w.wrong("cannot translate: %v", err)
		return
	}
	id, linked, err := w.god.Lookup(context.Background(), n.Ref)
	v := w.state(id).Record.Views[n.Platform]
	if err != nil || !linked || v.Ref != n.Ref {
		return
	}
	for _, field := range slices.Sorted(maps.Keys(said.Fields)) {
		if n.Version.Compare(heard[field]) > 0 {
			heard[field] = n.Version
		}
		if v.Said[field].Version.Compare(heard[field]) < 0 {
			w.wrong("unheard: %s of %s is known as of %v, although %v was acknowledged", field, n.Ref, v.Said[field].Version.At, heard[field].At)
		}
	}
}
