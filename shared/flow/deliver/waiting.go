package deliver

import (
	"context"
	"maps"
	"slices"
	"sync"

	"sorrel/shared/govern"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

const (
	maxReferrers = 300 // that are looked at, of one record that has arrived
	maxRounds    = 4   // of those who waited for those who waited
	loadedAtOnce = 50
)

// arrivals are records that have got their native record on a platform, and that others may have waited for there. They are
// remembered until the next batch for that platform has been worked on, whoever does it; a process that dies before loses
// nothing but time.
type arrivals struct {
	mu sync.Mutex
	on map[string]map[record.ID]ledger.State // as they arrived
}

func (a *arrivals) add(platform string, s ledger.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.on[platform] == nil {
		a.on[platform] = map[record.ID]ledger.State{}
	}
	a.on[platform][s.Record.ID] = s
}

func (a *arrivals) take(platform string) map[record.ID]ledger.State {
	a.mu.Lock()
	defer a.mu.Unlock()
	on := a.on[platform]
	delete(a.on, platform)
	return on
}

// follow delivers those who have waited for what has arrived. No lock is held here: a record must not wait for one that
// refers to it. What cannot be finished now is due at once, for the sweep; what was not looked at is due when it was.
func (f *Flow) follow(ctx context.Context, platform string) {
	for range maxRounds {
		ready := map[record.ID]bool{}
		arrived := f.arrived.take(platform)
		for _, id := range slices.Sorted(maps.Keys(arrived)) {
			if err := f.release(ctx, platform, arrived[id], ready); err != nil {
				f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: platform, Record: string(id), Detail: "waking those who wait for it", Err: err})
			}
		}
		if len(ready) == 0 {
			return
		}
		f.d.Telemetry.Count("WaitedFor", platform, float64(len(ready)))
		ids := make([]record.ID, 0, len(ready))
		for id := range ready {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		for id, err := range f.byEntity(ctx, platform, ids, 0) {
			f.d.Telemetry.Event(ctx, telemetry.Event{Step: "failed", Platform: platform, Record: string(id), Err: err})
		}
	}
}

// release makes those due at once who wait for a record on a platform, and notes them in ready. It costs one request where
// nobody refers to the record, and none where no entity could.
func (f *Flow) release(ctx context.Context, platform string, arrived ledger.State, ready map[record.ID]bool) error {
	entities := f.d.Config.Referring(arrived.Record.ID.Entity(), platform)
	if len(entities) == 0 || !fits(ctx) {
		return nil
	}
	var ids []record.ID
	n := 0
	for from, err := range f.d.Ledger.ReferringTo(ctx, arrived) {
		if err != nil {
			return err
		}
		if slices.Contains(entities, from.Entity()) {
			ids = append(ids, from)
		}
		if n++; n == maxReferrers {
			break
		}
	}
	for some := range slices.Chunk(ids, loadedAtOnce) {
		states, err := f.d.Ledger.Load(ctx, some...)
		if err != nil {
			return err
		}
		for _, id := range some {
			if !fits(ctx) {
				return nil
			}
			if len(states[id].Due[platform].Waits) == 0 {
				continue
			}
			_, err := govern.Change(ctx, f.d.Ledger, f.d.Config, id, govern.Cause{Now: f.d.Now().UTC()}, func(s *ledger.State) ([]record.Event, error) {
				if due, still := s.Due[platform]; still && !s.Awake(platform, f.d.Now().UTC()) {
					due.Waits, due.NotBefore = nil, f.d.Now().UTC()
					s.Due[platform] = due
				}
				return nil, nil
			})
			if err != nil {
				return err
			}
			ready[id] = true
		}
	}
	return nil
}

// missed notes those of the records that a job waits for which have arrived since it looked: whoever brought them may have
// looked for those who wait before the job was among them.
func (f *Flow) missed(ctx context.Context, j *job) {
	for _, id := range j.waits {
		s, err := f.d.Ledger.Follow(ctx, id)
		if err != nil {
			return // it waits as long as it is put off
		}
		if s.Record.Views[j.platform].Exists() && !s.Record.Alone(f.d.Config.Rules(s.Record.ID.Entity()), j.platform) {
			f.arrived.add(j.platform, s)
		}
	}
}
