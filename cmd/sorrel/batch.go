package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/flow/batch"
	"sorrel/shared/ledger"
	"sorrel/shared/telemetry"
)

type batchCommand struct {
	Load    batchLoadCommand    `cmd:"" help:"Load everything that a platform has of an entity for the first time. A load that was ended goes on."`
	Status  batchStatusCommand  `cmd:"" help:"Show where the listings of the platforms stand."`
	Restart batchRestartCommand `cmd:"" help:"Have an entity listed from the beginning: when its cursor is lost, or another account's."`
}

// batchWorld is what these commands work on.
type batchWorld struct {
	Config      string `help:"Folder with policy, mapping and contract; default is the embedded configuration." type:"existingdir"`
	Twins       string `help:"Addresses and credentials of the platforms, a file such as sorrel twins writes." type:"existingfile" required:""`
	Data        string `default:".sorrel" help:"Folder of the durable store that sorrel dev uses. No other process may have it open."`
	EndpointURL string `name:"endpoint-url" help:"Use the DynamoDB and SQS adapters at this AWS-compatible endpoint instead of files; see sorrel dev."`
}

func (c batchWorld) open(ctx context.Context) (*boot.World, error) {
	set, err := boot.LoadConfig(c.Config)
	if err != nil {
		return nil, err
	}
	dev := devCommand{Data: c.Data, Twins: c.Twins, EndpointURL: c.EndpointURL}
	endpoints, _, err := dev.platforms()
	if err != nil {
		return nil, err
	}
	return dev.world(ctx, set, endpoints, func(now func() time.Time) *telemetry.Recorder { return telemetry.New(nil, now, nil) })
}

type batchLoadCommand struct {
	Platform string `arg:"" help:"The platform, such as netsuite."`
	Entity   string `arg:"" help:"What to load, such as product."`
	Again    bool   `help:"From the beginning, though it was loaded or listed before. What is known already changes nothing."`
	Unlinked bool   `help:"Although the entity has match rules and sorrel link was not applied: what exists elsewhere is made a second time."`
	By       string `env:"USER" help:"Who loads."`
	JSON     bool   `help:"Print JSON."`
	Quiet    bool   `help:"No progress on standard error."`
	batchWorld
}

// loadPatience is how long a load waits for a vendor that gives nothing, in all, before it leaves the rest to another run.
const loadPatience = 30 * time.Minute

// Run loads to the end, waiting where the vendor is not ready or has no room.
func (c batchLoadCommand) Run(ctx binding, s screen) (err error) {
	w, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	bar := &loadBar{s: s, began: time.Now(), on: terminal(os.Stderr)}
	o := batch.LoadOptions{By: c.By, Again: c.Again, Unlinked: c.Unlinked}
	if !c.Quiet {
		o.Progress = bar.show
	}
	flow, began := w.Batch(), time.Now()
	var all batch.Loaded
	pause, waited := time.Duration(0), time.Duration(0)
	for {
		got, err := flow.Load(ctx, c.Platform, c.Entity, o)
		o.Again = false
		got.Queued, got.Pages = got.Queued+all.Queued, got.Pages+all.Pages
		got.Resumed, got.Total = got.Records-got.Queued, cmp.Or(got.Total, all.Total)
		if got.Queued > all.Queued {
			pause, waited = 0, 0
		}
		all = got
		if err == nil && got.Complete {
			break
		}
		if err != nil && fault.RowOf(err).Queue != fault.Keep && !fault.Is(err, fault.Conflict) || waited > loadPatience {
			bar.end()
			return fault.Wrap("", "batch", c.Platform+"/"+c.Entity, cmp.Or(err, error(&fault.Error{Class: fault.Unsettled, Detail: "the platform gives no more for now", Remedy: "run it again later: it goes on"})))
		}
		pause = min(max(500*time.Millisecond, 2*pause), 30*time.Second)
		if at := fault.RetryAt(err); !at.IsZero() {
			pause = min(max(time.Until(at), 100*time.Millisecond), time.Minute)
		}
		if !c.Quiet {
			bar.waits(err)
		}
		waited += pause
		if err := deadline.Pause(ctx, pause); err != nil {
			bar.end()
			return err
		}
	}
	bar.end()
	if c.JSON {
		return s.json(all)
	}
	if all.Queued == 0 && all.Pages == 0 {
		s.printf("%s of %s was loaded before, at %s: %s records. With --again it is loaded from the beginning.\n", c.Entity, c.Platform, all.Ended.UTC().Format(time.DateTime), grouped(all.Records))
		return nil
	}
	took := time.Since(began)
	s.printf("%s records of %s are queued, %s of them by earlier runs; %.1f s, %s a second\n", grouped(all.Records), c.Entity, grouped(all.Resumed), took.Seconds(), grouped(int(float64(all.Queued)/max(took.Seconds(), 0.001))))
	return nil
}

