package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/contract/source"
)

const reconcileFile = "reconcile.yaml"

// What a run of reconciliation does about a native record that differs from what the hub knows.
const (
	HealObserve = "observe" // the hub hears of it, as by a webhook
	HealAsk     = "ask"     // people are asked
	HealLeave   = "leave"   // it is counted and reported
)

// MostHealed bounds the cap of a run, whatever a policy says.
const MostHealed = 2000

// HealKinds are the kinds of difference, as package flow/reconcile names them.
func HealKinds() []string {
	return []string{"changed", "deleted", "duplicated", "extra", "merged", "missing", "stale", "unlinked"}
}

// Reconciling is how the records of an entity are reconciled.
type Reconciling struct {
	// Settle is how long after a modification the hub must have heard of it: what is younger is no drift.
	Settle time.Duration
	// A run heals nothing of a platform's records where more differ than Records, or than Percent of them.
	Records int
	Percent int
	Heal    map[string]string // by kind
}

// leastPercent is how many records may always differ, whatever the percentage: else a dozen would be too many in a small set.
const leastPercent = 20

// Most is how many records of a set of a size may differ before people are asked.
func (r Reconciling) Most(size int) int {
	return min(r.Records, max(leastPercent, size*r.Percent/100))
}

func usualReconciling() Reconciling {
	r := Reconciling{Settle: 2 * time.Minute, Records: 500, Percent: 5, Heal: map[string]string{}}
	for _, kind := range HealKinds() {
		r.Heal[kind] = HealObserve
	}
	r.Heal["extra"] = HealAsk
	return r
}

// Reconciling are the rules of an entity. Callers must not modify them.
func (s *Set) Reconciling(entity string) Reconciling {
	if r, own := s.reconciling[entity]; own {
		return r
	}
	return s.reconciling[""]
}

// ReconcilingVersion changes with reconcile.yaml.
func (s *Set) ReconcilingVersion() string { return s.reconcilingVersion }

// WithReconciling is the configuration with other rules of reconciliation, for all entities.
func (s *Set) WithReconciling(r Reconciling) *Set {
	out := *s
	out.reconciling = map[string]Reconciling{"": r}
	return &out
}

// readReconciling reads reconcile.yaml, if there is one.
func (s *Set) readReconciling(fsys fs.FS, ps *source.Problems) {
	usual := usualReconciling()
	s.reconciling = map[string]Reconciling{"": usual}
	s.reconcilingVersion = "usual"
	data, err := fs.ReadFile(fsys, reconcileFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		ps.Add(source.Node{File: reconcileFile, Line: 1, Column: 1}, "the file cannot be read: "+err.Error(), "check its permissions")
		return
	}
	root, ok := source.Parse(reconcileFile, data, ps)
	if !ok || !root.Known(ps, "the reconciliation file", "settle", "cap", "heal", "entities") {
		return
	}
	sum := sha256.Sum256([]byte(root.Normal()))
	s.reconcilingVersion = hex.EncodeToString(sum[:6])
	usual = readReconcilingRule(ps, root, usual)
	s.reconciling[""] = usual
	block := root.Get("entities")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(root.Key("entities"), "entities must be a block of entity: {cap: …}", "write it as order: {cap: {records: 100, percent: 2}}")
	}
	for _, x := range block.Entries {
		if _, known := s.entities[x.Key.Text]; !known {
			ps.Add(x.Key, fmt.Sprintf("unknown entity %q", x.Key.Text), source.Suggest(x.Key.Text, s.Entities()))
		}
		if x.Value.Known(ps, "entity "+x.Key.Text, "settle", "cap", "heal") {
			s.reconciling[x.Key.Text] = readReconcilingRule(ps, x.Value, usual)
		}
	}
}

func readReconcilingRule(ps *source.Problems, n source.Node, r Reconciling) Reconciling {
	if n.Has("settle") {
		r.Settle = span(ps, n, "settle", 24*time.Hour)
	}
	if limit := n.Get("cap"); n.Has("cap") && limit.Known(ps, "cap", "records", "percent") {
		number := func(key string, at *int, most int) {
			if !limit.Has(key) {
				return
			}
			if *at = limit.Int(ps, key); *at > most {
				ps.Add(limit.Get(key), fmt.Sprintf("%s is %d, want at most %d", key, *at, most), "where nothing shall be healed, write ask under heal:")
			}
		}
		number("records", &r.Records, MostHealed)
		number("percent", &r.Percent, 100)
	}
	heal := n.Get("heal")
	if heal.Kind != source.None && heal.Kind != source.Map {
		ps.Add(n.Key("heal"), "heal must be a block of kind: what to do", "write it as heal: {extra: ask}")
	}
	r.Heal = maps.Clone(r.Heal)
	ways := []string{HealObserve, HealAsk, HealLeave}
	for _, x := range heal.Entries {
		if !slices.Contains(HealKinds(), x.Key.Text) {
			ps.Add(x.Key, fmt.Sprintf("unknown kind %q", x.Key.Text), source.Suggest(x.Key.Text, HealKinds()))
			continue
		}
		way := heal.String(ps, x.Key.Text, true)
		if way != "" && !slices.Contains(ways, way) {
			ps.Add(x.Value, fmt.Sprintf("unknown way %q", way), source.Suggest(way, ways))
		}
		if way == HealObserve && x.Key.Text == "extra" {
			ps.Add(x.Value, "what a platform does not know any more cannot be observed", "write "+strings.Join(ways[1:], " or "))
		}
		r.Heal[x.Key.Text] = way
	}
	return r
}
