package platformtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/twin"
)

// Counter is what comparing whole sets needs of a connector.
type Counter interface {
	Census(ctx context.Context, object string, within []platform.Span, width time.Duration) ([]platform.Count, error)
	Within(ctx context.Context, object string, within []platform.Span, cursor string) (platform.Page, error)
	Deleted(ctx context.Context, object string, since time.Time, cursor string) (platform.Page, error)
	Among(ctx context.Context, object string, ids []string) ([]record.Native, error)
}

// Census runs the suite of what comparing whole sets needs: counts by time of modification, listings within spans of
// time and by id, deletions, and reads of many records at once.
func Census(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, *set){
		"counts":            counts,
		"counts of spans":   spanCounts,
		"listing in spans":  spanListing,
		"whole listing":     wholeListing,
		"listing on change": listingOnChange,
		"foreign cursor":    foreignCursor,
		"among":             amongMany,
		"deletions":         deletions,
		"census outage":     censusOutage,
	} {
		t.Run(h.Name+"/"+name, func(t *testing.T) {
			t.Parallel()
			clock := NewClock()
			b := &bench{World: h.New(t, clock.Now), clock: clock, ctx: t.Context()}
			s := &set{bench: b, counter: b.Connector, alive: map[string]bool{}}
			for _, o := range b.Connector.Declaration().Objects {
				if o.Name == b.Object {
					s.declared = o
				}
			}
			test(t, s)
		})
	}
}

// set is a World whose records are known.
type set struct {
	*bench
	counter  Counter
	declared platform.Object
	n        int
	alive    map[string]bool
}

func (s *set) add(t *testing.T) string {
	t.Helper()
	s.n++
	id := s.edit(t, "", s.Fields(s.n))
	s.alive[id] = true
	return id
}

// change edits a record, differently for each n where values must be unique.
func (s *set) change(t *testing.T, id string, n int) {
	t.Helper()
	fields := s.Change
	if s.ChangeOf != nil {
		fields = s.ChangeOf(n)
	}
	s.edit(t, id, fields)
}

func (s *set) remove(t *testing.T, id string) {
	t.Helper()
	if err := s.Twin.Delete(s.Object, id); err != nil {
		t.Fatal(err)
	}
	delete(s.alive, id)
}

// later moves the clock to a moment.
func (s *set) later(to time.Time) { s.clock.Advance(to.Sub(s.clock.Now())) }

// truth reads every record.
func (s *set) truth(t *testing.T) map[string]record.Native {
	t.Helper()
	out := map[string]record.Native{}
	for id := range s.alive {
		out[id] = s.read(t, id)
	}
	return out
}

// history makes records at the borders of days and hours, over a week, and changes, deletes and merges some of them.
func (s *set) history(t *testing.T) map[string]record.Native {
	t.Helper()
	start := s.clock.Now().Truncate(platform.Day).Add(platform.Day)
	var ids []string
	for _, after := range []time.Duration{0, time.Second, time.Hour - time.Second, time.Hour, time.Hour + 30*time.Minute, 2 * time.Hour,
		24*time.Hour - time.Second, 24 * time.Hour, 24 * time.Hour, 24*time.Hour + 1500*time.Millisecond, 71*time.Hour + 20*time.Minute, 72 * time.Hour, 72 * time.Hour, 72*time.Hour + time.Minute} {
		s.later(start.Add(after))
		ids = append(ids, s.add(t))
	}
	s.later(start.Add(96*time.Hour - time.Second))
	s.change(t, ids[2], 1)
	s.later(start.Add(96 * time.Hour))
	s.change(t, ids[3], 2)
	s.remove(t, ids[7])
	s.later(start.Add(97 * time.Hour))
	s.remove(t, ids[4])
	if s.Merge != nil {
		if err := s.Merge(ids[0], ids[1]); err != nil {
			t.Fatal(err)
		}
		delete(s.alive, ids[1])
	}
	s.later(start.Add(98*time.Hour + s.Lag))
	return s.truth(t)
}

