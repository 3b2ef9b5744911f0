package simulation

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sorrel/shared/record"
)

// Case is one history to be played. It follows from its seed; whoever shrinks it takes acts, faults and outages away. How
// long each call takes, and whatever else is random, follows from the seed as well, call by call. In JSON it outlives what
// seeds mean: a history that is to be kept is kept so.
type Case struct {
	Seed    uint64         `json:"seed"`
	Profile Profile        `json:"profile"`
	Acts    []Act          `json:"acts"`
	Outages []Outage       `json:"outages,omitempty"`
	Faults  map[Edge]Fault `json:"faults"` // nil: those that the seed plans
}

// Profile is what the world of a case is like.
type Profile struct {
	Name      string                   `json:"name"`
	Twins     bool                     `json:"twins,omitempty"`     // platforms are the vendors' twins behind the real connectors
	Workflows bool                     `json:"workflows,omitempty"` // deals activate customers, under a configuration for that
	Faults    int                      `json:"faults,omitempty"`    // one call in so many fails in some way; 0 = none
	Often     map[string]int           `json:"often,omitempty"`     // one in so many at edges of these kinds
	Mute      bool                     `json:"mute,omitempty"`      // of a write that fails nobody knows what became of it
	Rewriting bool                     `json:"rewriting,omitempty"` // platforms make something else of values
	Hints     bool                     `json:"hints,omitempty"`     // Zendesk's webhooks say what has changed, and not how
	Coarse    bool                     `json:"coarse,omitempty"`    // NetSuite's and Zendesk's clocks count seconds
	Skew      map[string]time.Duration `json:"skewNs,omitempty"`    // of the platforms' clocks
	Limits    map[string]int           `json:"limits,omitempty"`    // calls that platforms take, at once or in their window; none = what comes
	Trip      int                      `json:"trip,omitempty"`      // failures in a row that open a breaker, if that is not usual
	Says      bool                     `json:"says,omitempty"`      // answers say what is left of them
	Rests     bool                     `json:"rests,omitempty"`     // processes hand back what they do not use
	Replays   bool                     `json:"replays,omitempty"`   // there are replays
}

// Act is what somebody does. Which record, field and value it is about depends on Pick and on what there is by then.
type Act struct {
	N    int           `json:"n"` // names what it makes
	At   time.Duration `json:"atNs"`
	Do   string        `json:"do"`
	On   string        `json:"on"` // platform
	Pick uint64        `json:"pick"`
}

// Outage is a time in which nothing at one place answers.
type Outage struct {
	Of   string        `json:"of"` // a platform, or store or queue
	From time.Duration `json:"fromNs"`
	For  time.Duration `json:"forNs"`
}

// Edge is the n-th call at one place where something can go wrong.
type Edge struct {
	Name string
	N    int
}

// MarshalText and UnmarshalText make an edge the name of a member in JSON.
func (e Edge) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%s %d", e.Name, e.N), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Edge) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "%s %d", &e.Name, &e.N)
	return err
}

// Fault is what goes wrong with a call.
type Fault string

const (
	none        Fault = ""
	crashBefore Fault = "crash before it"
	crashAfter  Fault = "crash after it"
	refused     Fault = "no answer, not done" // the caller knows that nothing happened
	unsent      Fault = "lost on the way"     // the caller does not know
	unanswered  Fault = "done, answer lost"
	throttled   Fault = "throttled"
	slow        Fault = "a minute late"
	lost        Fault = "lost" // nobody knows
	twice       Fault = "twice"
	late        Fault = "late"
)

