package link

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sorrel/shared/fault"
	"sorrel/shared/mapping"
	"sorrel/shared/match"
	"sorrel/shared/record"
)

const (
	maxTries  = 8 // of one page
	firstWait = time.Second
	maxWait   = 2 * time.Minute
	maxLookup = 100 // links looked up at once
)

// page is what one platform listed. All of its natives are of one object.
type page struct {
	mapping *mapping.Mapping
	natives []record.Native
}

// pages lists all platforms at once. At most one page of each waits for the reader.
func (e *entity) pages(ctx context.Context) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		g, ctx := errgroup.WithContext(ctx)
		listed := make(chan page)
		for _, p := range e.d.Config.PlatformsOf(e.name) {
			m, mapped := e.d.Config.ByEntity(e.name, p)
			if src := e.d.Sources[p]; src != nil && mapped {
				g.Go(func() error { return e.list(ctx, src, m, listed) })
			}
		}
		done := make(chan error, 1)
		go func() { done <- g.Wait(); close(listed) }()
		for p := range listed {
			if !yield(p, nil) {
				stop()
				for range listed { // lets the listers see that it is over
				}
				return
			}
		}
		if err := <-done; err != nil {
			yield(page{}, err)
		}
	}
}

func (e *entity) list(ctx context.Context, src Source, m *mapping.Mapping, out chan<- page) error {
	cursor, n, again := "", 0, pauses{}
	for {
		p, err := src.Changes(ctx, m.Object, cursor)
		switch {
		case err == nil && p.More && p.Cursor == cursor: // as when too much has changed just now to be listed safely
			err = &fault.Error{Class: fault.Unsettled, Op: "link.list", Detail: "the listing does not move on", Remedy: "run it again when less is changing"}
		case err == nil:
			again = pauses{}
		}
		if err != nil {
			// There is no queue here that would try again.
			if fault.RowOf(err).Queue != fault.Keep || !again.next() {
				return fault.Wrap("", "link.list", m.Platform+"/"+m.Object, err)
			}
			e.tell(Progress{Entity: e.name, Platform: m.Platform, Waiting: err})
			if err := e.d.Wait(ctx, again.until(fault.RetryAt(err), e.d.Now())); err != nil {
				return err
			}
			continue
		}
		select {
		case out <- page{m, p.Natives}:
		case <-ctx.Done():
			return ctx.Err()
		}
		n += len(p.Natives)
		e.tell(Progress{Entity: e.name, Platform: m.Platform, Listed: n})
		if !p.More {
			return nil
		}
		cursor = p.Cursor
	}
}

// pauses grow while one page fails again and again.
type pauses struct {
	tries int
	last  time.Duration
}

// next reports whether one more try is worth it.
func (p *pauses) next() bool {
	p.tries++
	p.last = min(max(firstWait, 2*p.last), maxWait)
	return p.tries < maxTries
}

func (p *pauses) until(at, now time.Time) time.Duration {
	if at.IsZero() {
		return p.last
	}
	return min(max(at.Sub(now), 0), maxWait)
}

func (e *entity) tell(p Progress) {
	if e.d.Progress != nil {
		e.d.Progress(p)
	}
}

// items are the living native records in canonical fields, with the records that they are linked to already.
func (e *entity) items(ctx context.Context) iter.Seq2[match.Item, error] {
	return func(yield func(match.Item, error) bool) {
		for p, err := range e.pages(ctx) {
			if err != nil {
				yield(match.Item{}, err)
				return
			}
			items, err := e.page(ctx, p)
			if err != nil {
				yield(match.Item{}, err)
				return
			}
			for _, it := range items {
				if !yield(it, nil) {
					return
				}
			}
		}
	}
}

func (e *entity) page(ctx context.Context, p page) ([]match.Item, error) {
	var said []saying
	for _, n := range p.natives {
		n.ID = strings.Clone(n.ID) // kept for the whole run; the page is not
		newest := e.sight(n)
		if n.Gone {
			continue
		}
		s, err := observe(p.mapping, n)
		if err != nil {
			e.unusable(n.Ref, err)
			continue
		}
		if newest {
			if err := e.keep(n); err != nil {
				return nil, err
			}
		}
		said = append(said, s)
	}
	if err := e.lookUp(ctx, said); err != nil {
		return nil, err
	}
	items := make([]match.Item, len(said))
	for i, s := range said {
		e.resolve(&s)
		id, linked := e.links[s.Ref]
		if !linked {
			id = s.External
		}
		items[i] = match.Item{Ref: s.Ref, Fields: s.Fields, External: id}
	}
	return items, nil
}

