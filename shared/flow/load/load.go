// Package load takes files in: each record of a file is queued as an observation of the platform "files", like a webhook of
// any other platform, so that the hub governs it.
//
// A file is known by its content, whatever its name. What is taken of it is noted with a position that moves only after the
// records before it are durably queued: a run that dies goes on from there, and the same content again is not taken twice. A
// record's version is the time that the file was last changed and the record's place in it, so that a late file does not
// overwrite what a newer one said.
//
// Runs may overlap: they queue the same messages, of which the queue keeps one. The one that finds the other ahead of it
// leaves the file to it.
package load

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/files"
	"sorrel/shared/ledger"
	"sorrel/shared/mapping"
	"sorrel/shared/message"
	"sorrel/shared/policy"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
)

// Deps are what loading needs. All are required.
type Deps struct {
	Ledger    *ledger.Ledger
	Config    *policy.Set
	Inbound   queue.Sender
	Now       func() time.Time
	NewID     func() string
	Telemetry *telemetry.Recorder
}

// Flow takes files in.
type Flow struct{ d Deps }

// New returns the flow.
func New(d Deps) *Flow { return &Flow{d} }

// File is one file. It is opened twice: to look at all of it before anything is taken, and to take it.
type File struct {
	Name    string    // without its folder
	Changed time.Time // its content is of then, unless its name says of when it is
	Open    func(ctx context.Context) (io.ReadCloser, error)
	// Same names this very content where that is known without reading it, such as the place and the entity tag of an object.
	// Then it is looked at once, however many runs it takes, and passed over when it is done. Empty: not known.
	Same string
}

// Source is a place where files come.
type Source interface {
	List(ctx context.Context) ([]File, error)
}

// Options of one run.
type Options struct {
	DryRun   bool         // look at the files, queue nothing
	Progress func(Loaded) // told after each page; nil = nobody listens
}

// What became of a file.
const (
	Done      = "loaded"
	Fine      = "would be loaded" // in a dry run
	Duplicate = "duplicate"       // its content was loaded before
	Refused   = "refused"         // as a whole
	Unknown   = "unknown"         // no mapping takes it
	Later     = "later"           // the next run goes on
)

// Loaded is what became of one file.
type Loaded struct {
	File     string   `json:"file"`
	Status   string   `json:"status"`
	Entity   string   `json:"entity,omitempty"`
	Detail   string   `json:"detail,omitempty"`
	Encoding string   `json:"encoding,omitempty"`
	Ignored  []string `json:"ignoredColumns,omitempty"`
	Records  int64    `json:"records"` // in the file
	Queued   int64    `json:"queued"`  // by this run
	Resumed  int64    `json:"resumed"` // records that an earlier run had taken
	Broken   []Row    `json:"broken,omitempty"`
	Breaks   int64    `json:"brokenRecords"` // seen by this run; Broken are the first of them
}

// Row is one row that cannot be read.
type Row struct {
	Line   int64  `json:"line"`
	Detail string `json:"detail"`
}

const (
	page      = 100              // records queued between two notes of the position
	maxShown  = 100              // broken rows that become exceptions of their own
	pageTime  = 10 * time.Second // must be left to begin another page
	maxAhead  = 24 * time.Hour   // a file that claims to be newer would keep what comes later from counting
	firstYear = 1990
)

// kind is one layout of one mapping.
type kind struct {
	mapping *mapping.Mapping
	layout  files.Layout
	order   int
}

// work is one file with what it is.
type work struct {
	File
	kind
	dated error // its name does not say of when it is
	out   Loaded
}

// position is what is noted of a file, by its content.
type position struct {
	File    string    `json:"file"`
	Changed time.Time `json:"changed"`
	Records int64     `json:"records"`
	Done    bool      `json:"done"`
	Begun   bool      `json:"begun,omitempty"`
	name    string
}

