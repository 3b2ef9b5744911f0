// Package simulation plays whole histories of Sorrel, each from a seed: the real flows over the real ledger, with
// platforms, queues and a store in memory, virtual time, people who act on all platforms at once, and faults at every edge.
//
// One seed is one history, byte for byte: its trace has a hash that is the same wherever it is played. Invocations run
// one after the other in goroutines that hand over a turn. Every call of the store, of a queue or of a platform takes
// virtual time, in which other invocations have the turn; so everything interleaves that could interleave on AWS, in an
// order that follows from the seed. One invocation handles its groups of messages in turn.
//
// Webhooks go through intake, and vendors send them again under the same id until they hear in time that they were accepted.
// Each kind of call can crash the process before it and after it; a report counts calls and faults by kind of call. In
// every sixth history ("away") nothing fails but one platform, which is away for six hours while people go on elsewhere: it is
// told once of each record after that, nothing is dead-lettered, and no message is received twice meanwhile.
//
// When people have stopped and nothing fails any more, the end is held to what must be true of it: see check. A history
// in which it is not is shrunk: acts, outages and faults are taken away as long as something is still wrong.
//
// In histories of their own, see PlanTwins, the platforms are the vendors' twins behind the real connectors, under the
// configuration that is deployed: requests, answers, limits of fields, sign-ins, signatures, webhooks, change events and the
// rules of their repetition are the vendors', and so is what people there may do. A call fails at the connection, or as the
// vendor has it fail.
//
// In two of three histories platforms take few calls: NetSuite one to four at once, Zendesk 6 to 25 a minute, and programs
// there edit many records within seconds. Every call passes a gate; the gates share budgets and breakers through the ledger,
// over the store as the process reaches it. The platform counts by itself. It is a problem, whatever crashed, if it is called
// beyond its limit, if a call is made while the breaker is open that is not the one probe, and if others are let through while live
// changes find the budget used up for minutes.
//
// In two of three histories people plan replays, and run, pause, resume and cancel them while everything goes on; the sweep
// moves them on. In the end all that was done is replayed: nothing is to be applied, and nothing is written.
//
// In histories of their own again, see PlanWorkflows, the product's activation is played, over what the deployed configuration says
// about customers and opportunities: these are won, lost, moved to other accounts or none, dropped and won again, accounts are
// merged and deleted, finance approves, corrects, rejects, twice and too late, cancels and skips a while after they have looked,
// and the ERP, which numbers its customers, refuses customers, tax numbers, activations and deletions for a while. Time reminds and
// expires. In a third of them every fifth commit, wake-up or acknowledgement fails or kills the process. In the end people have
// tried again what was refused, no run is open but of opportunities without an account, no step and no business event of a run is in the
// audit log twice, an account that is active is on NetSuite once and at the desks, and of what was undone nothing is left anywhere.
//
// It lets pass there that of accounts which are merged while NetSuite makes both, one of the two customers there is left to
// people, who are told.
//
// The histories with the twins run the product's own workflows, as far as the deployed policies name them.
//
// What is not in it: the locks that workers of one process share: here, as on Lambda, a process does one thing at a time, and
// its connectors write one record after the other. Those of the twins have no budgets and no replays.
//
// What it lets pass, because Sorrel is known not to see it: where values are rewritten, what somebody set around our
// write may pass for its echo until it is set again; a value that we put back three times within hours and that is there again, about which
// people are told; a reference to something deleted on a platform waits there
// for ever, and a record that is not there yet with it, about which people are told; a copy that refers to a native record which went back to another record when the two were parted keeps the
// reference; what is deleted unheard, or before its creation was confirmed, is written to again and again until a listing tells, which those of
// NetSuite and ServiceNow never do.
//
// That it can fail is tried by breaking central lines, with SORREL_MUTATIONS=1 and TestMutations. Played are the seeds that
// are played whenever the tests are, 25 at a time, until three have failed. Each line is caught by what stands behind it:
//
//	broken line                                             caught by   as
//	hub acknowledges what it did not commit                 16 of 25    unheard
//	the latest arrival wins, whatever its version           20 of 25    unheard
//	a due entry gets no pointer for the sweep               17 of 25    forgotten
//	nothing is due for one platform                         25 of 25    forgotten
//	an unknown write is not read back                       7 of 25     unread
//	that a write is unknown is not remembered               7 of 25     unread
//	an echo counts as people's                              4 of 50     uncaused, unquiet
//	a tombstone counts whatever was born since              3 of 100    orphan
//	batch saves its cursor before it queues                 3 of 175    differs, ghost
//	a merge of records drops due work                       3 of 175    unread
//	the gate lets everybody through                         3 of 25     over
//	the breaker never opens                                 4 of 25     untripped
//	the breaker lets everybody probe                        4 of 50     probed
//	a lease never ends                                      7 of 25     restless
//	a message is acknowledged before the function runs      16 of 25    unheard
//
// Broken lines of connectors, which the histories with the twins are to catch: NetSuite's records do not get their external
// id (7 of 25, restless); a deletion in ServiceNow is a hint (4 of 25, ghost, restless); all webhooks of NetSuite, or of
// ServiceNow, are of our own changes (3 of 25 and 3 of 150, differs).
//
// Broken lines of what moves runs on, which the histories with workflows are to catch: a delivery does not stir the runs that
// wait for it (21 of 25, open); a run is committed whoever moved it meanwhile (10 of 25, again); nothing wakes a run when its
// time has come (14 of 25, open); what was done is not undone (21 of 25, residue, undecided).
//
// Caught by histories that are kept, and by none of these seeds: a confirmation forgets another worker's unknown write; what a
// dead worker made is not looked for once it is wanted no more; the second of two customers that were made before their
// accounts became one counts as people's.
//
// Not caught, because another line makes up for each: a delivery that fails is acknowledged (it stays due, and the sweep
// wakes it); what is still due after a write is dropped (settling the record marks it again); the platform's mark of our
// changes alone, or the equality with our last write alone, is not looked at; a lease is not handed back (it ends by itself);
// an opportunity takes an account that another is activating (each step looks again whose it is); undoing does not wait
// until the ERP has nothing left (what is due is delivered all the same: 1 of 300, differs).
// Nor is it caught if a replay writes over what came meanwhile: replays find next to nothing to do here, and seldom at the
// moment of somebody's change. An old event that is redriven is kept from undoing a newer one by its version alone.
package simulation

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
	product "sorrel/shared/process"
	"sorrel/shared/workflow"
)

