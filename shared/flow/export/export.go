// Package export writes the records of one entity to a file, by the mapping of the platform files that also reads it: what is
// written and read again says what the golden records say.
//
// A record that the mapping cannot carry whole is left out and told, never cut: a row that is missing means nothing to whoever
// reads the file, an empty cell would clear a field. So is a record that lacks a key of its own.
//
// The rows are sorted by their keys, which the reader of lists needs and which makes two files comparable; they are sorted
// outside of memory, so that this takes the same memory for a million records as for a thousand.
package export

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/files"
	"sorrel/shared/ledger"
	"sorrel/shared/mapping"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

// Deps are what exporting needs. All are required.
type Deps struct {
	Ledger *ledger.Ledger
	Config *policy.Set
}

// Flow writes files.
type Flow struct{ d Deps }

// New returns the flow.
func New(d Deps) *Flow { return &Flow{d} }

// Options of one file.
type Options struct {
	Entity   string
	List     string        // the rows of this list of the mapping, instead of the records
	Format   string        // files.CSV or files.JSONLines, where the mapping does not say it
	Progress func(Written) // told after each page; nil = nobody listens
	// Scratch opens a place for rows that are being sorted. Whoever gave it away removes it after Apply.
	Scratch func() (Scratch, error)
}

// Written is what became of one file.
type Written struct {
	Entity  string    `json:"entity"`
	List    string    `json:"list,omitempty"`
	Read    int64     `json:"read"`    // records looked at
	Written int64     `json:"written"` // records in the file
	Empty   int64     `json:"empty"`   // records with nothing that this file could say
	Left    int64     `json:"leftOut"` // records that the file could not say whole; Out are the first of them
	Out     []LeftOut `json:"out,omitempty"`
}

// LeftOut is one record that is not in the file.
type LeftOut struct {
	Record record.ID `json:"record"`
	Field  string    `json:"field,omitempty"`
	Detail string    `json:"detail"`
}

const (
	page    = 100
	maxTold = 100
)

// Apply writes the file to out.
func (f *Flow) Apply(ctx context.Context, out io.Writer, o Options) (Written, error) {
	w := Written{Entity: o.Entity, List: o.List}
	m, layout, err := f.layout(o)
	if err != nil {
		return w, err
	}
	to, err := files.NewWriter(out, layout, layout.Header())
	if err != nil {
		return w, err
	}
	e := &exporting{Flow: f, mapping: m, layout: layout, rows: sorter{scratch: o.Scratch, most: maxHeld}, out: w, progress: o.Progress}
	if err = e.gather(ctx); err == nil {
		err = e.write(to)
	}
	return e.out, err
}

// layout is how the file is laid out.
func (f *Flow) layout(o Options) (*mapping.Mapping, files.Layout, error) {
	refuse := func(detail, remedy string) (*mapping.Mapping, files.Layout, error) {
		return nil, files.Layout{}, &fault.Error{Class: fault.NotFound, Op: "export", ID: o.Entity, Detail: detail, Remedy: remedy}
	}
	m, ok := f.d.Config.ByEntity(o.Entity, record.Files)
	if !ok {
		return refuse("no mapping of the platform files has this entity", "add mapping/files."+o.Entity+".yaml, and files to the platforms of its policy")
	}
	layouts := m.Layouts()
	i := slices.IndexFunc(layouts, func(l files.Layout) bool { return l.List == o.List })
	if i < 0 {
		var names []string
		for _, l := range layouts[1:] {
			names = append(names, l.List)
		}
		return refuse(fmt.Sprintf("%s has no list %q", m.File, o.List), "its lists are: "+cmp.Or(strings.Join(names, ", "), "none"))
	}
	l := layouts[i]
	switch {
	case l.Format == "":
		l.Format = cmp.Or(o.Format, files.CSV)
	case o.Format != "" && o.Format != l.Format:
		return nil, l, &fault.Error{Class: fault.Contract, Op: "export", ID: o.Entity, Detail: m.File + " says format: " + l.Format, Remedy: "write that format, or change the mapping"}
	}
	return m, l, nil
}