// Apply takes files in: what others refer to first, then the older ones. What is wrong with a file is told in its Loaded; the
// error is for what stops all of them.
func (f *Flow) Apply(ctx context.Context, all []File, o Options) ([]Loaded, error) {
	kinds := f.kinds()
	var works []work
	var out []Loaded
	for _, file := range all {
		takes := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return !k.layout.Takes(file.Name) })
		switch {
		case len(takes) == 0:
			out = append(out, Loaded{File: file.Name, Status: Unknown, Detail: "no mapping of the platform files takes a file of this name"})
		case len(takes) > 1:
			out = append(out, Loaded{File: file.Name, Status: Refused, Detail: fmt.Sprintf("%s and %s both take a file of this name", takes[0].mapping.File, takes[1].mapping.File)})
		default:
			w := work{File: file, kind: takes[0], out: Loaded{File: file.Name, Entity: takes[0].mapping.Entity}}
			w.Changed, w.dated = w.layout.AsOf(file.Name, file.Changed)
			works = append(works, w)
		}
	}
	slices.SortStableFunc(works, func(a, b work) int {
		return cmp.Or(cmp.Compare(a.order, b.order), a.Changed.Compare(b.Changed), strings.Compare(a.Name, b.Name))
	})
	for i, w := range works {
		known, err := f.take(ctx, &w, o)
		switch c := fault.ClassOf(err); {
		case err == nil:
		case timeIsUp(ctx) && i == 0 && w.out.Records == 0: // it had all the time there is
			err = f.refuse(ctx, &w, "cannot be looked at as a whole in the time of one run; split it", o)
		case timeIsUp(ctx):
			w.out.Status, err = Later, nil
		case c == fault.Contract || c == fault.Malformed || c == fault.Forbidden:
			err = f.refuse(ctx, &w, err.Error(), o)
		case errors.Is(err, errElsewhere), c == fault.Conflict, c == fault.NotFound: // another content is there now, or none
			w.out.Status, w.out.Detail, err = Later, err.Error(), nil
		}
		if !known {
			out = append(out, w.out)
		}
		if err != nil {
			return out, fault.Wrap("", "load", w.Name, err)
		}
	}
	return out, nil
}

// errElsewhere ends a run's work at a file.
var errElsewhere = errors.New("another run is at it")

// timeIsUp reports whether a run has no time for another page. A cancelled run has not come to its end: it fails.
func timeIsUp(ctx context.Context) bool {
	return !errors.Is(ctx.Err(), context.Canceled) && !deadline.Fits(ctx, pageTime)
}

// Run takes in what has come to a place. What was done before, and is known without reading it, is passed over in silence.
func (f *Flow) Run(ctx context.Context, s Source, o Options) ([]Loaded, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, fault.Wrap("", "load.list", "", err)
	}
	return f.Apply(ctx, all, o)
}

// refuse notes that a file is not taken.
func (f *Flow) refuse(ctx context.Context, w *work, detail string, o Options) error {
	w.out.Status, w.out.Detail = Refused, detail
	if o.DryRun {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // its time may be up, but not the function's
	f.d.Telemetry.Count("FilesRefused", record.Files, 1)
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "parked", Platform: record.Files, Record: record.Files + "/" + w.Name, Detail: detail})
	if err := f.d.Ledger.Park(ctx, f.exception(*w, 0, detail)); err != nil || w.Same == "" {
		return err
	}
	return f.save(ctx, sameName(w.Same), looked{Refused: detail, Config: f.d.Config.Version()})
}

// looked is what is noted of a file that is known without reading it.
type looked struct {
	files.Inspected
	Done    bool   `json:"done,omitempty"`
	Refused string `json:"refused,omitempty"`
	Config  string `json:"config,omitempty"` // under which it was refused
}

func sameName(same string) string { return "file/" + same }

// look looks at all of a file, unless that was done before.
func (f *Flow) look(ctx context.Context, w *work, o Options) (looked, error) {
	var l looked
	if w.Same != "" {
		if err := f.noted(ctx, sameName(w.Same), &l); err != nil {
			return l, err
		}
		if l.Hash != "" || l.Refused != "" && l.Config == f.d.Config.Version() {
			return l, nil
		}
	}
	l = looked{}
	err := w.open(ctx, func(in io.Reader) (err error) { l.Inspected, err = files.Inspect(in, w.layout); return err })
	if err != nil || w.Same == "" || o.DryRun {
		return l, err
	}
	return l, f.save(ctx, sameName(w.Same), l)
}

// kinds are all layouts, in the order in which their files are taken.
func (f *Flow) kinds() []kind {
	var out []kind
	for _, entity := range f.d.Config.Entities() {
		m, ok := f.d.Config.ByEntity(entity, record.Files)
		if !ok {
			continue
		}
		for i, l := range m.Layouts() {
			out = append(out, kind{m, l, 2*f.depth(entity, 0) + min(i, 1)})
		}
	}
	return out
}

