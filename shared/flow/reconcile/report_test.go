package reconcile

import (
	"slices"
	"testing"
)

func TestTalliesStandInOrderOfKinds(t *testing.T) {
	t.Parallel()
	var s Set
	for _, k := range []Kind{Merged, Missing, Extra, Missing, Changed} {
		s.tally(k).Found++
	}
	var got []Kind
	for _, tally := range s.Drift {
		got = append(got, tally.Kind)
	}
	if want := []Kind{Missing, Changed, Merged, Extra}; !slices.Equal(got, want) || s.Found() != 5 {
		t.Errorf("tallies %v with %d found, want %v with 5", got, s.Found(), want)
	}
}
