package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/budget"
	"sorrel/shared/deadline"
	"sorrel/shared/flow/batch"
	"sorrel/shared/ledger"
	"sorrel/shared/local"
	"sorrel/shared/record"
	"sorrel/shared/twins"
)

// FirstLoadOptions of a first load that is killed. Zero values have the defaults that are named.
type FirstLoadOptions struct {
	Records  int    // items in NetSuite; 100,000
	Kills    int    // kill -9 at random moments; 20
	Seed     uint64 // 1
	Program  string // the sorrel to run; "" = this very program
	Dir      string // "" = a temporary folder
	Progress io.Writer
}

// FirstLoadReport is what it found.
type FirstLoadReport struct {
	Machine   Machine `json:"machine"`
	Seed      uint64  `json:"seed"`
	Records   int     `json:"records"`
	Kills     int     `json:"kills"`
	Early     int     `json:"killsBeforeTheFirstCall"`
	Calls     int     `json:"providerCalls"`      // of the load that was killed
	Undisturb int     `json:"providerCallsAlone"` // of one that was not
	Repeated  int     `json:"messagesRepeated"`   // of pages that a kill made a load list again; the queue drops those within its window
	LoadSec   float64 `json:"loadSeconds"`        // with the kills
	AloneSec  float64 `json:"loadSecondsAlone"`   // without
	PeakMB    float64 `json:"peakMBAlone"`        // resident, of the load that was not killed
	DrainSec  float64 `json:"drainSeconds"`       // until the hub had taken all of it
	Checks    []Check `json:"checks"`
}

// Held reports whether every promise was kept.
func (r FirstLoadReport) Held() bool { return held(r.Checks) }

// Print writes the report for people.
func (r FirstLoadReport) Print(w io.Writer) error {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	p("sorrel bench load, seed %d\n\n", r.Seed)
	p("%s items of NetSuite, kill -9 %d times, %d of them before the first call\n", thousands(float64(r.Records)), r.Kills, r.Early)
	p("alone    %6.1f s, %s records/s, %d calls, %.0f MB at most\n", r.AloneSec, thousands(float64(r.Records)/max(r.AloneSec, 0.001)), r.Undisturb, r.PeakMB)
	p("killed   %6.1f s, %d calls, %s messages repeated\n", r.LoadSec, r.Calls, thousands(float64(r.Repeated)))
	p("the hub  %6.1f s, %s records/s\n\n", r.DrainSec, thousands(float64(r.Records)/max(r.DrainSec, 0.001)))
	printChecks(&b, r.Checks)
	_, err := io.WriteString(w, b.String())
	return err
}

// FirstLoad loads products by `sorrel batch load`, which is killed again and again, and looks what the hub makes of it.
func FirstLoad(ctx context.Context, o FirstLoadOptions) (r FirstLoadReport, err error) {
	if o.Records <= 0 {
		o.Records = 100_000
	}
	if o.Kills == 0 {
		o.Kills = 20
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Program == "" {
		if o.Program, err = os.Executable(); err != nil {
			return r, err
		}
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "sorrel-load-"); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	}
	r = FirstLoadReport{Machine: machine(), Seed: o.Seed, Records: o.Records, Kills: o.Kills}
	tw, err := twins.Start(twins.Options{Now: time.Now, Seed: o.Seed, Roomy: true})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, tw.Close(context.WithoutCancel(ctx))) }()
	f := firstLoad{FirstLoadOptions: o, twins: tw, rng: rand.New(rand.NewPCG(o.Seed, 3))}
	if f.items, err = f.fill(); err != nil {
		return r, err
	}
	endpoints, err := json.Marshal(tw.Endpoints())
	if err != nil {
		return r, err
	}
	f.endpoints = filepath.Join(o.Dir, "twins.json")
	if err := os.WriteFile(f.endpoints, endpoints, 0o600); err != nil {
		return r, err
	}

	before, began := f.calls(), time.Now()
	alone, usage, err := f.whole(ctx, "alone")
	if err != nil {
		return r, err
	}
	r.AloneSec, r.Undisturb, r.PeakMB = time.Since(began).Seconds(), f.calls()-before, usage
	before, began = f.calls(), time.Now()
	per := 2 * r.Undisturb / (o.Kills + 1)
	for range o.Kills {
		early, err := f.killed(ctx, per)
		if err != nil {
			return r, err
		}
		if early {
			r.Early++
		}
	}
	loaded, _, err := f.whole(ctx, "killed")
	if err != nil {
		return r, err
	}
	r.LoadSec, r.Calls = time.Since(began).Seconds(), f.calls()-before
	fmt.Fprintf(o.Progress, "loaded %d after %d kills; the hub takes it\n", loaded.Records, o.Kills)
	r.Checks = []Check{{"records loaded without kills, by its own count", alone.Records, o.Records}, {"records loaded, by its own count", loaded.Records, o.Records}}
	began = time.Now()
	err = f.drained(ctx, &r)
	r.DrainSec = time.Since(began).Seconds()
	if err == nil && !r.Held() {
		err = errors.New("not everything held")
	}
	return r, err
}

type firstLoad struct {
	FirstLoadOptions
	twins     *twins.Twins
	rng       *rand.Rand
	endpoints string
	items     []string
}