// depth is how far an entity's references reach.
func (f *Flow) depth(entity string, above int) int {
	deepest := 0
	m, ok := f.d.Config.ByEntity(entity, record.Files)
	if !ok || above > 5 {
		return 0
	}
	for _, field := range f.d.Config.Contract(entity).Names() {
		if object, refers := m.Refers(field); refers {
			if to, ok := f.d.Config.ByObject(record.Files, object); ok {
				deepest = max(deepest, 1+f.depth(to.Entity, above+1))
			}
		}
	}
	return deepest
}

// open gives the file's content to do, and says which file an error is about.
func (w *work) open(ctx context.Context, do func(io.Reader) error) error {
	in, err := w.Open(ctx)
	if err != nil {
		c := fault.Down
		if fault.ClassOf(err) != fault.Internal {
			c = ""
		}
		return fault.Wrap(c, "load.open", w.Name, err)
	}
	defer func() { _ = in.Close() }() // it was only read
	return do(in)
}

// take takes one file. known says that nothing is new about it, and that it was not even read.
func (f *Flow) take(ctx context.Context, w *work, o Options) (known bool, err error) {
	if w.dated != nil {
		return false, w.dated
	}
	if w.layout, err = w.layout.For(w.Name); err != nil {
		return false, err
	}
	whole, err := f.look(ctx, w, o)
	switch {
	case err != nil:
		return false, err
	case whole.Refused != "":
		w.out.Status, w.out.Detail = Refused, whole.Refused
		return true, nil
	case whole.Done:
		return true, nil
	}
	if y := w.Changed.Year(); w.Changed.Sub(f.d.Now()) > maxAhead || y < firstYear {
		w.Same = "" // its time may come: it is not refused for good
		return false, &fault.Error{Class: fault.Contract, Op: "load", ID: w.Name, Detail: "the file says that it was changed at " + w.Changed.UTC().Format(time.RFC3339),
			Remedy: "set its time to when its content was true (touch -d): a later file counts more than an earlier one"}
	}
	w.out.Encoding, w.out.Ignored, w.out.Records = whole.Encoding, whole.Ignored, whole.Records
	at := position{File: w.Name, Changed: w.Changed.UTC(), name: w.mapping.Object + "/" + w.layout.List + "/" + whole.Hash}
	if err := f.noted(ctx, at.name, &at); err != nil {
		return false, err
	}
	w.out.Resumed = at.Records
	switch {
	case at.Done:
		w.out.Status, w.out.Detail = Duplicate, "the same content was loaded as "+at.File
		return false, f.done(ctx, w, whole, o)
	case !at.Begun && !o.DryRun: // whoever goes on uses the same time, so that a record told twice is told in one version
		at.Begun = true
		if err := f.save(ctx, at.name, at); err != nil {
			return false, err
		}
	}
	if err := w.open(ctx, func(in io.Reader) error { return f.queue(ctx, w, in, whole.Hash, &at, o) }); err != nil || w.out.Status == Later {
		return false, err
	}
	if o.DryRun {
		w.out.Status = Fine
		return false, nil
	}
	at.Done = true
	if err := f.save(ctx, at.name, at); err != nil {
		return false, err
	}
	w.out.Status = Done
	f.d.Telemetry.Count("FileRecords", record.Files, float64(w.out.Queued))
	if err := f.done(ctx, w, whole, o); err != nil {
		return false, err
	}
	return false, f.d.Ledger.Unpark(ctx, f.exception(*w, 0, ""))
}

// done notes that a file that is known without reading it need not be looked at any more.
func (f *Flow) done(ctx context.Context, w *work, whole looked, o Options) error {
	if w.Same == "" || o.DryRun {
		return nil
	}
	whole.Done = true
	return f.save(ctx, sameName(w.Same), whole)
}

// noted reads what was noted under a name, if anything was.
func (f *Flow) noted(ctx context.Context, name string, into any) error {
	text, err := f.d.Ledger.Cursor(ctx, record.Files, name)
	if err != nil || text == "" {
		return err
	}
	return fault.Wrap(fault.Internal, "load.position", name, json.Unmarshal([]byte(text), into))
}

func (f *Flow) save(ctx context.Context, name string, what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return fault.Wrap(fault.Internal, "load.position", name, err)
	}
	return f.d.Ledger.SaveCursor(ctx, record.Files, name, string(text))
}