// faults are what can go wrong at an edge.
func (c Case) faults(edge string) []Fault {
	switch edge {
	case "commit":
		return []Fault{crashBefore, crashAfter, refused, unanswered, throttled, slow}
	case "get", "range":
		return []Fault{crashBefore, crashAfter, refused, throttled, slow}
	case "wake":
		return []Fault{crashBefore, crashAfter, refused, unanswered, lost, slow}
	case "inbound":
		return []Fault{crashBefore, crashAfter, refused, unanswered, slow}
	case "reply": // of intake to the platform whose webhook it is
		return []Fault{crashBefore, crashAfter, unanswered, slow}
	case "acknowledge":
		return []Fault{crashBefore, crashAfter, refused}
	case "write":
		if c.Profile.Mute {
			return []Fault{unsent, unanswered}
		}
		if c.Profile.Rewriting { // whose a rewritten value is, nobody can tell when the answer was lost
			return []Fault{crashBefore, refused, throttled, slow}
		}
		return []Fault{crashBefore, crashAfter, refused, unsent, unanswered, throttled, slow}
	case "signin":
		return []Fault{crashBefore, crashAfter, refused, unanswered, throttled, slow}
	case "read", "list":
		return []Fault{crashBefore, crashAfter, refused, unsent, throttled, slow}
	case "webhook":
		if c.Profile.Rewriting {
			return []Fault{twice, late}
		}
		return []Fault{lost, twice, late}
	}
	return nil
}

// platforms in the order of every listing here.
var platforms = [...]string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// Plan is the case of a seed.
func Plan(seed uint64) Case {
	rng := rand.New(rand.NewPCG(seed, 0x5077e1))
	c := Case{Seed: seed, Profile: Profile{Skew: map[string]time.Duration{}}}
	p := &c.Profile
	switch seed % 6 {
	case 0:
		p.Name = "busy"
	case 1:
		p.Name, p.Rewriting, p.Faults = "rewriting", true, 40
	case 2:
		p.Name, p.Faults = "faulty", 30
	case 3:
		p.Name, p.Faults = "stormy", 12
	case 4:
		p.Name, p.Faults = "out", 60
	case 5:
		p.Name = "away"
	}
	p.Hints, p.Coarse = rng.IntN(2) == 0, rng.IntN(2) == 0
	for _, name := range platforms {
		most := 5 * time.Minute
		if p.Rewriting {
			most = time.Second // what somebody says within seconds of our write is told from its echo by time
		}
		if rng.IntN(2) == 0 {
			p.Skew[name] = time.Duration(rng.Int64N(int64(2*most)) - int64(most)).Round(time.Millisecond)
		}
	}
	at := time.Second
	kinds := []string{"create", "create", "person", "edit", "edit", "edit", "edit", "edit", "edit", "edit", "edit", "burst", "clash", "race", "move", "delete", "merge", "restore", "decide", "decide", "handle", "override", "revoke", "unmerge", "list", "redrive"}
	if p.Name == "faulty" || p.Name == "out" {
		switch seed / 6 % 3 {
		case 0: // what changed is told of by listings as often as by webhooks, and those may die half-way
			p.Name, p.Often = p.Name+", deaf", map[string]int{"webhook": 2, "inbound": 2}
			kinds = append(kinds, "list", "list", "list", "list", "list", "list", "list", "list")
		case 1: // records become one while nobody knows what became of a write
			p.Name, p.Often, p.Mute = p.Name+", mute", map[string]int{"write": 3}, true
			kinds = append(kinds, "twins", "twins", "twins", "twins", "twins", "twins", "unmerge")
		}
	}
	for i := range 25 + rng.IntN(40) {
		switch n := rng.IntN(100); {
		case n < 35:
			at += time.Duration(rng.IntN(100)) * time.Millisecond
		case n < 85:
			at += time.Duration(rng.IntN(4000)) * time.Millisecond
		case n < 97:
			at += time.Duration(rng.IntN(180)) * time.Second
		default:
			at += time.Duration(rng.IntN(150)) * time.Minute
		}
		a := Act{N: i, At: at, Do: pick(rng, kinds...), On: pick(rng, platforms[:]...), Pick: rng.Uint64()}
		if i < 3 {
			a.Do, a.On = "create", pick(rng, record.NetSuite, record.Salesforce)
		}
		c.Acts = append(c.Acts, a)
	}
	c.limited(at)
	if p.Name == "away" {
		c.away(rng)
		return c
	}
	if strings.HasPrefix(p.Name, "out") || p.Name == "stormy" {
		for range 1 + rng.IntN(5) {
			of := pick(rng, append([]string{"store", "queue"}, platforms[:]...)...)
			c.Outages = append(c.Outages, Outage{of, time.Duration(rng.Int64N(int64(at))), time.Duration(1+rng.IntN(600)) * time.Second})
		}
	}
	return c
}

