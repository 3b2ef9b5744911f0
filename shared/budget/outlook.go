package budget

import "time"

// Outlook is what a platform lets us call from now on: what those go by who decide what to begin.
type Outlook struct {
	Open   bool      // the breaker is open: nothing is called before Until, and one call then finds out
	Until  time.Time // end of the pause, zero where there is none
	Reason string    // of the pause
	// Room is about how many calls of each class there is room for in the next minute. What a class may use, those more
	// urgent may use too. A class that is not named has no limit.
	Room   map[Class]int
	Limits []LimitState
}

// LimitState is how one limit stands.
type LimitState struct {
	Name   string        `json:"name"`
	Max    int           `json:"max"`
	Left   int           `json:"left"`
	Window time.Duration `json:"windowNs,omitempty"` // 0 = calls at once
	Reset  time.Time     `json:"reset,omitzero"`
}
