package budget

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sorrel/shared/fault"
)

// Memory is where workers meet: one small item per platform.
type Memory interface {
	// Budget returns the item, the zero Saved when there is none.
	Budget(ctx context.Context, platform string) (Saved, error)
	// SaveBudget writes the item if it still has the revision of Saved; else the fault is a Conflict and nothing is written.
	SaveBudget(ctx context.Context, platform string, s Saved) error
}

// Saved is a platform's State as JSON, and its revision: "" = there is none yet.
type Saved struct {
	State []byte
	Rev   string
}

// Options of Shared. Worker and Now are required.
type Options struct {
	Worker string // differs between all processes that share
	// Place is where only one worker can be at a time, such as a folder that is locked: who is there now knows that those
	// before are gone, and goes on with what they held. Empty = nowhere.
	Place    string
	Now      func() time.Time
	Rand     *rand.Rand    // jitter, nil = none; used by one goroutine at a time
	Trip     int           // failures in a row that open the breaker; 0 = 5
	Patience time.Duration // how long a call waits for its turn; 0 = it does not
	Watch    func(Notice)  // nil = nobody
	// Wait lets time pass for a call that waits for its turn; nil = real time. Where time is not real no request to the store
	// is cut off: that is for the Memory to do.
	Wait func(d time.Duration)
}

// Notice is one thing that a gate did.
type Notice struct {
	Platform string
	What     What
	Class    Class  // of Passed and Rejected
	Reason   string // Rejected: "budget", "breaker", "pause", "store"; Opened and Stayed: what the platform answered
	Limit    string // of Left
	Left     int
	Until    time.Time // of Opened and Stayed
}

// What a Notice tells.
type What uint8

// What there is to tell.
const (
	Passed   What = iota + 1 // a call
	Rejected                 // a call
	Opened                   // the breaker
	Stayed                   // the breaker, open, for its probe failed
	Closed                   // the breaker
	Left                     // how much of a limit nobody holds
)

// Shared is the gates of all platforms, shared through a Memory by all workers that use the same one. It is safe for
// concurrent use.
type Shared struct {
	memory Memory
	o      Options
	mu     sync.Mutex
	gates  map[string]*Guard
}

// NewShared returns the gates over m.
func NewShared(m Memory, o Options) *Shared {
	if o.Trip <= 0 {
		o.Trip = 5
	}
	if o.Watch == nil {
		o.Watch = func(Notice) {}
	}
	return &Shared{memory: m, o: o, gates: map[string]*Guard{}}
}

// Local returns the gate of a platform that one process shares with nobody.
func Local(platform string, r Rules, o Options) *Guard {
	g := NewShared(NewMemory(), o).Gate(platform)
	g.Keep(r)
	return g
}

// Gate returns the gate of a platform, always the same one. It lets everything through until it is told what to Keep to.
func (s *Shared) Gate(platform string) *Guard {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gates[platform]
	if g == nil {
		g = newGuard(platform, s.memory, s.o)
		s.gates[platform] = g
	}
	return g
}

// Keep tells the rules that hold from now on.
func (g *Guard) Keep(r Rules) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = r.orUsual()
}

// Look tells how a platform stands, and takes nothing. It knows what workers have told, some seconds ago.
func (s *Shared) Look(ctx context.Context, platform string) (Outlook, error) {
	saved, err := s.memory.Budget(ctx, platform)
	if err != nil {
		return Outlook{}, fault.Wrap("", "budget.look", platform, err)
	}
	return decode(saved).Outlook(s.o.Now()), nil
}

// Rest hands back what others may need. A process that is about to stand still, as a Lambda function between two events,
// calls it; what is not handed back is free again after some seconds, or for calls in a window with that window.
func (s *Shared) Rest(ctx context.Context) {
	s.mu.Lock()
	gates := make([]*Guard, 0, len(s.gates))
	for _, g := range s.gates {
		gates = append(gates, g)
	}
	s.mu.Unlock()
	slices.SortFunc(gates, func(a, b *Guard) int { return strings.Compare(a.platform, b.platform) })
	for _, g := range gates {
		g.rest(ctx)
	}
}

// decode reads an item. One that cannot be read is as good as none: what is in it is worth a minute's caution, and
// nobody could write it anew otherwise.
func decode(saved Saved) State {
	var s State
	if len(saved.State) > 0 && json.Unmarshal(saved.State, &s) != nil {
		return State{}
	}
	return s
}

// NewMemory returns a Memory of this process alone.
func NewMemory() Memory { return &memory{items: map[string]Saved{}} }

// memory is a Memory in one process.
type memory struct {
	mu    sync.Mutex
	items map[string]Saved
	saves int
}

func (m *memory) Budget(_ context.Context, platform string) (Saved, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.items[platform], nil
}

func (m *memory) SaveBudget(_ context.Context, platform string, s Saved) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.items[platform].Rev != s.Rev {
		return fault.New(fault.Conflict, "budget.save", platform)
	}
	m.saves++
	m.items[platform] = Saved{s.State, strconv.Itoa(m.saves)}
	return nil
}
