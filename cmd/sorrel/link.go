package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sorrel/shared/bench"
	"sorrel/shared/boot"
	"sorrel/shared/cloud/cliconfig"
	"sorrel/shared/fault"
	"sorrel/shared/flow/link"
	"sorrel/shared/match"
	"sorrel/shared/policy"
	"sorrel/shared/telemetry"
)

type linkCommand struct {
	Entity      []string `help:"Only these; by default all that have match rules. References resolve to entities before them."`
	Apply       bool     `help:"Commit records and links for what is without doubt, and open exceptions for the rest."`
	By          string   `env:"USER" help:"Who applies, for the audit log."`
	Ambiguous   string   `placeholder:"FILE" help:"Write all ambiguous ones to this file, one JSON object a line."`
	JSON        bool     `help:"Print JSON, with all ambiguous ones."`
	Quiet       bool     `help:"No progress on standard error."`
	Config      string   `help:"Folder with policy, mapping and contract; default is the embedded configuration." type:"existingdir"`
	Twins       string   `help:"Addresses and credentials of the platforms, a file such as sorrel twins writes." type:"existingfile"`
	Data        string   `default:".sorrel" help:"Folder of the durable store that sorrel dev uses. No other process may have it open."`
	EndpointURL string   `name:"endpoint-url" help:"Use the DynamoDB and SQS adapters at this AWS-compatible endpoint instead of files; see sorrel dev."`

	Table   string            `help:"Link for a deployed stack: the name of its DynamoDB table." group:"A deployed stack"`
	Secret  string            `help:"ARN of its secret with the platforms' credentials." group:"A deployed stack"`
	Address map[string]string `help:"Base URLs of the platforms, such as netsuite=https://…; as in the stack's parameters." group:"A deployed stack"`
	Profile string            `help:"AWS profile." group:"A deployed stack"`
	Region  string            `help:"AWS region." group:"A deployed stack"`
}