// advance moves a position on, unless another run has done so.
func (f *Flow) advance(ctx context.Context, at *position, records int64) error {
	now := position{}
	if err := f.noted(ctx, at.name, &now); err != nil {
		return err
	}
	if now.Records != at.Records || now.Done {
		return errElsewhere
	}
	at.Records = records
	return f.save(ctx, at.name, at)
}

// queue queues the records behind a position, page by page.
func (f *Flow) queue(ctx context.Context, w *work, in io.Reader, hash string, at *position, o Options) error {
	records, err := files.NewRecords(in, w.layout)
	if err != nil {
		return err
	}
	trace := f.d.NewID()
	var msgs []queue.Message
	send := func(seen int64) error {
		if !o.DryRun {
			if len(msgs) > 0 {
				if err := f.d.Inbound.Send(ctx, msgs...); err != nil {
					return fault.Wrap("", "load.queue", w.Name, err)
				}
			}
			if err := f.advance(ctx, at, seen); err != nil {
				return err
			}
		}
		w.out.Queued, msgs = w.out.Queued+int64(len(msgs)), msgs[:0]
		if o.Progress != nil {
			o.Progress(w.out)
		}
		return nil
	}
	seen := int64(0)
	for {
		rec, err := records.Next()
		if errors.Is(err, io.EOF) {
			return send(seen)
		}
		if err != nil {
			return err
		}
		if seen++; seen <= w.out.Resumed {
			continue
		}
		if rec.Broken == nil {
			m, err := f.message(w, rec, seen, at.Changed, trace).Message(fmt.Sprintf("file/%s/%d", hash, seen))
			switch {
			case err == nil:
				msgs = append(msgs, m)
			case fault.Is(err, fault.TooLarge):
				rec.Broken = &files.Broken{Line: rec.Line, Detail: err.Error()}
			default:
				return err
			}
		}
		if rec.Broken != nil {
			if err := f.broken(ctx, w, rec.Broken, trace, o); err != nil {
				return err
			}
		}
		if seen%page == 0 {
			if err := send(seen); err != nil {
				return err
			}
			if timeIsUp(ctx) {
				w.out.Status = Later
				return nil
			}
		}
	}
}

func (f *Flow) message(w *work, rec files.Record, place int64, changed time.Time, trace string) message.Inbound {
	return message.Inbound{CorrelationID: trace, ReceivedAt: f.d.Now().UTC(), Source: message.Batch, Native: record.Native{
		Ref:     record.Ref{Platform: record.Files, Object: w.mapping.Object, ID: rec.Key},
		Version: record.Version{At: changed, Final: true, Seq: place}, Fields: rec.Fields, Partial: w.layout.List != "", External: rec.External}}
}

// broken makes an exception of a row that cannot be read; of so many, one of all the others.
func (f *Flow) broken(ctx context.Context, w *work, b *files.Broken, trace string, o Options) error {
	w.out.Breaks++
	f.d.Telemetry.Count("BrokenRows", record.Files, 1)
	if w.out.Breaks > maxShown+1 {
		return nil
	}
	x := f.exception(*w, b.Line, fmt.Sprintf("line %d %s", b.Line, b.Detail))
	if w.out.Breaks > maxShown {
		x.Native, x.Detail = record.Files+"/"+w.Name+":more", fmt.Sprintf("more than %d rows are broken; line %d %s", maxShown, b.Line, b.Detail)
	} else {
		w.out.Broken = append(w.out.Broken, Row{b.Line, b.Detail})
	}
	if o.DryRun {
		return nil
	}
	x.Trace = trace
	f.d.Telemetry.Event(ctx, telemetry.Event{Step: "parked", Platform: record.Files, Record: x.Native, Trace: trace, Detail: x.Detail})
	return f.d.Ledger.Park(ctx, x)
}

// exception is about one line of a file, or with none about all of it.
func (f *Flow) exception(w work, line int64, detail string) ledger.Exception {
	x := ledger.Exception{Type: "contract-violation", Platform: record.Files, Native: record.Files + "/" + w.Name, Detail: detail, Remedy: "correct the file and load it again"}
	if line > 0 {
		x.Native += fmt.Sprintf(":%d", line)
		x.Remedy = "correct the row and load it again, in a file of its own or with the others; then close this with a reason (sorrel exceptions ignore)"
	}
	return x
}
