package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/record"
	"sorrel/shared/store"
)

// keepReconciliations is how long a run of reconciliation is remembered after it last moved: two years and a bit, for auditors.
const keepReconciliations = 800 * 24 * time.Hour

// Reconciliation is one run that compares platforms with the hub. What it says is its flow's; the ledger keeps it.
type Reconciliation struct {
	ID      string
	Active  bool // somebody has to move it on
	Created time.Time
	Head    json.RawMessage

	rev    store.Rev
	active bool // as stored
}

// Part is what a run says about one of the sets that it compares, and where it stands there.
type Part struct {
	Body json.RawMessage
	rev  store.Rev
}

// Reconciled is when a set was compared wholly for the last time.
type Reconciled struct {
	Run  string    `json:"run"`
	AsOf time.Time `json:"asOf"` // up to which modifications counted
	// FullCalls is how many calls the last full comparison took to list FullOf records.
	FullCalls int `json:"fullCalls,omitempty"`
	FullOf    int `json:"fullOf,omitempty"`
}

type storedReconciliation struct {
	Active  bool            `json:"active,omitempty"`
	Created time.Time       `json:"created"`
	Head    json.RawMessage `json:"head"`
}

func reconciliationKey(id string) store.Key {
	return store.Key{Part: key(schema, "reconciliation"), Sort: key(id)}
}
func reconcilingKey(id string) store.Key {
	return store.Key{Part: key(schema, "reconciling"), Sort: key(id)}
}
func partKey(id string, n int) store.Key {
	return store.Key{Part: key(schema, "reconciliation", id), Sort: key(fmt.Sprintf("%08d", n))}
}
func reconciledKey(platform, object string) store.Key {
	return store.Key{Part: key(schema, "reconciled"), Sort: key(platform, object)}
}

// SaveReconciliation writes the head of a run. A new one has no revision. fault.Conflict: somebody else moved it.
func (l *Ledger) SaveReconciliation(ctx context.Context, r Reconciliation) (Reconciliation, error) {
	var b batch
	b.put(store.Op{Key: reconciliationKey(r.ID), IfRev: r.rev, Absent: r.rev == "", Expires: expiry(l.now().UTC(), keepReconciliations)},
		storedReconciliation{r.Active, r.Created, r.Head})
	switch {
	case r.Active && !r.active:
		b.add(store.Op{Kind: store.Put, Key: reconcilingKey(r.ID), Value: []byte("{}")})
	case !r.Active && r.active:
		b.add(store.Op{Kind: store.Delete, Key: reconcilingKey(r.ID)})
	}
	if err := l.commit(ctx, "ledger.reconciliation", r.ID, &b); err != nil {
		return r, err
	}
	return l.Reconciliation(ctx, r.ID)
}

// Reconciliation reads the head of a run.
func (l *Ledger) Reconciliation(ctx context.Context, id string) (Reconciliation, error) {
	e, err := l.one(ctx, reconciliationKey(id), &fault.Error{Class: fault.NotFound, Op: "ledger.reconciliation", ID: id, Detail: "no such run", Remedy: "sorrel reconcile list"})
	if err != nil {
		return Reconciliation{}, err
	}
	return readReconciliation(e)
}

func readReconciliation(e store.Entry) (Reconciliation, error) {
	var s storedReconciliation
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return Reconciliation{}, fault.Wrap(fault.Internal, "ledger.reconciliation", e.Key.String(), err)
	}
	return Reconciliation{ID: split(e.Sort)[0], Active: s.Active, Created: s.Created, Head: s.Head, rev: e.Rev, active: s.Active}, nil
}

// Reconciliations lists the heads of all runs, the newest first.
func (l *Ledger) Reconciliations(ctx context.Context) ([]Reconciliation, error) {
	var out []Reconciliation
	for e, err := range l.store.Range(ctx, reconciliationKey("x").Part, "\x00", "") {
		if err != nil {
			return nil, classify("ledger.reconciliations", "", err)
		}
		r, err := readReconciliation(e)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Reconciliation) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(b.ID, a.ID))
	})
	return out, nil
}

// Reconciling lists the ids of the runs that somebody has to move on, the oldest first as far as ids sort by time.
func (l *Ledger) Reconciling(ctx context.Context) ([]string, error) {
	var out []string
	for e, err := range l.store.Range(ctx, reconcilingKey("x").Part, "\x00", "") {
		if err != nil {
			return nil, classify("ledger.reconciling", "", err)
		}
		out = append(out, split(e.Sort)[0])
	}
	return out, nil
}

// Part reads part n of a run. One that was never saved is empty.
func (l *Ledger) Part(ctx context.Context, run string, n int) (Part, error) {
	e, err := l.store.Get(ctx, partKey(run, n))
	if errors.Is(err, store.ErrNotFound) {
		return Part{}, nil
	}
	return Part{e.Value, e.Rev}, classify("ledger.part", run, err)
}

// SavePart writes part n of a run, and with done that its set was compared wholly. fault.Conflict: somebody else moved it.
func (l *Ledger) SavePart(ctx context.Context, run string, n int, p Part, of record.Ref, done *Reconciled) (Part, error) {
	var b batch
	b.add(store.Op{Kind: store.Put, Key: partKey(run, n), Value: p.Body, IfRev: p.rev, Absent: p.rev == "", Expires: expiry(l.now().UTC(), keepReconciliations)})
	if done != nil {
		b.put(store.Op{Key: reconciledKey(of.Platform, of.Object)}, done)
	}
	if err := l.commit(ctx, "ledger.part", fmt.Sprintf("%s/%d", run, n), &b); err != nil {
		return p, err
	}
	return l.Part(ctx, run, n)
}

// LastReconciled is when a platform's object was compared wholly for the last time, or false.
func (l *Ledger) LastReconciled(ctx context.Context, platform, object string) (Reconciled, bool, error) {
	var out Reconciled
	e, err := l.store.Get(ctx, reconciledKey(platform, object))
	if errors.Is(err, store.ErrNotFound) {
		return out, false, nil
	}
	if err != nil {
		return out, false, classify("ledger.reconciled", platform+"/"+object, err)
	}
	return out, true, fault.Wrap(fault.Internal, "ledger.reconciled", platform+"/"+object, json.Unmarshal(e.Value, &out))
}
