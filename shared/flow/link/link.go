// Package link finds, before going live, which existing native records of all platforms are one: it lists them,
// matches them by their keys, and reports. Only when it is told to, it writes records and links into the ledger.
// It never writes to a platform: what is due there is for deliver.
//
// It is level-triggered. A record with all its links is one commit, so a run that dies leaves whole records or
// none, and the next run goes on with what is left. A run after a complete one changes nothing.
package link

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/match"
	"sorrel/shared/platform"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// Source lists all native records of an object, a page at a time, from an empty cursor on.
type Source interface {
	Changes(ctx context.Context, object, cursor string) (platform.Page, error)
}

// Scratch keeps native records aside between listing and applying, so that memory does not: a file that nobody else
// can read. It holds personal data.
type Scratch interface {
	io.WriterAt
	io.ReaderAt
}

// Deps are what link needs. Scratch and NewID are for applying only; Progress may be nil.
type Deps struct {
	Ledger   *ledger.Ledger
	Config   *policy.Set
	Match    func(entity string) match.Rules // nil: those of Config
	Sources  map[string]Source               // by platform
	Scratch  Scratch
	Now      func() time.Time
	NewID    func() string
	Wait     func(ctx context.Context, d time.Duration) error // before a page is asked for again
	Progress func(Progress)
}

// Progress is told now and then.
type Progress struct {
	Entity, Platform string
	Listed           int // of the platform; with no platform, records committed
	Of               int // records to commit
	Waiting          error
}

// Options of one run.
type Options struct {
	Entities []string // none: all that have match rules
	Apply    bool     // commit what is without doubt, and open exceptions for the rest
	By       string   // who applies, for the audit log
	Workers  int      // commits at once; 0 = 8
}

// Flow is the linking.
type Flow struct{ d Deps }

// New returns the flow.
func New(d Deps) *Flow {
	if d.Match == nil {
		d.Match = d.Config.Match
	}
	return &Flow{d}
}

// Run lists, matches and reports, and applies if it is told to. With an error the report is of what was done until then.
func (f *Flow) Run(ctx context.Context, o Options) (Report, error) {
	o.Workers, o.By = cmp.Or(o.Workers, 8), cmp.Or(o.By, record.Sorrel)
	report := Report{Applied: o.Apply, Entities: []Entity{}}
	entities, err := f.entities(o)
	if err != nil {
		return report, err
	}
	r := &run{Flow: f, o: o, ids: map[record.Ref]record.ID{}}
	for _, name := range entities {
		e, err := r.entity(ctx, name)
		report.Entities = append(report.Entities, e)
		if err != nil {
			err = fault.Wrap("", "link", name, err)
			if o.Apply {
				_ = f.note(context.WithoutCancel(ctx), o, report, err) // the first error is the one that counts
			}
			return report, err
		}
	}
	if o.Apply {
		return report, f.note(ctx, o, report, nil)
	}
	return report, nil
}

// entities are those to link, each after those that it refers to.
func (f *Flow) entities(o Options) ([]string, error) {
	wanted := o.Entities
	for _, name := range wanted {
		if !slices.Contains(f.d.Config.Entities(), name) {
			return nil, &fault.Error{Class: fault.NotFound, Op: "link", ID: name, Detail: "no such entity", Remedy: "name one of " + strings.Join(f.d.Config.Entities(), ", ")}
		}
	}
	if len(wanted) == 0 {
		for _, name := range f.d.Config.Entities() {
			if len(f.d.Match(name)) > 0 {
				wanted = append(wanted, name)
			}
		}
	}
	if len(wanted) == 0 {
		return nil, fault.New(fault.Contract, "link", "no policy has match rules")
	}
	var out []string
	seen := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, to := range f.refersTo(name) {
			visit(to)
		}
		if slices.Contains(wanted, name) {
			out = append(out, name)
		}
	}
	for _, name := range f.d.Config.Entities() {
		visit(name)
	}
	for _, name := range out {
		if missing := f.missing(name); o.Apply && len(missing) > 0 {
			return nil, &fault.Error{Class: fault.Contract, Op: "link", ID: name, Detail: "not connected: " + strings.Join(missing, ", "),
				Remedy: "connect every platform of the entity before applying: what exists there would be created a second time"}
		}
	}
	return out, nil
}

// refersTo lists the entities that a field of the entity refers to.
func (f *Flow) refersTo(name string) []string {
	var out []string
	for _, p := range f.d.Config.PlatformsOf(name) {
		m, ok := f.d.Config.ByEntity(name, p)
		if !ok {
			continue
		}
		for field := range f.d.Config.Rules(name).Fields {
			if object, refers := m.Refers(field); refers {
				if to, ok := f.d.Config.ByObject(p, object); ok && to.Entity != name {
					out = append(out, to.Entity)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// missing lists the platforms of an entity that are not connected. Files are none that could be.
func (f *Flow) missing(name string) []string {
	return slices.DeleteFunc(f.d.Config.PlatformsOf(name), func(p string) bool { return p == record.Files || f.d.Sources[p] != nil })
}

// note leaves one line in the general audit log.
func (f *Flow) note(ctx context.Context, o Options, r Report, failed error) error {
	e := ledger.LogEntry{Chain: ledger.General, At: f.d.Now().UTC(), By: o.By, Policy: f.d.Config.Version()}
	for _, n := range r.Entities {
		detail := fmt.Sprintf("%s: %d records committed with %d native records, %d left as possible duplicates, %d unmatched, %d linked before",
			n.Entity, n.Done.Records, n.Done.Natives, n.Ambiguous.Records, n.Unmatched.Records, n.Linked.Records)
		if failed != nil {
			detail += "; stopped: " + failed.Error()
		}
		e.Events = append(e.Events, record.Event{Action: "link-applied", By: o.By, Detail: detail})
	}
	return f.d.Ledger.Note(ctx, e)
}

// run is one run over all entities.
type run struct {
	*Flow
	o       Options
	ids     map[record.Ref]record.ID // what native records of earlier entities are, or will be
	written int64                    // bytes of the scratch file
}

func (r *run) entity(ctx context.Context, name string) (Entity, error) {
	begin := r.d.Now()
	e := &entity{run: r, name: name, rules: r.d.Config.Rules(name), seen: map[record.Ref]sighted{}, links: map[record.Ref]record.ID{}, exists: map[record.ID]bool{},
		out: Entity{Entity: name, Missing: r.missing(name), Platforms: []Platform{}, Examples: []string{}}}
	found, err := r.d.Match(name).Cluster(match.Limits{Samples: 1 << 30}, e.items(ctx))
	e.count()
	if err == nil {
		err = e.judge(ctx, found)
	}
	if err == nil && r.o.Apply {
		err = e.apply(ctx)
	}
	e.out.Seconds = r.d.Now().Sub(begin).Seconds()
	return e.out, err
}

// entity is the work on one of them.
type entity struct {
	*run
	name    string
	rules   record.Rules
	seen    map[record.Ref]sighted
	links   map[record.Ref]record.ID // of native records that are linked already
	exists  map[record.ID]bool       // of records that native records carry the id of
	broken  map[string]int           // by platform, native records that could not be translated
	records []cluster
	out     Entity
}

// sighted is the newest that was listed of a native record.
type sighted struct {
	version record.Version
	gone    bool
	from    int64 // in the scratch file
	size    int32
}