// check compares counts with the truth: every record that is within the asked spans is in exactly one of them.
func (s *set) check(t *testing.T, got []platform.Count, truth map[string]record.Native, within []platform.Span) {
	t.Helper()
	want := 0
	for _, n := range truth {
		if len(within) == 0 || platform.Held(within, n.Version.At) {
			want++
		}
	}
	total := 0
	for i, c := range got {
		total += c.Records
		if c.Records < 1 || i > 0 && c.From.Before(got[i-1].To) {
			t.Errorf("bucket %d of %v is empty or overlaps", i, got)
		}
		records, sum := 0, int64(0)
		for _, n := range truth {
			if c.Holds(n.Version.At) {
				records++
				sum += s.summed(t, n)
			}
		}
		if records != c.Records || sum != c.Sum {
			t.Errorf("%s to %s: %d records with sum %d, want %d and %d", c.From.Format(time.RFC3339), c.To.Format(time.RFC3339), c.Records, c.Sum, records, sum)
		}
	}
	if total != want {
		t.Errorf("%d records are counted in all, want %d", total, want)
	}
}

func (s *set) summed(t *testing.T, n record.Native) int64 {
	t.Helper()
	switch s.declared.Sum {
	case platform.SumIDs:
		var id int64
		if _, err := fmt.Sscan(n.ID, &id); err != nil {
			t.Fatal(err)
		}
		return id
	case platform.SumSeqs:
		return n.Version.Seq
	case "":
		return 0
	}
	t.Fatalf("sum %q is not known", s.declared.Sum)
	return 0
}

func (s *set) census(t *testing.T, within []platform.Span, width time.Duration) []platform.Count {
	t.Helper()
	got, err := s.counter.Census(s.ctx, s.Object, within, width)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (s *set) counted(t *testing.T) {
	t.Helper()
	switch s.declared.Census {
	case platform.Grouped, platform.Ranges:
	case "":
		if _, err := s.counter.Census(s.ctx, s.Object, nil, 0); !fault.Is(err, fault.NotFound) {
			t.Errorf("the declaration says that nothing is counted, and Census says %v", err)
		}
		t.Skip("this platform does not count " + s.Object)
	default:
		t.Fatalf("Census is %q", s.declared.Census)
	}
}

func counts(t *testing.T, s *set) {
	s.counted(t)
	if got := s.census(t, nil, 0); len(got) > 1 || len(s.Twin.All(s.Object)) == 0 && len(got) > 0 {
		t.Errorf("nothing is there, and counted as %v", got)
	}
	truth := s.history(t)
	s.check(t, s.census(t, nil, 0), truth, nil)
	if s.declared.Census == platform.Grouped {
		days := s.census(t, nil, platform.Day)
		s.check(t, days, truth, nil)
		s.check(t, s.census(t, nil, platform.Hour), truth, nil)
		for _, d := range days { // a bucket that was answered can be asked for
			within := []platform.Span{d.Span}
			s.check(t, s.census(t, within, platform.Hour), truth, within)
			s.check(t, s.census(t, within, platform.Day), truth, within)
		}
	}
	if _, err := s.counter.Census(s.ctx, s.Object, nil, time.Minute); !fault.Is(err, fault.Contract) {
		t.Errorf("minutes: %v, want a refusal", err)
	}
	if _, err := s.counter.Census(s.ctx, "noSuchObject", nil, 0); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown object: %v, want not-found", err)
	}
}

// spansOf are spans that begin and end at, before and after records, in disorder; overlapping, touching and empty.
func spansOf(start time.Time) []platform.Span {
	at := func(d time.Duration) time.Time { return start.Add(d) }
	return []platform.Span{
		{From: at(72 * time.Hour), To: at(72*time.Hour + time.Minute)},
		{From: at(time.Second), To: at(time.Hour)},
		{From: at(time.Hour), To: at(time.Hour + time.Second)},
		{From: at(time.Hour + 10*time.Minute), To: at(time.Hour + 20*time.Minute)},
		{From: at(time.Hour + 25*time.Minute), To: at(time.Hour + 35*time.Minute)},
		{From: at(time.Hour + 28*time.Minute), To: at(time.Hour + 31*time.Minute)},
		{From: at(24 * time.Hour), To: at(24*time.Hour + 2*time.Second)},
		{From: at(30 * time.Hour), To: at(30 * time.Hour)},
		{From: at(96 * time.Hour)},
		{From: at(40 * time.Hour), To: at(50 * time.Hour)},
	}
}

