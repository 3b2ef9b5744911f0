package simulation

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sorrel/shared/fault"
)

// Options are what to play.
type Options struct {
	Seed      uint64 // the first
	Seeds     int
	Workers   int  // at once
	Twins     bool // the histories of PlanTwins
	Workflows bool // those of PlanWorkflows
	Whole     bool // failures are not shrunk
	Progress  io.Writer
}

// Report is what many histories came to.
type Report struct {
	Seed    uint64        `json:"seed"`
	Seeds   int           `json:"seeds"` // played
	Failed  []Failure     `json:"failed"`
	Took    time.Duration `json:"tookNs"`
	Virtual time.Duration `json:"virtualNs"`
	Calls   int           `json:"calls"`
	Writes  int           `json:"writes"`
	Faults  int           `json:"faults"`
	Kinds   map[Fault]int `json:"faultsByKind"`

	Profiles map[string]int    `json:"seedsByProfile"`
	Edges    map[string]Tested `json:"edges"` // by the kind of call
	Gates    map[string]int    `json:"gates"` // what the gates of platforms did
	Replays  map[string]int    `json:"replays"`
	Runs     map[string]int    `json:"runs"` // of workflows
}

// Tested is how often calls of one kind were made, and what went wrong with them.
type Tested struct {
	Calls  int           `json:"calls"`
	Faults map[Fault]int `json:"faults"`
}

// Failure is a history that did not end as it must.
type Failure struct {
	Seed     uint64   `json:"seed"`
	Profile  string   `json:"profile"`
	Hash     string   `json:"hash"`
	Problems []string `json:"problems"`
	Acts     int      `json:"acts"`   // of the shrunk history, as is all that follows
	Faults   []string `json:"faults"` // and outages
	Left     []string `json:"left"`   // its problems
	Case     Case     `json:"case"`   // plays it again, whatever seeds will mean by then
	History  []string `json:"history"`
}

// maxShrunk bounds how many failures are shrunk; of the others there is the seed, which is played again by itself.
const maxShrunk = 5

// Run plays many seeds and shrinks those that fail. It fails if any does.
func (s *Simulator) Run(ctx context.Context, o Options) (Report, error) {
	started := time.Now()
	r := Report{Seed: o.Seed, Failed: []Failure{}, Kinds: map[Fault]int{}, Profiles: map[string]int{}, Edges: map[string]Tested{}, Gates: map[string]int{}, Replays: map[string]int{}, Runs: map[string]int{}}
	var mu sync.Mutex
	plan := Plan
	switch {
	case o.Twins:
		plan = PlanTwins
	case o.Workflows:
		plan = PlanWorkflows
	}
	seeds := make(chan uint64)
	var wg sync.WaitGroup
	for range max(o.Workers, 1) {
		wg.Go(func() {
			for seed := range seeds {
				out := s.Play(plan(seed), false)
				mu.Lock()
				r.add(out)
				shrink := !o.Whole && len(out.Problems) > 0 && len(r.Failed) < maxShrunk
				if r.Seeds%500 == 0 {
					_, _ = fmt.Fprintf(o.Progress, "%d of %d seeds, %d failed, %.1f seeds/s\n", r.Seeds, o.Seeds, len(r.Failed), float64(r.Seeds)/time.Since(started).Seconds())
				}
				mu.Unlock()
				if len(out.Problems) == 0 {
					continue
				}
				f := Failure{Seed: seed, Profile: out.Case.Profile.Name, Hash: out.Hash, Problems: out.Problems}
				_, _ = fmt.Fprintf(o.Progress, "seed %d: %s\n", seed, out.Problems[0])
				if shrink {
					f.shrunk(s.Shrink(out, 300))
				}
				mu.Lock()
				r.Failed = append(r.Failed, f)
				mu.Unlock()
			}
		})
	}
	for i := range o.Seeds {
		if ctx.Err() != nil {
			break
		}
		seeds <- o.Seed + uint64(i)
	}
	close(seeds)
	wg.Wait()
	r.Took = time.Since(started)
	slices.SortFunc(r.Failed, func(a, b Failure) int { return cmp.Compare(a.Seed, b.Seed) })
	switch {
	case len(r.Failed) > 0:
		return r, fault.New(fault.Internal, "simulation", fmt.Sprintf("%d of %d seeds failed", len(r.Failed), r.Seeds))
	case ctx.Err() != nil:
		return r, fault.Wrap(fault.Down, "simulation", "", ctx.Err())
	}
	return r, nil
}

