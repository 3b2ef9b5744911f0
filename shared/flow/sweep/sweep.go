// Package sweep wakes what is due and has not been woken, or whose time has come: it is what makes losing
// queue messages harmless.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/ledger"
	"sorrel/shared/message"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Deps are what sweep needs. All are required.
type Deps struct {
	Ledger    *ledger.Ledger
	Wake      map[string]queue.Sender // by platform
	Inbound   queue.Sender
	Now       func() time.Time
	Grace     time.Duration // work that became due less than this ago has its wake-up on the queue
	Telemetry *telemetry.Recorder
}

// Flow is the sweep function.
type Flow struct{ d Deps }

// New returns the function.
func New(d Deps) *Flow { return &Flow{d} }

// Swept is what one run did.
type Swept struct {
	Due       map[string]int // waiting, by platform
	Woken     int
	Rechecked int
	Timed     int // records whose time has come: a proposal expires, an override ends, a held value is tried again
}

// maxWoken bounds the wake-ups of one run per platform; the rest is woken by the next.
const maxWoken = 5000

// Apply wakes due work and rechecks. Waking twice is harmless: a wake-up without due work does nothing.
func (f *Flow) Apply(ctx context.Context) (Swept, error) {
	now := f.d.Now()
	out := Swept{Due: map[string]int{}}
	var errs []error // one platform's trouble is not the others'
	for _, name := range slices.Sorted(maps.Keys(f.d.Wake)) {
		errs = append(errs, f.platform(ctx, name, f.d.Wake[name], now, &out))
	}
	errs = append(errs, f.rechecks(ctx, now, &out), f.timers(ctx, now, &out))
	return out, errors.Join(errs...)
}

func (f *Flow) platform(ctx context.Context, name string, q queue.Sender, now time.Time, out *Swept) error {
	var oldest time.Duration
	var msgs []queue.Message
	for p, err := range f.d.Ledger.DueFor(ctx, name) {
		if err != nil {
			return err
		}
		out.Due[name]++
		oldest = max(oldest, now.Sub(p.Since))
		fresh := p.NotBefore.IsZero() && now.Sub(p.Since) < f.d.Grace // what was put off has no wake-up on the queue
		if p.NotBefore.After(now) || fresh || len(msgs) >= maxWoken {
			continue
		}
		// The same entry is woken once per half minute at most: its dedup id changes with the time.
		id := fmt.Sprintf("sweep-%d", now.Unix()/30)
		if !p.NotBefore.IsZero() {
			id = fmt.Sprintf("sweep-%d-%d", p.NotBefore.UnixMilli(), now.Unix()/30)
		}
		m, err := message.Wake{Platform: name, Record: p.Record, CorrelationID: id}.Message(id)
		if err != nil {
			return err
		}
		msgs = append(msgs, m)
	}
	f.d.Telemetry.Gauge("Due", name, float64(out.Due[name]))
	f.d.Telemetry.Gauge("DueOldestAge", name, oldest.Seconds())
	if len(msgs) == 0 {
		return nil
	}
	out.Woken += len(msgs)
	f.d.Telemetry.Count("Swept", name, float64(len(msgs)))
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "swept", Platform: name, Detail: fmt.Sprintf("%d woken", len(msgs))})
	return q.Send(ctx, msgs...)
}

func (f *Flow) rechecks(ctx context.Context, now time.Time, out *Swept) error {
	for r, err := range f.d.Ledger.Rechecks(ctx) {
		if err != nil {
			return err
		}
		if r.NotBefore.After(now) {
			continue
		}
		in := message.Inbound{CorrelationID: r.Trace, ReceivedAt: now.UTC(), Source: message.Recheck, Native: record.Native{Ref: r.Ref}}
		m, err := in.Message("recheck/" + r.NotBefore.UTC().Format(time.RFC3339Nano))
		if err != nil {
			return err
		}
		if err := f.d.Inbound.Send(ctx, m); err != nil {
			return err
		}
		if err := f.d.Ledger.Rechecked(ctx, r); err != nil {
			return err
		}
		out.Rechecked++
	}
	return nil
}

// timers sends the records whose time has come to the hub. The index entry goes with the hub's commit, so that a lost
// message is sent again.
func (f *Flow) timers(ctx context.Context, now time.Time, out *Swept) error {
	for t, err := range f.d.Ledger.Timers(ctx, now) {
		if err != nil {
			return err
		}
		if out.Timed >= maxWoken {
			return nil
		}
		event := fmt.Sprintf("timer-%d-%d", t.At.UnixMilli(), now.Unix()/30) // once per half minute at most
		entity, key, _ := strings.Cut(string(t.Record), "/")
		in := message.Inbound{CorrelationID: event, ReceivedAt: now.UTC(), Source: message.Timer,
			Native: record.Native{Ref: record.Ref{Platform: record.Sorrel, Object: entity, ID: key}}}
		m, err := in.Message(event)
		if err != nil {
			return err
		}
		if err := f.d.Inbound.Send(ctx, m); err != nil {
			return err
		}
		out.Timed++
	}
	return nil
}