//go:embed config workflows
var files embed.FS

// Simulator plays cases. It is safe for concurrent use.
type Simulator struct {
	set      *policy.Set
	sales    *policy.Set // of the histories with workflows
	book     *workflow.Book
	deployed func() (*policy.Set, error) // of the histories with the vendors' twins
}

// New returns a simulator over a small configuration of its own, which has every kind of governance in it.
func New() (*Simulator, error) {
	var sets [2]*policy.Set
	for i, dir := range []string{"config", "workflows"} {
		sub, err := fs.Sub(files, dir)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "simulation", "", err)
		}
		if dir == "workflows" {
			sub = shipped{sub}
		}
		set, problems := policy.Load(sub, product.Starts)
		if len(problems) > 0 {
			return nil, fault.New(fault.Contract, "simulation", fmt.Sprint(problems))
		}
		sets[i] = set
	}
	book, problems := product.Book(sets[1])
	if len(problems) > 0 {
		return nil, fault.New(fault.Contract, "simulation", fmt.Sprint(problems))
	}
	return &Simulator{sets[0], sets[1], book, sync.OnceValues(func() (*policy.Set, error) { return boot.LoadConfig(boot.Everywhere) })}, nil
}

// Outcome is how a history ended.
type Outcome struct {
	Case     Case
	Hash     string        // of everything that happened, in order
	Problems []string      // what is not as it must be
	History  []string      // all that happened, if it was asked for
	Took     time.Duration // virtual
	Calls    int
	Writes   int
	Edges    map[string]int // calls, by edge
	Gates    map[string]int // what the gates of platforms did
	Replays  map[string]int // what became of them
	Runs     map[string]int // of workflows, what became of them
	Faults   map[Edge]Fault // that came to pass
}

// Play plays a case. keep asks for the history.
func (s *Simulator) Play(c Case, keep bool) Outcome {
	w, err := s.world(c, keep)
	if err != nil {
		return Outcome{Case: c, Problems: []string{"cannot play: " + err.Error()}}
	}
	for _, a := range c.Acts {
		w.at(w.origin.Add(a.At), func() { w.act(a) })
	}
	if c.Profile.Name == "away" {
		for _, o := range c.Outages {
			w.later(o.From+o.For, func() { w.site(o.Of).since = map[tale]*telling{} })
		}
	}
	w.later(30*time.Second, w.sweeping)
	w.pass(c.end())
	w.calm = true
	w.note("world", "is", "calm", none)
	w.pass(time.Minute)
	if c.Profile.Name == "away" {
		w.dead()
		w.rest(false)
		w.returned()
	}
	if w.vendors != nil && c.Profile.Faults == 0 && len(c.Outages) == 0 {
		w.rest(false)
		w.vendors.pushed()
	}
	for _, name := range platforms { // tells of what was deleted there, which is written to again and again until then
		w.list(name)
	}
	w.rest(true)
	w.tidied()
	for _, hook := range w.unheard() {
		w.wrong("unheard: %s was accepted and never handled", hook)
	}
	w.listed()
	w.pass(3 * time.Hour) // proposals expire, and overrides end
	w.rest(false)
	for range 8 { // each opportunity that waits for another's activation asks people in its turn
		if w.tidied(); !slices.ContainsFunc(w.openRuns(), func(h ledger.RunHead) bool { return len(h.Asks) > 0 }) {
			break
		}
		w.pass(time.Hour)
		w.rest(false)
	}
	w.check()
	for round := 0; ; round++ { // what a full listing brings to light may have consequences, and those too
		before := w.written()
		for _, name := range platforms {
			for _, object := range w.objects(name) {
				if err := w.god.SaveCursor(context.Background(), name, object, ""); err != nil {
					w.wrong("cannot rewind: %v", err)
				}
			}
		}
		w.pass(6 * time.Minute)
		w.listed()
		if w.written() == before {
			break
		}
		if round == 3 {
			w.wrong("unquiet: hearing everything again and again causes writes")
			break
		}
	}
	if most := 10*len(c.Acts)*len(platforms) + 4*len(w.fired); w.written() > most {
		w.wrong("flood: %d writes for %d acts", w.written(), len(c.Acts))
	}
	w.dead()
	w.check()
	if c.Profile.Replays {
		w.replayed()
	}
	w.abandon()
	return Outcome{Case: c, Hash: w.sum(), Problems: w.problems, History: w.lines, Took: w.now.Sub(w.origin), Calls: w.calls, Writes: w.written(), Edges: w.counts, Faults: w.fired, Gates: w.gates, Replays: w.replays, Runs: w.ran}
}