// exporting is one file being made.
type exporting struct {
	*Flow
	mapping  *mapping.Mapping
	layout   files.Layout
	rows     sorter
	out      Written
	progress func(Written)
}

// leave leaves a record out.
func (e *exporting) leave(id record.ID, field, detail string) {
	if e.out.Left++; len(e.out.Out) < maxTold {
		e.out.Out = append(e.out.Out, LeftOut{id, field, detail})
	}
}

// gather reads all records, page by page, and gives their rows to the sorter.
func (e *exporting) gather(ctx context.Context) error {
	var ids []record.ID
	for id, err := range e.d.Ledger.Records(ctx, e.mapping.Entity) {
		if err != nil {
			return err
		}
		if ids = append(ids, id); len(ids) == page {
			if err := e.take(ctx, ids); err != nil {
				return err
			}
			ids = ids[:0]
		}
	}
	return e.take(ctx, ids)
}

func (e *exporting) take(ctx context.Context, ids []record.ID) error {
	states, err := e.d.Ledger.Load(ctx, ids...)
	if err != nil {
		return err
	}
	key, err := e.keys(ctx, states)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !present(states[id]) {
			continue
		}
		e.out.Read++
		r, field, detail := e.row(states[id].Record, key)
		switch {
		case detail != "":
			e.leave(id, field, detail)
		case len(r.Rows) == 0:
			e.out.Empty++
		default:
			if err := e.rows.add(r); err != nil {
				return err
			}
		}
	}
	if e.progress != nil {
		e.progress(e.out)
	}
	return nil
}

// present reports whether there is such a record: it was not merged into another, nor deleted wherever it was.
func present(s ledger.State) bool {
	if !s.Exists() || s.Record.Into != "" {
		return false
	}
	views := slices.Collect(maps.Values(s.Record.Views))
	return len(views) == 0 || slices.ContainsFunc(views, record.View.Exists)
}

// keys finds the keys of the records that those of a page refer to, with one read for all of them.
func (e *exporting) keys(ctx context.Context, page map[record.ID]ledger.State) (func(field string, id record.ID) (string, bool), error) {
	to, all := map[string]*mapping.Mapping{}, map[record.ID]struct{}{}
	for _, name := range e.d.Config.Contract(e.mapping.Entity).Names() {
		object, refers := e.mapping.Refers(name)
		if !refers {
			continue
		}
		if m, ok := e.d.Config.ByObject(record.Files, object); ok {
			to[name] = m
		}
		for _, s := range page {
			if v := s.Record.Golden[name].Value; v.Kind() == record.Text && record.ID(v.Raw()).Validate() == nil {
				all[record.ID(v.Raw())] = struct{}{}
			}
		}
	}
	states, err := e.d.Ledger.Load(ctx, slices.Collect(maps.Keys(all))...)
	if err != nil {
		return nil, err
	}
	for id, s := range states {
		if s.Record.Into == "" {
			continue
		}
		if states[id], err = e.d.Ledger.Follow(ctx, id); err != nil {
			return nil, err
		}
	}
	return func(field string, id record.ID) (string, bool) {
		if s, some := states[id]; some && s.Exists() && to[field] != nil {
			key, _ := keyOf(to[field], s.Record)
			return key, key != ""
		}
		return "", false
	}, nil
}

// keyOf is the key of a record in files: the one that files gave it, else what it says in the column of keys, else its own
// id. linked says that files gave it.
func keyOf(m *mapping.Mapping, r record.Record) (key string, linked bool) {
	if v := r.Views[record.Files]; v.Exists() && v.Object == m.Object {
		return v.ID, true
	}
	column := m.Layouts()[0].Key
	named := m.ReadFrom(column)
	if len(named) == 0 {
		return strings.TrimPrefix(string(r.ID), m.Entity+"/"), false
	}
	said, _ := m.Row(golden(r, named), func(string, record.ID) (string, bool) { return "", false })
	key, _ = files.Scalar(files.Value(said, column))
	return key, false
}