// fill makes the items; several were saved in each second.
func (f *firstLoad) fill() ([]string, error) {
	start := time.Now().Add(-90 * 24 * time.Hour).Truncate(time.Second)
	ids := make([]string, f.Records)
	for i := range ids {
		var err error
		ids[i], err = f.twins.NetSuite.Load("item", "", map[string]any{"itemId": fmt.Sprintf("ITEM-%06d", i), "displayName": fmt.Sprint("Item number ", i), "salesDescription": "Of the best",
			"price": map[string]any{"items": []any{map[string]any{"unitPrice": float64(i%1000) + 0.5}}}}, start.Add(time.Duration(i/7)*time.Second))
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func (f *firstLoad) calls() int { return f.twins.NetSuite.Kit().Stats().Calls }

func (f *firstLoad) command(ctx context.Context, folder string) *exec.Cmd {
	return exec.CommandContext(ctx, f.Program, "batch", "load", record.NetSuite, "product", "--twins", f.endpoints, "--data", filepath.Join(f.Dir, folder), "--quiet", "--json")
}

// whole runs a load to its end: what it says, and the megabytes that it had at most.
func (f *firstLoad) whole(ctx context.Context, folder string) (batch.Loaded, float64, error) {
	var out batch.Loaded
	var said, problems bytes.Buffer
	c := f.command(ctx, folder)
	c.Stdout, c.Stderr = &said, &problems
	if err := c.Run(); err != nil {
		return out, 0, fmt.Errorf("%s: %w: %s", c, err, &problems)
	}
	peak := 0.0
	if u, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = float64(u.Maxrss) / 1024 // kilobytes on Linux
	}
	return out, peak, json.Unmarshal(said.Bytes(), &out)
}

// killed runs a load and kills it after up to so many of its calls, and a moment; early says that it had made none.
func (f *firstLoad) killed(ctx context.Context, most int) (early bool, err error) {
	begin := f.calls()
	after, moment := f.rng.IntN(max(1, most)+1), time.Duration(f.rng.IntN(40))*time.Millisecond
	c := f.command(ctx, "killed")
	if err := c.Start(); err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for f.calls()-begin < after {
		select {
		case err := <-ended: // it was nearly done
			if err == nil {
				return false, nil
			}
			return false, fmt.Errorf("a load failed by itself: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
	if err := deadline.Pause(ctx, moment); err != nil {
		_ = c.Process.Kill()
		return false, err
	}
	_ = c.Process.Kill() // it may have ended
	<-ended
	return f.calls() == begin, nil
}

// drained lets the hub take what was loaded, and compares what it made of it with the items.
func (f *firstLoad) drained(ctx context.Context, r *FirstLoadReport) (err error) {
	set, err := boot.LoadConfig("")
	if err != nil {
		return err
	}
	w, err := boot.Embedded(filepath.Join(f.Dir, "killed"), set, f.twins.Endpoints(), quiet)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	depth, err := w.Queues[boot.InboundQueue].Depth(ctx)
	if err != nil {
		return err
	}
	r.Repeated = depth.Visible + depth.InFlight - f.Records
	h, err := local.Start(w, local.Options{Listen: "127.0.0.1:0", BatchEvery: -1, SweepEvery: -1, DeliverWorkers: -1, RunWorkers: -1, TellWorkers: -1})
	if err != nil {
		return err
	}
	for {
		depth, err := w.Queues[boot.InboundQueue].Depth(ctx)
		if err != nil || depth.Visible+depth.InFlight == 0 {
			err = errors.Join(err, h.Close(ctx))
			if err != nil {
				return err
			}
			break
		}
		if err := deadline.Pause(ctx, 50*time.Millisecond); err != nil {
			return errors.Join(err, h.Close(context.WithoutCancel(ctx)))
		}
	}
	dead, err := w.Queues[strings.TrimSuffix(boot.InboundQueue, ".fifo")+"-dlq.fifo"].Depth(ctx)
	if err != nil {
		return err
	}
	missing, wrong := 0, 0
	for i, id := range f.items {
		ref := record.Ref{Platform: record.NetSuite, Object: "item", ID: id}
		record, known, err := w.Ledger.Lookup(ctx, ref)
		if err != nil {
			return err
		}
		if !known {
			missing++
			continue
		}
		states, err := w.Ledger.Load(ctx, record)
		if err != nil {
			return err
		}
		if got := states[record].Record.Golden["number"].Value.Raw(); fmt.Sprint(got) != "ITEM-"+fmt.Sprintf("%06d", i) {
			wrong++
		}
	}
	open, err := w.Ledger.Exceptions(ctx, false)
	if err != nil {
		return err
	}
	listing, err := w.Ledger.Listing(ctx, record.NetSuite, "item")
	if err != nil {
		return err
	}
	made, again, err := f.records(ctx, w)
	if err != nil {
		return err
	}
	due, urgent := 0, 0
	for p, err := range w.Ledger.DueFor(ctx, record.Salesforce) {
		if err != nil {
			return err
		}
		if due++; p.Class != budget.Reconcile {
			urgent++
		}
	}
	stands := 0
	if l := listing.Loading; l != nil && !l.Ended.IsZero() && listing.Holder == nil {
		stands = 1
	}
	r.Checks = append(r.Checks, Check{"items without a record", missing, 0}, Check{"records", made, f.Records}, Check{"records with another item's number", wrong, 0},
		Check{"changes of records after they were made", again, 0}, Check{"exceptions", len(open), 0}, Check{"dead letters", dead.Visible + dead.InFlight, 0},
		Check{"copies that wait for live changes to go first", due, f.Records}, Check{"copies that do not", urgent, 0}, Check{"loads that are ended and let go", stands, 1})
	return nil
}

// records counts the records of products, and what was done to them after they were made.
func (f *firstLoad) records(ctx context.Context, w *boot.World) (made, again int, err error) {
	last := ""
	for e, err := range w.Ledger.Scan(ctx, ledger.LogMark{}, "product") {
		switch {
		case err != nil:
			return made, again, err
		case e.Chain == last:
			again++
		default:
			made, last = made+1, e.Chain
		}
	}
	return made, again, nil
}
