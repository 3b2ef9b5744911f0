package matchtest_test

import (
	"maps"
	"reflect"
	"testing"

	"sorrel/shared/match"
	"sorrel/shared/match/matchtest"
	"sorrel/shared/record"
)

func TestGenerate(t *testing.T) {
	t.Parallel()
	read := func(seed uint64) ([]match.Item, matchtest.Truth) {
		items, truth := matchtest.Generate(seed, 400)
		var all []match.Item
		for it := range items {
			all = append(all, it)
		}
		return all, truth
	}
	a, truth := read(3)
	b, again := read(3)
	if !reflect.DeepEqual(a, b) || !maps.Equal(truth, again) {
		t.Error("the same seed gives different items")
	}
	if c, _ := read(4); reflect.DeepEqual(a, c) {
		t.Error("another seed gives the same items")
	}
	count := map[string]int{}
	for _, it := range a {
		count[it.Ref.Platform]++
		if _, known := truth[it.Ref]; !known {
			t.Errorf("%s is not in the truth", it.Ref)
		}
	}
	if len(truth) != 1600 || len(count) != 4 || count[record.Zendesk] != 400 {
		t.Errorf("%d in the truth, %v", len(truth), count)
	}
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	ref := func(id string) record.Ref { return record.Ref{Platform: "p", Object: "o", ID: id} }
	truth := matchtest.Truth{ref("a"): 1, ref("b"): 1, ref("c"): 2, ref("d"): 2, ref("e"): 2, ref("f"): 3, ref("g"): 3}
	report := &match.Report{
		Clusters: []match.Cluster{
			{Outcome: match.Link, Members: []record.Ref{ref("a"), ref("b"), ref("c")}, Evidence: []match.ItemEvidence{
				{Evidence: match.Evidence{Rule: "tax"}, Members: []int{0, 1}}, {Evidence: match.Evidence{Rule: "name"}, Members: []int{1, 2}},
			}},
			{Outcome: match.Ambiguous, Members: []record.Ref{ref("d"), ref("e")}},
			{Outcome: match.Ambiguous, Members: []record.Ref{ref("f")}},
			{Outcome: match.Ambiguous, Members: []record.Ref{ref("g")}},
		},
		Pairs: []match.Pair{{A: ref("f"), B: ref("g")}},
		Rules: []match.RuleCount{{Rule: "tax"}, {Rule: "name"}},
	}
	s := matchtest.Evaluate(report, truth)
	if s.Linked != 3 || s.Correct != 1 || s.True != 5 || s.Precision != 1.0/3 || s.Recall != 0.2 || s.F1 != 0.25 || s.Shown != 2 || s.Surfaced != 0.6 {
		t.Errorf("%+v", s)
	}
	if s.Rules[0].Precision != 1 || s.Rules[0].Recall != 0.2 || s.Rules[1].Precision != 0 || s.Rules[1].Linked != 1 {
		t.Errorf("%+v", s.Rules)
	}
}