// sight remembers the newest version of a native record, and reports whether n is it. What an older version says counts
// in matching too, so that the order of listing does not matter.
func (e *entity) sight(n record.Native) bool {
	was, known := e.seen[n.Ref]
	if known && n.Version.Compare(was.version) < 0 {
		return false
	}
	was.version, was.gone = n.Version, n.Gone
	e.seen[n.Ref] = was
	return true
}

// saying is a translated native record.
type saying struct {
	record.Observation
	refs map[string]record.Ref
}

// observe translates what is there now, whoever saved it last.
func observe(m *mapping.Mapping, n record.Native) (saying, error) {
	n.Ours = false
	o, refs, err := m.Observe(n)
	return saying{o, refs}, err
}

func (e *entity) unusable(ref record.Ref, err error) {
	if e.broken == nil {
		e.broken = map[string]int{}
	}
	if e.broken[ref.Platform]++; len(e.out.Examples) < maxExamples {
		e.out.Examples = append(e.out.Examples, fmt.Sprintf("%s: %v", ref, err))
	}
}

// lookUp finds the links of native records and of what they refer to, and replaces the record ids that native records
// carry by those of the records that they are now.
func (e *entity) lookUp(ctx context.Context, said []saying) error {
	wanted := map[record.Ref]struct{}{}
	for _, s := range said {
		wanted[s.Ref] = struct{}{}
		for _, to := range s.refs {
			if _, planned := e.ids[to]; !planned {
				wanted[to] = struct{}{}
			}
		}
	}
	refs := slices.SortedFunc(maps.Keys(wanted), compare)
	for some := range slices.Chunk(refs, maxLookup) {
		_, links, err := e.d.Ledger.Open(ctx, nil, some)
		if err != nil {
			return err
		}
		for ref, id := range links {
			if _, own := e.seen[ref]; own {
				e.links[ref] = id
			} else {
				e.ids[ref] = id
			}
		}
	}
	carried := map[record.ID]struct{}{}
	for _, s := range said {
		if _, linked := e.links[s.Ref]; !linked && s.External != "" {
			carried[s.External] = struct{}{}
		}
	}
	if len(carried) == 0 {
		return nil
	}
	states, err := e.d.Ledger.Load(ctx, slices.Sorted(maps.Keys(carried))...)
	if err != nil {
		return err
	}
	now := map[record.ID]record.ID{}
	for id, s := range states {
		if s.Exists() && s.Record.Into != "" {
			if s, err = e.d.Ledger.Follow(ctx, id); err != nil {
				return err
			}
		}
		now[id] = s.Record.ID
		if s.Exists() {
			e.exists[s.Record.ID] = true
		}
	}
	for i, s := range said {
		if to, moved := now[s.External]; moved {
			said[i].External = to
		}
	}
	return nil
}

// resolve replaces references by record ids. One that leads to no record yet is not said; it is returned.
func (e *entity) resolve(s *saying) []record.Ref {
	var open []record.Ref
	for field, to := range s.refs {
		if id, known := e.ids[to]; known {
			s.Fields[field] = record.TextValue(string(id))
		} else {
			open = append(open, to)
		}
	}
	slices.SortFunc(open, compare)
	return open
}

func compare(a, b record.Ref) int { return strings.Compare(a.String(), b.String()) }

// keep puts n into the scratch file, if it will be needed again.
func (e *entity) keep(n record.Native) error {
	if !e.o.Apply {
		return nil
	}
	b, err := json.Marshal(n)
	if err != nil {
		return fault.Wrap(fault.Internal, "link.keep", n.String(), err)
	}
	if _, err := e.d.Scratch.WriteAt(b, e.written); err != nil {
		return fault.Wrap(fault.Internal, "link.keep", n.String(), err)
	}
	s := e.seen[n.Ref]
	s.from, s.size = e.written, int32(len(b))
	e.seen[n.Ref] = s
	e.written += int64(len(b))
	return nil
}

// kept is what keep kept.
func (e *entity) kept(ref record.Ref) (record.Native, error) {
	s := e.seen[ref]
	b := make([]byte, s.size)
	if _, err := e.d.Scratch.ReadAt(b, s.from); err != nil {
		return record.Native{}, fault.Wrap(fault.Internal, "link.kept", ref.String(), err)
	}
	var n record.Native
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return n, fault.Wrap(fault.Internal, "link.kept", ref.String(), dec.Decode(&n))
}

// count counts what each platform listed.
func (e *entity) count() {
	for _, p := range e.d.Config.PlatformsOf(e.name) {
		if e.d.Sources[p] == nil {
			continue
		}
		n := Platform{Platform: p, Unusable: e.broken[p]}
		for ref, s := range e.seen {
			switch _, linked := e.links[ref]; {
			case ref.Platform != p:
			case s.gone:
				n.Deleted++
			default:
				n.Listed++
				if linked {
					n.Linked++
				}
			}
		}
		e.out.Platforms = append(e.out.Platforms, n)
	}
}