// loadBar tells how far a load is: a bar on a terminal, a line a second elsewhere.
type loadBar struct {
	s     screen
	on    bool // a terminal
	began time.Time
	last  time.Time
	first int // records that were there when it began
	drawn bool
}

func (b *loadBar) show(l batch.Loaded) {
	now := time.Now()
	if b.last.IsZero() {
		b.first = l.Records - l.Queued
	}
	every := time.Second
	if b.on {
		every = 100 * time.Millisecond
	}
	if now.Sub(b.last) < every && !l.Complete {
		return
	}
	b.last = now
	rate := float64(l.Records-b.first) / max(now.Sub(b.began).Seconds(), 0.001)
	text := barText(l, rate)
	if !b.on {
		fmt.Fprintln(b.s.err, text)
		return
	}
	b.drawn = true
	fmt.Fprint(b.s.err, "\r"+text+"\x1b[K")
}

// barText is one line of at most 80 columns.
func barText(l batch.Loaded, rate float64) string {
	text := fmt.Sprintf("%s %s: %s", l.Platform, l.Entity, grouped(l.Records))
	if l.Total <= 0 {
		return cut(fmt.Sprintf("%s records, %s/s", text, grouped(int(rate))), 79)
	}
	share := min(float64(l.Records)/float64(l.Total), 1)
	const width = 20
	full := int(share * width)
	left := ""
	if more := l.Total - l.Records; more > 0 && rate > 0 {
		left = ", " + (time.Duration(float64(more) / rate * float64(time.Second))).Round(time.Second).String() + " left"
	}
	return cut(fmt.Sprintf("%s of %s [%s%s] %3.0f %% %s/s%s", text, grouped(l.Total), strings.Repeat("#", full), strings.Repeat(".", width-full), share*100, grouped(int(rate)), left), 79)
}

func (b *loadBar) waits(err error) {
	text := "waiting: the platform is not ready yet"
	if err != nil {
		text = "waiting: " + err.Error()
	}
	if now := time.Now(); b.on || now.Sub(b.last) >= time.Second {
		b.last = now
		b.end()
		fmt.Fprintln(b.s.err, cut(text, 79))
	}
}

// end leaves the bar where it is.
func (b *loadBar) end() {
	if b.drawn {
		fmt.Fprintln(b.s.err)
		b.drawn = false
	}
}

type batchStatusCommand struct {
	JSON bool `help:"Print JSON."`
	batchWorld
}

// Run shows where the listings stand.
func (c batchStatusCommand) Run(ctx binding, s screen) (err error) {
	w, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	type stand struct {
		Platform string          `json:"platform"`
		Object   string          `json:"object"`
		Account  string          `json:"account,omitempty"`
		Complete time.Time       `json:"complete,omitzero"`
		Loading  *ledger.Loading `json:"load,omitempty"`
	}
	all := []stand{}
	var rows [][]string
	for _, p := range boot.Platforms() {
		listings, err := w.Batch().Stands(ctx, p)
		if err != nil {
			return err
		}
		slices.SortFunc(listings, func(a, b ledger.Listing) int { return strings.Compare(a.Object, b.Object) })
		for _, n := range listings {
			all = append(all, stand{n.Platform, n.Object, n.Account, n.Complete, n.Loading})
			listed, load := "not yet", ""
			if !n.Complete.IsZero() {
				listed = n.Complete.UTC().Format(time.DateTime)
			}
			if l := n.Loading; l != nil {
				load = grouped(l.Records) + " so far"
				if !l.Ended.IsZero() {
					load = grouped(l.Records)
				}
			}
			rows = append(rows, []string{n.Platform, n.Object, listed, load})
		}
	}
	if c.JSON {
		return s.json(all)
	}
	if len(rows) == 0 {
		s.printf("nothing was listed yet\n")
	}
	s.table([]string{"PLATFORM", "OBJECT", "LISTED TO THE END", "LOADED"}, rows)
	return nil
}

type batchRestartCommand struct {
	Platform string `arg:"" help:"The platform, such as netsuite."`
	Entity   string `arg:"" help:"What to list from the beginning, such as product."`
	batchWorld
}

// Run forgets a cursor.
func (c batchRestartCommand) Run(ctx binding, s screen) (err error) {
	w, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.Batch().Restart(ctx, c.Platform, c.Entity); err != nil {
		return err
	}
	s.printf("%s of %s is listed from the beginning; what is known already changes nothing\n", c.Entity, c.Platform)
	return nil
}