func spanCounts(t *testing.T, s *set) {
	s.counted(t)
	start := s.clock.Now().Truncate(platform.Day).Add(platform.Day)
	truth := s.history(t)
	spans := spansOf(start)
	widths := []time.Duration{0}
	if s.declared.Census == platform.Grouped {
		widths = append(widths, platform.Hour, platform.Day)
	}
	for _, width := range widths {
		s.check(t, s.census(t, spans, width), truth, spans)
		if got := s.census(t, []platform.Span{{From: start, To: start}}, width); len(got) > 0 {
			t.Errorf("an empty span holds %v", got)
		}
		before := []platform.Span{{To: start}}
		s.check(t, s.census(t, before, width), truth, before)
	}
	neighbours := []platform.Span{{From: start, To: start.Add(3 * time.Hour)}, {From: start.Add(3 * time.Hour), To: start.Add(24 * time.Hour)}, {From: start.Add(24 * time.Hour), To: start.Add(80 * time.Hour)}, {From: start.Add(80 * time.Hour)}}
	separate := s.census(t, neighbours, 0)
	s.check(t, separate, truth, nil)
	if len(separate) != len(neighbours) { // each holds a record
		t.Errorf("%d neighbouring spans are counted as %v", len(neighbours), separate)
	}
	hours := make([]platform.Span, 0, 300) // more than fit one query of any vendor's
	for h := range 300 {
		from := start.Add(time.Duration(h*20) * time.Minute)
		hours = append(hours, platform.Span{From: from, To: from.Add(10 * time.Minute)})
	}
	if s.declared.Census == platform.Grouped {
		s.check(t, s.census(t, hours, platform.Hour), truth, hours)
	}
}

// listed walks a listing to its end and checks the order of ids where it is one chunk's.
func (s *set) listed(t *testing.T, within []platform.Span, between func(page int)) []record.Native {
	t.Helper()
	var out []record.Native
	cursor := ""
	for page := 1; ; page++ {
		p, err := s.counter.Within(s.ctx, s.Object, within, cursor)
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.counter.Within(s.ctx, s.Object, within, cursor)
		if err != nil || !slices.EqualFunc(p.Natives, again.Natives, func(a, b record.Native) bool { return a.Ref == b.Ref }) {
			t.Fatalf("the same page again: %v", err)
		}
		out = append(out, p.Natives...)
		if !p.More {
			return out
		}
		if p.Cursor == cursor || page > 2000 {
			t.Fatal("the listing does not go on")
		}
		cursor = p.Cursor
		if between != nil {
			between(page)
		}
	}
}

// same checks that a listing holds exactly these records as Read shows them.
func (s *set) same(t *testing.T, got []record.Native, want map[string]record.Native) {
	t.Helper()
	seen := map[string]bool{}
	for _, n := range got {
		w, ok := want[n.ID]
		switch {
		case !ok:
			t.Errorf("%s is listed and should not be: %+v", n.ID, n)
		case seen[n.ID]:
			t.Errorf("%s is listed twice", n.ID)
		case n.Hint() || n.Partial || n.Gone || n.Version.Compare(w.Version) != 0 || n.External != w.External:
			t.Errorf("%s is listed as %+v, want %+v", n.ID, n, w)
		case !holds(n.Fields, w.Fields):
			t.Errorf("%s is listed with %v, want %v", n.ID, n.Fields, w.Fields)
		}
		seen[n.ID] = true
	}
	for id := range want {
		if !seen[id] {
			t.Errorf("%s is not listed (version at %s)", id, want[id].Version.At)
		}
	}
}

func (s *set) ascending(t *testing.T, got []record.Native) {
	t.Helper()
	if !slices.IsSortedFunc(got, func(a, b record.Native) int {
		return platform.CompareIDs(s.declared.Numeric, a.ID, b.ID)
	}) {
		ids := make([]string, len(got))
		for i, n := range got {
			ids[i] = n.ID
		}
		t.Errorf("ids do not ascend: %s", strings.Join(ids, " "))
	}
}

func spanListing(t *testing.T, s *set) {
	start := s.clock.Now().Truncate(platform.Day).Add(platform.Day)
	truth := s.history(t)
	for _, spans := range [][]platform.Span{spansOf(start), {{From: start, To: start.Add(24 * time.Hour)}}, {{To: start.Add(24 * time.Hour)}}, {{From: start.Add(72 * time.Hour)}}, {{}}, {{From: start, To: start}}} {
		want := map[string]record.Native{}
		for id, n := range truth {
			if platform.Held(spans, n.Version.At) {
				want[id] = n
			}
		}
		s.same(t, s.listed(t, spans, nil), want)
	}
	hours := make([]platform.Span, 0, 300)
	for h := range 300 {
		from := start.Add(time.Duration(h*20) * time.Minute)
		hours = append(hours, platform.Span{From: from, To: from.Add(10 * time.Minute)})
	}
	want := map[string]record.Native{}
	for id, n := range truth {
		if platform.Held(hours, n.Version.At) {
			want[id] = n
		}
	}
	s.same(t, s.listed(t, hours, nil), want)
}