func (r *Report) add(o Outcome) {
	r.Seeds++
	r.Virtual += o.Took
	r.Calls += o.Calls
	r.Writes += o.Writes
	r.Faults += len(o.Faults)
	r.Profiles[o.Case.Profile.Name]++
	for what, n := range o.Gates {
		r.Gates[what] += n
	}
	for what, n := range o.Replays {
		r.Replays[what] += n
	}
	for what, n := range o.Runs {
		r.Runs[what] += n
	}
	for edge, n := range o.Edges {
		t := r.Edges[kindOf(edge)]
		t.Calls += n
		if t.Faults == nil {
			t.Faults = map[Fault]int{}
		}
		r.Edges[kindOf(edge)] = t
	}
	for edge, f := range o.Faults {
		r.Kinds[f]++
		r.Edges[kindOf(edge.Name)].Faults[f]++
	}
}

// kindOf is the kind of an edge, whichever platform it is of.
func kindOf(edge string) string { return edge[strings.LastIndexByte(edge, '.')+1:] }

func (f *Failure) shrunk(o Outcome) {
	f.Acts, f.Left, f.Case = len(o.Case.Acts), o.Problems, o.Case
	for _, out := range o.Case.Outages {
		f.Faults = append(f.Faults, fmt.Sprintf("%s is away from %s for %s", out.Of, out.From, out.For))
	}
	for e, what := range o.Case.Faults {
		f.Faults = append(f.Faults, fmt.Sprintf("%s %d: %s", e.Name, e.N, what))
	}
	slices.Sort(f.Faults)
	for _, line := range o.History {
		f.History = append(f.History, strings.ReplaceAll(line, `\x01`, " "))
	}
}

// Print writes a report for people.
func (r Report) Print(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "seed %d (%s), hash %s\n  %s\n", f.Seed, f.Profile, f.Hash, strings.Join(f.Problems, "\n  "))
		if len(f.History) > 0 {
			fmt.Fprintf(&b, "shrunk to %d acts and %q:\n  %s\n%s\n\n", f.Acts, f.Faults, strings.Join(f.Left, "\n  "), strings.Join(f.History, "\n"))
		}
	}
	fmt.Fprintf(&b, "%d seeds from %d in %s (%.1f/s): %d failed\n", r.Seeds, r.Seed, r.Took.Round(time.Second), float64(r.Seeds)/r.Took.Seconds(), len(r.Failed))
	fmt.Fprintf(&b, "%s of virtual time, %d calls, %d writes, %d faults; seeds by profile: %v\n", r.Virtual.Round(time.Hour), r.Calls, r.Writes, r.Faults, r.Profiles)
	for _, kind := range slices.Sorted(maps.Keys(r.Edges)) {
		t := r.Edges[kind]
		var what []string
		for _, f := range slices.Sorted(maps.Keys(t.Faults)) {
			what = append(what, fmt.Sprintf("%s %d", f, t.Faults[f]))
		}
		fmt.Fprintf(&b, "%-12s %9d calls: %s\n", kind, t.Calls, strings.Join(what, ", "))
	}
	fmt.Fprintf(&b, "gates: %v\nreplays: %v\nruns: %v\n", r.Gates, r.Replays, r.Runs)
	_, err := io.WriteString(w, b.String())
	return err
}
