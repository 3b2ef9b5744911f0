package reconcile

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"sorrel/shared/certificate"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// mark is how far a full comparison has got.
type mark struct {
	Cursor string           `json:"cursor"`
	After  string           `json:"after"` // the id listed last
	Hub    certificate.Tree `json:"hub"`
	There  certificate.Tree `json:"there"`
	Over   bool             `json:"over,omitempty"` // everything was listed
}

// full compares everything, in one pass over the platform's listing and the roll side by side, both in order of id. What it keeps
// does not grow with them. It goes on where it was interrupted, a page at a time.
func (c *comparison) full(ctx context.Context, g *progress, save func() error) error {
	if g.Mark == nil {
		g.Mark = &mark{}
	}
	m := g.Mark
	if m.Over {
		return nil
	}
	next, stop := iter.Pull2(c.f.d.Ledger.Roll(ctx, c.set.Platform, c.set.Object, m.After))
	defer stop()
	row, err, some := next()
	for !m.Over {
		var p platform.Page
		calls := &c.set.Calls.List
		if err := c.call(ctx, "within", calls, func(ctx context.Context) (err error) {
			p, err = c.src.Within(ctx, c.set.Object, nil, m.Cursor)
			return err
		}); err != nil {
			return err
		}
		if p.More && p.Cursor == m.Cursor {
			return &fault.Error{Class: fault.Contract, Op: "reconcile.full", ID: c.set.Platform + "/" + c.set.Object, Detail: "the listing does not move on", Remedy: "run it again when less is changing"}
		}
		var odd []string // known, and not listed
		upTo := func(id string) error {
			for ; some && err == nil && (id == "" || ledger.CompareIDs(row.ID, id) < 0); row, err, some = next() {
				c.here(m, row)
				odd = append(odd, row.ID)
			}
			return err
		}
		var differ []record.Native
		var alike []pair
		for _, n := range p.Natives {
			if m.After != "" && ledger.CompareIDs(m.After, n.ID) >= 0 {
				return &fault.Error{Class: fault.Contract, Op: "reconcile.full", ID: n.Ref.String(), Detail: "is listed after " + m.After + ": the platform does not list in order of id",
					Remedy: "run it again; compare by counts if it happens again"}
			}
			if err := upTo(n.ID); err != nil {
				return err
			}
			m.After = n.ID
			known := some && row.ID == n.ID
			if known {
				c.here(m, row)
			}
			if !n.Hint() && !c.young(n.Version) {
				c.set.There++
				m.There.Add(n.ID, record.Version{At: n.Version.At.UTC()})
			}
			if !known || !c.same(n.Version, row.Version) {
				differ = append(differ, n)
			} else if row.Record != "" && !n.Hint() {
				alike = append(alike, pair{n, row})
			}
			if known {
				row, err, some = next()
			}
			if err != nil {
				return err
			}
		}
		if !p.More {
			if err := upTo(""); err != nil {
				return err
			}
		}
		if err := c.listed(ctx, differ); err != nil {
			return err
		}
		if err := c.ask(ctx, odd); err != nil {
			return err
		}
		for _, id := range odd {
			if s, seen := c.seen[id]; !seen || !s.gone { // not listed, and there
				c.set.There++
				c.set.Unexplained++
			}
		}
		if err := c.values(ctx, alike); err != nil {
			return err
		}
		c.seen = map[string]sight{} // each id is met once
		m.Cursor, m.Over = p.Cursor, !p.More
		g.Heal = slices.Clone(c.heal)
		c.set.Rounds++
		if err := save(); err != nil {
			return err
		}
	}
	if n := c.set.Unexplained; n > 0 {
		c.set.Limits = append(c.set.Limits, fmt.Sprintf("%d record(s) are there that the platform did not list", n))
	}
	hub, there := m.Hub.Root(), m.There.Root()
	c.set.Roots = Roots{Hub: Root{Records: hub.Records, Hash: hub.Hash}, Platform: Root{Records: there.Records, Hash: there.Hash}}
	return nil
}

// pair is a native with its line of the roll.
type pair struct {
	record.Native
	row ledger.Rolled
}

// values holds what natives say against what their records know, where versions are the same: something may have been heard of
// that came after something else that was lost. What is being written there is left alone.
func (c *comparison) values(ctx context.Context, natives []pair) error {
	for some := range slices.Chunk(natives, lookupAtOnce) {
		ids := make([]record.ID, len(some))
		said := make([]observed, len(some))
		var refs []record.Ref
		for i, n := range some {
			ids[i], said[i] = n.row.Record, c.observe(n.Native)
			for _, to := range said[i].refs {
				refs = append(refs, to)
			}
		}
		states, err := c.f.d.Ledger.Load(ctx, ids...)
		if err != nil {
			return err
		}
		_, links, err := c.f.d.Ledger.Open(ctx, nil, refs)
		if err != nil {
			return err
		}
		for i, n := range some {
			s := states[n.row.Record]
			view := s.Record.Views[c.set.Platform]
			if _, writing := s.Due[c.set.Platform]; writing || view.ID != n.ID || said[i].err != nil {
				continue
			}
			v := verdict{native: n.Native, row: n.row, rolled: true, found: ledger.Found{State: s, Linked: true}, said: said[i], links: links}
			if v.fields = v.differing(view); len(v.fields) == 0 {
				continue
			}
			v.kind, v.detail = Changed, "its version is known, and these values are not"
			if err := c.take(ctx, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// here counts a line of the roll.
func (c *comparison) here(m *mark, r ledger.Rolled) {
	if c.young(r.Version) {
		return
	}
	c.set.Here++
	if r.Record == "" {
		c.set.Strangers++
	}
	m.Hub.Add(r.ID, record.Version{At: r.Version.At.UTC()})
}
