package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/record"
)

// LagTold is how old due work may be before operators are told: well before the quarter of an hour after which people on the
// platform would miss what they are promised.
const LagTold = 2 * time.Minute

// Lag is how far people on a platform are behind: of what is due there, what they wait for.
type Lag struct {
	Records  int            `json:"records"`
	Since    time.Time      `json:"since,omitzero"` // they see everything as it was then, or newer
	Oldest   record.ID      `json:"oldest,omitempty"`
	Entities map[string]int `json:"entities,omitempty"` // records of each
}

// Add counts one piece of due work.
func (g *Lag) Add(p Pending) {
	if !p.Class.Awaited() || p.Unwanted {
		return
	}
	g.Records++
	if g.Entities == nil {
		g.Entities = map[string]int{}
	}
	g.Entities[p.Record.Entity()]++
	if g.Since.IsZero() || p.Since.Before(g.Since) {
		g.Since, g.Oldest = p.Since, p.Record
	}
}

// Old is how long the oldest has waited.
func (g Lag) Old(now time.Time) time.Duration {
	if g.Records == 0 {
		return 0
	}
	return max(0, now.Sub(g.Since))
}

// Told reports whether operators are to be told.
func (g Lag) Told(now time.Time) bool { return g.Old(now) > LagTold }

// Says puts it in words: who sees what of when.
func (g Lag) Says(platform string, now time.Time) string {
	kinds := slices.SortedFunc(maps.Keys(g.Entities), func(a, b string) int { return cmp.Or(g.Entities[b]-g.Entities[a], strings.Compare(a, b)) })
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", g.Entities[kind], kind)
	}
	return fmt.Sprintf("people on %s see data of %s: %d waiting (%s), the oldest, %s, for %s",
		platform, g.Since.UTC().Format("15:04:05Z"), g.Records, strings.Join(kinds, ", "), g.Oldest, g.Old(now).Round(time.Second))
}