// Run reports; with --apply it also commits.
func (c linkCommand) Run(ctx binding, s screen) (err error) {
	set, err := boot.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	w, done, err := c.world(ctx, set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	scratch, err := os.CreateTemp("", "sorrel-link-")
	if err != nil {
		return fault.Wrap(fault.Refused, "link", "", err)
	}
	_ = os.Remove(scratch.Name()) // it holds personal data; where an open file cannot be removed, it is below
	defer func() { _, _ = scratch.Close(), os.Remove(scratch.Name()) }()
	progress := s.progress(time.Now)
	if c.Quiet {
		progress = nil
	}
	r, err := w.Link(scratch, progress).Run(ctx, link.Options{Entities: c.Entity, Apply: c.Apply, By: c.By})
	if err != nil {
		return err
	}
	if c.Ambiguous != "" {
		if err := saveAmbiguous(c.Ambiguous, r); err != nil {
			return err
		}
	}
	if c.JSON {
		return s.json(r)
	}
	for _, e := range r.Entities {
		s.linked(e, set, r.Applied)
	}
	if !r.Applied {
		s.printf("Nothing was written. With --apply, what is matched and created is committed.\n")
	}
	return nil
}

// world is what the command works on, and how to end it.
func (c linkCommand) world(ctx context.Context, set *policy.Set) (*boot.World, func() error, error) {
	if c.Table != "" {
		if c.Secret == "" || len(c.Address) == 0 {
			return nil, nil, fault.New(fault.Malformed, "link", "a deployed stack needs --secret and an --address for each platform as well")
		}
		account, err := cliconfig.Open(ctx, c.Profile, c.Region, os.Getenv("AWS_ENDPOINT_URL"))
		if err != nil {
			return nil, nil, err
		}
		w, err := boot.Linking(ctx, account, c.Table, c.Secret, c.Address, set)
		return w, func() error { return nil }, err
	}
	if c.Twins == "" {
		return nil, nil, &fault.Error{Class: fault.Malformed, Op: "link", Detail: "no platforms are named", Remedy: "give --twins FILE for a local world, or --table, --secret and --address for a deployed stack"}
	}
	dev := devCommand{Data: c.Data, Twins: c.Twins, EndpointURL: c.EndpointURL}
	endpoints, _, err := dev.platforms()
	if err != nil {
		return nil, nil, err
	}
	clean := func() error { return nil }
	if _, err := os.Stat(c.Data); errors.Is(err, os.ErrNotExist) && !c.Apply {
		// Nothing is known yet, and a report must not leave a store behind.
		if dev.Data, err = os.MkdirTemp("", "sorrel-link-"); err != nil {
			return nil, nil, fault.Wrap(fault.Refused, "link", "", err)
		}
		clean = func() error { return os.RemoveAll(dev.Data) }
	}
	w, err := dev.world(ctx, set, endpoints, func(now func() time.Time) *telemetry.Recorder { return telemetry.New(nil, now, nil) })
	if err != nil {
		return nil, nil, errors.Join(err, clean())
	}
	return w, func() error { return errors.Join(w.Close(), clean()) }, nil
}

// progress tells on standard error how far a run is: of each platform at most once a second.
func (s screen) progress(now func() time.Time) func(link.Progress) {
	var mu sync.Mutex
	last := map[string]time.Time{}
	return func(p link.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if about := p.Entity + p.Platform; p.Waiting == nil {
			if now().Sub(last[about]) < time.Second {
				return
			}
			last[about] = now()
		}
		switch {
		case p.Waiting != nil:
			fmt.Fprintln(s.err, cut(fmt.Sprintf("%s: %s: waiting: %v", p.Entity, p.Platform, p.Waiting), 80))
		case p.Platform == "":
			fmt.Fprintf(s.err, "%s: %s of %s records committed\n", p.Entity, grouped(p.Listed), grouped(p.Of))
		default:
			fmt.Fprintf(s.err, "%s: %s: %s listed\n", p.Entity, p.Platform, grouped(p.Listed))
		}
	}
}

// doubtfulLine is one line of the file of ambiguous ones.
type doubtfulLine struct {
	Entity string `json:"entity"`
	link.Doubtful
}

func saveAmbiguous(name string, r link.Report) (err error) {
	f, err := os.OpenFile(filepath.Clean(name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fault.Wrap(fault.Refused, "link", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriter(f)
	enc := json.NewEncoder(out)
	for _, e := range r.Entities {
		for _, d := range e.Doubtful {
			if err := enc.Encode(doubtfulLine{e.Entity, d}); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

// linked prints the report of one entity.
func (s screen) linked(e link.Entity, set *policy.Set, applied bool) {
	listed := 0
	var rows [][]string
	for _, p := range e.Platforms {
		listed += p.Listed
		rows = append(rows, []string{p.Platform, number(p.Listed), number(p.Linked), number(p.Deleted), number(p.Unusable)})
	}
	s.printf("%s: %s native records in %.1f s\n", s.paint(bold, e.Entity), grouped(listed), e.Seconds)
	s.table([]string{"PLATFORM", "   LISTED", "   LINKED", "  DELETED", " UNUSABLE"}, rows)
	for _, p := range e.Missing {
		s.printf("%s is not connected: what is there is not taken into account\n", p)
	}
	origins := strings.Join(set.Rules(e.Entity).Origins, ", ")
	s.printf("\n")
	s.table([]string{"OUTCOME  ", "  RECORDS", "  NATIVES", "MEANS"}, [][]string{
		row("matched", e.Matched, "several become one, or join one"),
		row("created", e.Created, "a record of its own"),
		row("linked", e.Linked, "linked before"),
		row("ambiguous", e.Ambiguous, "people decide"),
		row("unmatched", e.Unmatched, "none on "+origins),
	})
	rows = nil
	for _, r := range e.Rules {
		strength := "weak"
		if r.Strong {
			strength = "strong"
		}
		rows = append(rows, []string{r.Rule, strength, number(r.Keyed), number(r.Matched), number(r.Ambiguous), number(r.Created), number(r.Common)})
	}
	s.printf("\n")
	s.table([]string{"RULE", "STRENGTH", "    KEYED", "  MATCHED", "AMBIGUOUS", "    ALONE", "   COMMON"}, rows)
	for _, c := range e.Common[:min(len(e.Common), 3)] {
		s.printf("too common to say anything: %s %s, on %s native records\n", c.Rule, c.Shown, grouped(c.Items))
	}
	s.ambiguous(e.Doubtful)
	for _, x := range e.Examples[:min(len(e.Examples), 3)] {
		s.printf("%s\n", cut("unusable: "+x, 80))
	}
	if applied {
		s.printf("\ncommitted %s records with %s native records; %s possible duplicates are open, %s are none any more\n",
			grouped(e.Done.Records), grouped(e.Done.Natives), grouped(e.Done.Parked), grouped(e.Done.Resolved))
		if e.Done.Waiting > 0 {
			s.printf("%s of them refer to what has no record yet; it is looked up again\n", grouped(e.Done.Waiting))
		}
	}
	s.printf("\n")
}

// ambiguous prints two examples for each reason.
func (s screen) ambiguous(all []link.Doubtful) {
	by := map[string][]link.Doubtful{}
	for _, d := range all {
		by[d.Reason] = append(by[d.Reason], d)
	}
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		s.printf("\n%s: %s, such as\n", reason, grouped(len(by[reason])))
		for _, d := range by[reason][:min(2, len(by[reason]))] {
			for i, m := range d.Members[:min(5, len(d.Members))] {
				s.printf("%s\n", cut(fmt.Sprintf("  %d  %s", i+1, m), 80))
			}
			for _, e := range d.Evidence[:min(4, len(d.Evidence))] {
				s.printf("%s\n", cut("     "+evidence(e.Evidence)+": "+places(e.Members), 80))
			}
			for _, n := range d.Near[:min(2, len(d.Near))] {
				var why []string
				for _, e := range n.Evidence {
					why = append(why, evidence(e))
				}
				s.printf("%s\n", cut("     like "+n.Ref.String()+": "+strings.Join(why, ", "), 80))
			}
		}
	}
}

func evidence(e match.Evidence) string { return e.Rule + " " + e.Shown }

// places names members by their numbers on the screen.
func places(members []int) string {
	var out []string
	for _, m := range members {
		out = append(out, strconv.Itoa(m+1))
	}
	return strings.Join(out, ", ")
}

func row(name string, c link.Count, means string) []string {
	return []string{name, number(c.Records), number(c.Natives), means}
}

// number is a count in a column of nine.
func number(n int) string { return fmt.Sprintf("%9s", grouped(n)) }

func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

type benchLink struct {
	Customers int    `default:"20000" help:"On each of the four platforms."`
	Seed      uint64 `default:"1" help:"Of the customers."`
	Config    string `help:"Folder with policy, mapping and contract; default is the embedded configuration." type:"existingdir"`
	Apply     bool   `help:"Also commit what was found, twice, to a store in memory."`
	JSON      bool   `help:"Print JSON."`
}

// Run measures matching against customers of which it is known who is who.
func (c benchLink) Run(ctx binding, s screen) error {
	r, err := bench.Link(ctx, bench.LinkOptions{Customers: c.Customers, Seed: c.Seed, Config: c.Config, Apply: c.Apply, Progress: s.err})
	if len(r.Legs) == 0 {
		return err
	}
	if c.JSON {
		return errors.Join(s.json(r), err)
	}
	return errors.Join(r.Print(s.out), err)
}