func (s *set) size() int {
	if s.PageSize == 0 {
		return 200
	}
	return s.PageSize
}

func wholeListing(t *testing.T, s *set) {
	var all []string
	for range 2*s.size() + 3 {
		all = append(all, s.add(t))
	}
	s.clock.Advance(time.Minute)
	s.remove(t, all[1])
	s.change(t, all[0], 1) // its modification is the newest, its id the lowest
	s.clock.Advance(time.Minute + s.Lag)
	got := s.listed(t, nil, nil)
	s.ascending(t, got)
	s.same(t, got, s.truth(t))
}

// listingOnChange changes, adds and deletes between pages: who was there from the beginning to the end is listed.
func listingOnChange(t *testing.T, s *set) {
	var all []string
	for range 2*s.size() + 3 {
		all = append(all, s.add(t))
	}
	s.clock.Advance(time.Minute + s.Lag)
	stays := maps.Clone(s.alive)
	got := s.listed(t, nil, func(page int) {
		if page > 2 {
			return
		}
		s.change(t, all[0], 2*page)
		s.change(t, all[len(all)-1], 2*page+1)
		s.add(t)
		gone := all[page*s.size()-1]
		s.remove(t, gone)
		delete(stays, gone)
		s.clock.Advance(time.Second)
	})
	s.ascending(t, got)
	for _, n := range got {
		delete(stays, n.ID)
	}
	if len(stays) > 0 {
		t.Errorf("%d records are missed: %v", len(stays), slices.Sorted(maps.Keys(stays)))
	}
}

func foreignCursor(t *testing.T, s *set) {
	start := s.clock.Now()
	for range s.size() + 1 {
		s.add(t)
	}
	s.clock.Advance(time.Minute + s.Lag)
	within := []platform.Span{{From: start, To: start.Add(time.Hour)}}
	p, err := s.counter.Within(s.ctx, s.Object, within, "")
	if err != nil || !p.More {
		t.Fatalf("%v, more %v", err, p.More)
	}
	for what, try := range map[string]func() error{
		"rubbish":     func() error { _, err := s.counter.Within(s.ctx, s.Object, within, "{"); return err },
		"other spans": func() error { _, err := s.counter.Within(s.ctx, s.Object, nil, p.Cursor); return err },
		"other verb": func() error {
			_, err := s.counter.Deleted(s.ctx, s.Object, start, p.Cursor)
			if !s.declared.Deleted && fault.Is(err, fault.NotFound) {
				return fault.New(fault.Contract, "suite", "deletions cannot be listed at all")
			}
			return err
		},
		"a listing of changes": func() error {
			changes, err := s.Connector.Changes(s.ctx, s.Object, "")
			if err != nil {
				return err
			}
			_, err = s.counter.Within(s.ctx, s.Object, within, changes.Cursor)
			return err
		},
	} {
		if err := try(); !fault.Is(err, fault.Contract) {
			t.Errorf("a cursor of %s: %v, want a refusal", what, err)
		}
	}
}