func golden(r record.Record, names []string) map[string]record.Value {
	out := make(map[string]record.Value, len(names))
	for _, name := range names {
		out[name] = r.Golden[name].Value
	}
	return out
}

// row makes the rows of one record, or tells why it cannot be said whole.
func (e *exporting) row(r record.Record, key func(string, record.ID) (string, bool)) (out row, field, detail string) {
	out.Record = r.ID
	said, unsaid := e.mapping.Row(golden(r, e.names()), key)
	for _, name := range slices.Sorted(maps.Keys(unsaid)) {
		return out, name, unsaid[name]
	}
	if len(said) == 0 {
		return out, "", ""
	}
	if out.Key, out.Linked = keyOf(e.mapping, r); !files.IsKey(out.Key) {
		return out, e.layout.Key, "names the record in files and has no value that can do so"
	}
	if e.layout.List != "" {
		return e.list(out, said[e.layout.List])
	}
	if named := e.mapping.ReadFrom(e.layout.Key); len(named) > 0 && files.Value(said, e.layout.Key) != any(out.Key) {
		return out, named[0], fmt.Sprintf("is not %s, which names the record in files", out.Key)
	}
	if !files.Put(said, e.layout.Key, out.Key) || e.layout.External != "" && !files.Put(said, e.layout.External, r.External()) {
		return out, e.layout.Key, "names the record in files, and something else stands in its place"
	}
	out.Rows = []map[string]any{said}
	return out, "", ""
}

// names are the fields that this file holds.
func (e *exporting) names() []string {
	if e.layout.List != "" {
		return e.mapping.ReadFrom(e.layout.List)
	}
	var out []string
	for _, name := range e.d.Config.Contract(e.mapping.Entity).Names() {
		native, in, _ := e.mapping.Native(name)
		apart := slices.ContainsFunc(e.mapping.Layouts()[1:], func(l files.Layout) bool { return l.List == native })
		if in && !(apart && e.layout.Format == files.CSV) {
			out = append(out, name)
		}
	}
	return out
}

// list makes the rows of a list.
func (e *exporting) list(out row, said any) (_ row, field, detail string) {
	all, _ := said.([]any)
	for i, a := range all {
		fields, _ := a.(map[string]any)
		if e.layout.Number != "" {
			if n, _ := files.Scalar(files.Value(fields, e.layout.Number)); n != fmt.Sprint(i+1) {
				return out, e.layout.List, fmt.Sprintf("row %d does not say that it is %s %d", i+1, e.layout.Number, i+1)
			}
			delete(fields, e.layout.Number)
		}
		if !files.Put(fields, e.layout.Key, out.Key) {
			return out, e.layout.List, fmt.Sprintf("row %d has another %s than its record", i+1, e.layout.Key)
		}
		out.Rows = append(out.Rows, fields)
	}
	return out, "", ""
}

// write writes the rows in order. Of records with one key, only the one that files gave it can be told.
func (e *exporting) write(to *files.Writer) error {
	last := row{}
	for r, err := range e.rows.sorted() {
		if err != nil {
			return err
		}
		if r.Key == last.Key {
			e.leave(r.Record, e.layout.Key, fmt.Sprintf("%s names %s in files", r.Key, last.Record))
			continue
		}
		last = r
		err := to.Write(r.Rows...)
		if c := fault.ClassOf(err); err != nil && (c == fault.Contract || c == fault.TooLarge) {
			e.leave(r.Record, "", err.Error())
			continue
		}
		if err != nil {
			return err
		}
		e.out.Written++
	}
	return to.Flush()
}