// world makes the world of a case.
func (s *Simulator) world(c Case, keep bool) (*world, error) {
	switch {
	case c.Profile.Workflows:
		w := newWorld(s.sales, c, keep)
		w.book = s.book
		return w, nil
	case !c.Profile.Twins:
		return newWorld(s.set, c, keep), nil
	}
	set, err := s.deployed()
	if err != nil {
		return nil, err
	}
	book, problems := product.Book(set)
	if len(problems) > 0 {
		return nil, fault.New(fault.Contract, "simulation", fmt.Sprint(problems))
	}
	w := newWorld(set, c, keep)
	w.book = book
	w.vendors, err = newVendors(w)
	return w, err
}

func (w *world) written() int {
	n := 0
	if w.vendors != nil {
		return w.vendors.written()
	}
	for _, s := range w.sites {
		n += s.writes
	}
	return n
}

// dead holds the world to having no dead letters.
func (w *world) dead() {
	for _, l := range w.lanes() {
		if d, err := l.dead.Depth(context.Background()); err != nil || d.Visible > 0 {
			w.wrong("dead: %d letters of %s although nothing fails", d.Visible, l.name)
		}
	}
}

// listed has every platform listed, and waits until all is done.
func (w *world) listed() {
	for _, name := range platforms {
		w.list(name)
	}
	w.rest(false)
}

// rest lets time pass until nothing is to be done. The first time, what was dead-lettered while things failed is redriven.
func (w *world) rest(first bool) {
	for range 80 {
		w.pass(31 * time.Second)
		more := first && w.redrive() > 0
		if w.calls > maxCalls || !more && w.waiting() == "" {
			return
		}
	}
	w.wrong("restless: %s", w.waiting())
}

// Shrink takes away from a case that fails whatever it fails without, playing it at most so many times.
func (s *Simulator) Shrink(failed Outcome, most int) Outcome {
	best := failed
	best.Case.Faults = failed.Faults
	kind := func(o Outcome) string {
		if len(o.Problems) == 0 {
			return ""
		}
		kind, _, _ := strings.Cut(o.Problems[0], ":")
		return kind
	}
	fails := func(c Case) bool {
		if most--; most < 0 {
			return false
		}
		o := s.Play(c, false)
		same := kind(o) == kind(failed)
		if same {
			best = o
			best.Case.Faults = o.Faults
		}
		return same
	}
	edges := func(c Case) []Edge {
		return slices.SortedFunc(maps.Keys(c.Faults), func(a, b Edge) int {
			if a.Name != b.Name {
				return strings.Compare(a.Name, b.Name)
			}
			return a.N - b.N
		})
	}
	for changed := true; changed && most > 0; {
		changed = fewer(func() int { return len(best.Case.Acts) }, func(from, to int) bool {
			c := best.Case
			c.Acts = slices.Concat(c.Acts[:from], c.Acts[to:])
			return fails(c)
		})
		changed = fewer(func() int { return len(best.Case.Outages) }, func(from, to int) bool {
			c := best.Case
			c.Outages = slices.Concat(c.Outages[:from], c.Outages[to:])
			return fails(c)
		}) || changed
		changed = fewer(func() int { return len(best.Case.Faults) }, func(from, to int) bool {
			c := best.Case
			c.Faults = maps.Clone(c.Faults)
			for _, e := range edges(best.Case)[from:to] {
				delete(c.Faults, e)
			}
			return fails(c)
		}) || changed
	}
	return s.Play(best.Case, true)
}

// fewer takes away ever smaller runs of elements as long as that is possible.
func fewer(count func() int, without func(from, to int) bool) (changed bool) {
	for size := max(count()/2, 1); size > 0; size /= 2 {
		for from := 0; from < count(); {
			if without(from, min(from+size, count())) {
				changed = true
			} else {
				from += size
			}
		}
	}
	return changed
}