func amongMany(t *testing.T, s *set) {
	var ids []string
	for range 205 {
		ids = append(ids, s.add(t))
	}
	lost, merged, winner := ids[3], "", ids[5]
	s.clock.Advance(2 * time.Second)
	s.remove(t, lost)
	if s.Merge != nil {
		merged = ids[4]
		if err := s.Merge(winner, merged); err != nil {
			t.Fatal(err)
		}
		delete(s.alive, merged)
	}
	s.clock.Advance(time.Minute)
	got, err := s.counter.Among(s.ctx, s.Object, append(slices.Clone(ids), s.UnknownID, "", "no id", ids[7]))
	if err != nil {
		t.Fatal(err)
	}
	var alive []record.Native
	for _, n := range got {
		if !n.Gone {
			alive = append(alive, n)
			continue
		}
		switch {
		case n.ID == lost && n.Into == "":
		case n.ID == merged && n.Into == winner:
		default:
			t.Errorf("%+v is gone, want %s, and %s into %s", n, lost, merged, winner)
		}
	}
	some := map[string]record.Native{} // each costs a read
	for _, n := range alive {
		if !s.alive[n.ID] {
			t.Errorf("%s is told and not there", n.ID)
		}
		if n.ID == winner || len(some) < 8 {
			some[n.ID] = s.read(t, n.ID)
		}
	}
	if len(alive) != len(s.alive) {
		t.Errorf("%d records are told, want %d, each once", len(alive), len(s.alive))
	}
	s.same(t, slices.DeleteFunc(slices.Clone(alive), func(n record.Native) bool { return some[n.ID].ID == "" }), some)
	if got, err := s.counter.Among(s.ctx, s.Object, nil); err != nil || len(got) > 0 {
		t.Errorf("no ids: %v, %v", got, err)
	}
	if got, err := s.counter.Among(s.ctx, s.Object, []string{s.UnknownID, "'); DROP"}); err != nil || len(got) > 0 {
		t.Errorf("unknown ids: %v, %v", got, err)
	}
}

func deletions(t *testing.T, s *set) {
	if !s.declared.Deleted {
		if _, err := s.counter.Deleted(s.ctx, s.Object, s.clock.Now(), ""); !fault.Is(err, fault.NotFound) {
			t.Errorf("the declaration says that deletions are not told, and Deleted says %v", err)
		}
		t.Skip("this platform does not tell deletions of " + s.Object)
	}
	var ids []string
	for range 2*s.size() + 4 {
		ids = append(ids, s.add(t))
	}
	s.clock.Advance(time.Hour)
	s.remove(t, ids[0]) // before
	s.clock.Advance(time.Hour)
	since := s.clock.Now()
	into := map[string]string{}
	s.clock.Advance(time.Second)
	for i, id := range ids[1 : s.size()+3] {
		s.remove(t, id)
		into[id] = ""
		if i%3 == 0 {
			s.clock.Advance(time.Second)
		}
	}
	if s.Merge != nil {
		loser := ids[len(ids)-2]
		if err := s.Merge(ids[len(ids)-1], loser); err != nil {
			t.Fatal(err)
		}
		delete(s.alive, loser)
		into[loser] = ids[len(ids)-1]
	}
	s.clock.Advance(time.Minute + s.Lag)
	cursor, pages := "", 0
	told := map[string]bool{}
	for {
		p, err := s.counter.Deleted(s.ctx, s.Object, since, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Natives {
			winner, ok := into[n.ID]
			if !ok || !n.Gone || n.Into != winner || n.Ref != s.ref(n.ID) || n.Version.At.Before(since) {
				t.Errorf("%+v is told as deleted since %s, want into %q (known %v)", n, since, winner, ok)
			}
			told[n.ID] = true // perhaps more than once
		}
		if pages++; !p.More {
			break
		}
		if cursor = p.Cursor; pages > 1000 {
			t.Fatal("the listing does not end")
		}
	}
	for id := range into {
		if !told[id] {
			t.Errorf("the deletion of %s is not told", id)
		}
	}
}

func censusOutage(t *testing.T, s *set) {
	id := s.add(t)
	s.clock.Advance(time.Minute)
	s.read(t, id)
	for class, f := range map[fault.Class]twin.Faults{fault.Throttled: {Throttle: 1}, fault.Down: {Outage: true}} {
		s.clock.Advance(48 * time.Hour)
		s.Twin.Kit().SetFaults(f)
		for what, do := range map[string]func() error{
			"census": func() error { _, err := s.counter.Census(s.ctx, s.Object, nil, 0); return err },
			"within": func() error { _, err := s.counter.Within(s.ctx, s.Object, nil, ""); return err },
			"among":  func() error { _, err := s.counter.Among(s.ctx, s.Object, []string{id}); return err },
			"deleted": func() error {
				_, err := s.counter.Deleted(s.ctx, s.Object, s.clock.Now().Add(-time.Hour), "")
				return err
			},
		} {
			if what == "census" && s.declared.Census == "" || what == "deleted" && !s.declared.Deleted {
				continue
			}
			if err := do(); !fault.Is(err, class) {
				t.Errorf("%s under %+v: %v, want %s", what, f, err, class)
			}
		}
		s.Twin.Kit().SetFaults(twin.Faults{})
	}
}