// limited gives two of three cases limits, and two of three replays.
func (c *Case) limited(end time.Duration) {
	rng := rand.New(rand.NewPCG(c.Seed, 0xb0d9e7))
	p := &c.Profile
	add := func(n int, what string) {
		for range n {
			c.Acts = append(c.Acts, Act{N: len(c.Acts), At: time.Duration(rng.Int64N(int64(end))), Do: what, On: pick(rng, platforms[:]...), Pick: rng.Uint64()})
		}
	}
	if rng.IntN(3) > 0 {
		p.Limits = map[string]int{record.NetSuite: 1 + rng.IntN(4), record.Salesforce: 25, record.Zendesk: 6 + rng.IntN(20), record.ServiceNow: 1000}
		p.Says, p.Rests, p.Trip = rng.IntN(2) == 0, rng.IntN(2) == 0, pick(rng, 0, 1, 2)
		add(2+rng.IntN(2), "rush")
	}
	if p.Replays = rng.IntN(3) > 0; p.Replays {
		add(2+rng.IntN(4), "replay")
	}
	slices.SortStableFunc(c.Acts, func(a, b Act) int { return cmp.Compare(a.At, b.At) })
}

// long is how long a platform is away in a case of that profile.
const long = 6 * time.Hour

// away takes one platform away for hours. People go on everywhere else: who would act there does so on another.
func (c *Case) away(rng *rand.Rand) {
	of := platforms[c.Seed/6%uint64(len(platforms))]
	var others []string
	for _, name := range platforms {
		if name != of {
			others = append(others, name)
		}
	}
	before := len(c.Acts) / 3
	from := c.Acts[before].At + 15*time.Minute // by then all that was done before has settled
	for i := range c.Acts {
		a := &c.Acts[i]
		if a.Do == "redrive" || a.Do == "list" || a.Do == "override" { // no causes of a write, and one whose end is another
			a.Do = "edit"
		}
		if i <= before {
			continue
		}
		a.At = from + time.Duration(rng.Int64N(int64(long-5*time.Minute)))
		if a.Do == "burst" || a.Do == "clash" || a.Do == "race" { // on all platforms
			a.Do = "edit"
		}
		if a.On == of {
			a.On = pick(rng, others...)
		}
		switch makes := a.Do == "create" || a.Do == "person"; { // accounts are made on NetSuite or Salesforce, people on Salesforce
		case makes && of == record.Salesforce:
			a.Do, a.On = "create", record.NetSuite
		case makes:
			a.On = record.Salesforce
		}
	}
	slices.SortStableFunc(c.Acts, func(a, b Act) int { return cmp.Compare(a.At, b.At) })
	c.Outages = []Outage{{of, from, long}}
}

// end is when people stop and nothing fails any more.
func (c Case) end() time.Duration {
	end := time.Second
	for _, a := range c.Acts {
		end = max(end, a.At)
	}
	for _, o := range c.Outages {
		end = max(end, o.From+o.For)
	}
	return end + time.Second
}

func (c Case) String() string {
	return fmt.Sprintf("seed %d (%s): %d acts, %d outages", c.Seed, c.Profile.Name, len(c.Acts), len(c.Outages))
}

// chance is a number that depends on the seed, on two names and on how often it was asked, and on nothing else.
func (c Case) chance(what, name string, n int) uint64 {
	h := c.Seed*0x9e3779b97f4a7c15 ^ uint64(n)*0xbf58476d1ce4e5b9
	mix := func(s string) {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 0x100000001b3
		}
	}
	mix(what)
	mix(" ")
	mix(name)
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}

// fault is what goes wrong with the n-th call at an edge of some kind.
func (c Case) fault(e Edge, kind string) Fault {
	if c.Faults != nil {
		return c.Faults[e]
	}
	if c.Profile.Faults == 0 {
		return none
	}
	of := c.faults(kind)
	every := uint64(c.Profile.Faults)
	if kind == "get" || kind == "range" {
		every *= 4 // there are many of them
	}
	if often := c.Profile.Often[kind]; often > 0 {
		every = uint64(often)
	}
	if h := c.chance("fault", e.Name, e.N); len(of) > 0 && h%every == 0 {
		return of[h/every%uint64(len(of))]
	}
	return none
}
