// Package mapping translates between one native object of one platform and one contract, as a YAML file says.
//
// A mapping is pure: Observe turns what a platform said into canonical fields, Write turns canonical fields
// into a native body, As says what the platform would say back. For every value that a contract allows,
//
//	As(As(v)) == As(v)   and   Observe(Write(v)) == As(v)
//
// so an echo of our own write never looks like somebody's change. Values that cannot be carried are doubts
// (inward) or holds (outward) of one field; they never fail the record and are never cut or guessed; only what is read
// `as: excerpt` is cut, and then shown to be.
package mapping

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"sorrel/shared/contract"
	"sorrel/shared/fault"
	"sorrel/shared/files"
	"sorrel/shared/record"
)

// Target is what a reference points to on the platform that is written to.
type Target struct {
	NativeID string // the native id there, "" when not known
	External string // Sorrel's external id there, "" when it is not known to be on the native record
}

// Mapping is one compiled mapping file. It is immutable and safe for concurrent use.
type Mapping struct {
	Platform string
	Object   string // native name
	Entity   string
	File     string
	contract *contract.Contract
	fields   map[string]*field
	in       []*field // read, sorted by name
	unmapped map[string]bool
	faulty   map[string]bool // fields with a problem that Load reported
	create   []constant
	layouts  []files.Layout
	chooses  bool // it writes into chosen list elements, whose order must not depend on chance
}

// field is one compiled line of a mapping.
type field struct {
	name      string
	native    string // path as written
	path      path
	also      []path
	in, out   bool
	required  bool
	lossy     bool
	maxLength int
	codec     codec // nil for a reference
	ref       *reference
	spec      contract.Field
	checked   bool // the codec has checked the contract already
}

type reference struct {
	object   string // native object pointed to
	wrap     bool   // {"id": …} instead of the bare id
	relation path   // where an external id goes; nil = native ids are written
}

type constant struct {
	path  path
	value any
}

// Native says how a canonical field is mapped: the native path, and whether it is read and written.
func (m *Mapping) Native(canonical string) (path string, in, out bool) {
	f, ok := m.fields[canonical]
	if !ok {
		return "", false, false
	}
	return f.native, f.in, f.out
}

// Unmapped reports whether the file says that this platform has no place for a canonical field.
func (m *Mapping) Unmapped(canonical string) bool { return m.unmapped[canonical] }

// Layouts are the kinds of files that the platform files has for this object: first the one whose rows are records, then those
// whose rows are lists of them.
func (m *Mapping) Layouts() []files.Layout { return m.layouts }

// Faulty reports whether Load found a problem with a canonical field, so that nothing else has to be said about it.
func (m *Mapping) Faulty(canonical string) bool { return m.faulty[canonical] }

// Lossy reports whether the platform cannot hold every value of a canonical field.
func (m *Mapping) Lossy(canonical string) bool {
	f, ok := m.fields[canonical]
	return ok && f.lossy
}

// Required lists the canonical fields without which no native record can be created, sorted.
func (m *Mapping) Required() []string {
	var out []string
	for name, f := range m.fields {
		if f.required {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// NativeFields lists the native paths that Observe reads, sorted, without list selectors.
func (m *Mapping) NativeFields() []string {
	var out []string
	for _, f := range m.in {
		var keys []string
		for _, s := range f.path {
			keys = append(keys, s.key)
			if s.flag != "" {
				break
			}
		}
		out = append(out, strings.Join(keys, "."))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Observe translates what a platform said. References come back as the native records that they point to, for
// the caller to resolve into record ids; a cleared reference is Null among the fields. A value that cannot be
// used becomes a doubt. The error is for a native that says nothing at all: a hint, another object, or no
// mapped field.
func (m *Mapping) Observe(n record.Native) (record.Observation, map[string]record.Ref, error) {
	o := record.Observation{Ref: n.Ref, Version: n.Version, Born: n.Born, Gone: n.Gone, Into: n.Into, Ours: n.Ours, Actor: n.Actor}
	if id, ok := record.ParseExternal(n.External); ok && id.Entity() == m.Entity {
		o.External = id
	}
	if n.Platform != m.Platform || n.Object != m.Object {
		return o, nil, m.fault(fault.Internal, n.String(), "is not of "+m.Platform+"/"+m.Object, "use the mapping of its own object")
	}
	if n.Gone {
		return o, nil, nil
	}
	if n.Hint() {
		return o, nil, m.fault(fault.Contract, n.String(), "has no fields or no version: it is only a hint", "read the record first")
	}
	o.Fields = make(map[string]record.Value, len(m.in))
	var refs map[string]record.Ref
	heard := false
	for _, f := range m.in {
		native, found, ok := f.path.look(n.Fields, !n.Partial)
		if !found {
			continue
		}
		heard = true
		if !ok {
			o.Doubts = doubt(o.Doubts, f, n, n.Fields[f.path[0].key], invalid("%s does not lead to a value", f.native))
			continue
		}
		v, ref, err := f.read(native)
		switch {
		case err != nil:
			o.Doubts = doubt(o.Doubts, f, n, native, err)
		case ref != "":
			if refs == nil {
				refs = make(map[string]record.Ref, 2)
			}
			refs[f.name] = record.Ref{Platform: m.Platform, Object: f.ref.object, ID: ref}
		default:
			o.Fields[f.name] = v
		}
	}
	if !heard && !n.Partial {
		return o, nil, m.fault(fault.Contract, n.String(), "has none of the mapped fields", "check the field names in "+m.File)
	}
	if n.Ours && !n.Partial {
		// It repeats what people said earlier beside what we wrote, and does not tell the two apart; we know what we wrote.
		o.Echo, o.Fields, o.Doubts, refs = o.Fields, nil, nil, nil
	}
	return o, refs, nil
}

// read decodes one native value: a value, or the id that a reference points to.
func (f *field) read(native any) (v record.Value, ref string, err error) {
	switch {
	case native == nil:
		v = record.NullValue()
	case f.ref != nil:
		id, ok := label(native, "id")
		if !ok {
			return v, "", invalid("is %s, not a reference", shapeOf(native))
		}
		if id != "" {
			return v, id, nil
		}
		v = record.NullValue()
	default:
		if v, err = f.codec.decode(native); err != nil {
			return v, "", err
		}
	}
	if f.checked && !v.IsNull() {
		return v, "", nil
	}
	if detail, remedy := f.spec.Fault(v); detail != "" {
		return v, "", &unusable{ContractViolation, detail + "; " + remedy}
	}
	return v, "", nil
}

func doubt(doubts map[string]record.Doubt, f *field, n record.Native, native any, err error) map[string]record.Doubt {
	if doubts == nil {
		doubts = make(map[string]record.Doubt, 1)
	}
	kind, detail := reason(err)
	doubts[f.name] = record.Doubt{Version: n.Version, Type: kind, Raw: raw(native), Detail: n.Object + " " + f.native + " " + detail}
	return doubts
}

func reason(err error) (kind, detail string) {
	var u *unusable
	if errors.As(err, &u) {
		return u.kind, u.detail
	}
	return InvalidValue, err.Error()
}

// Write translates canonical fields into a native body, nested as the platform wants it; nil in it clears.
// Fields that cannot be carried are not in the body but among the holds, with the value that was refused.
//
// With create, the mapping's constants are added, and an error says which required field is missing: of class
// MissingReference when it waits for another record, else Contract.
//
// resolve finds what a reference points to on this platform; false means it is not there yet.
func (m *Mapping) Write(fields map[string]record.Value, create bool, resolve func(field string, id record.ID) (Target, bool)) (map[string]any, map[string]record.Hold, error) {
	body := make(map[string]any, len(fields)+len(m.create))
	held := map[string]record.Hold{}
	if create {
		for _, c := range m.create {
			c.path.put(body, c.value)
		}
	}
	all := maps.Keys(fields)
	if m.chooses {
		all = slices.Values(slices.Sorted(all))
	}
	for name := range all {
		v := fields[name]
		if v.IsAbsent() {
			continue
		}
		if err := m.write(body, name, v, resolve); err != nil {
			kind, detail := reason(err)
			held[name] = record.Hold{Type: kind, Detail: detail, Value: v}
		}
	}
	if !create {
		return body, held, nil
	}
	var missing []string
	class := fault.MissingReference
	for name, f := range m.fields {
		if v, given := fields[name]; f.required && (!given || v.IsAbsent() || v.IsNull() || held[name].Type != "") {
			missing = append(missing, name)
			if held[name].Type != MissingReference {
				class = fault.Contract
			}
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, held, &fault.Error{Class: class, Op: "mapping.write", ID: m.Platform + "/" + m.Object, Fields: missing,
			Detail: "cannot be created without " + strings.Join(missing, ", "), Remedy: "bring them into being first"}
	}
	return body, held, nil
}

func (m *Mapping) write(body map[string]any, name string, v record.Value, resolve func(string, record.ID) (Target, bool)) error {
	f, ok := m.fields[name]
	if !ok || !f.out {
		return &unusable{ContractViolation, fmt.Sprintf("%s has no way out to %s %s in %s", name, m.Platform, m.Object, m.File)}
	}
	if v.IsNull() && f.required {
		return invalid("%s cannot be cleared on %s %s", name, m.Platform, m.Object)
	}
	if f.ref != nil && !v.IsNull() {
		return f.writeReference(body, v, resolve)
	}
	native, err := f.encode(v)
	if err != nil {
		return err
	}
	if native == nil && f.required {
		return invalid("%s leaves nothing to write to %s %s", name, m.Platform, m.Object)
	}
	f.path.put(body, native)
	for _, p := range f.also {
		p.put(body, native)
	}
	return nil
}

func (f *field) encode(v record.Value) (any, error) {
	if v.IsNull() {
		return nil, nil
	}
	native, err := f.codec.encode(v)
	if err != nil {
		kind, detail := reason(err)
		return nil, &unusable{kind, f.name + " " + detail}
	}
	if s, ok := native.(string); ok && f.maxLength > 0 && len(s) > f.maxLength {
		if n := utf8.RuneCountInString(s); n > f.maxLength {
			return nil, invalid("%s has %d characters, at most %d fit into %s", f.name, n, f.maxLength, f.native)
		}
	}
	return native, nil
}

func (f *field) writeReference(body map[string]any, v record.Value, resolve func(string, record.ID) (Target, bool)) error {
	id := record.ID(v.Raw())
	if v.Kind() != record.Text || id.Validate() != nil {
		return invalid("%s is no record id", f.name)
	}
	to, ok := resolve(f.name, id)
	switch {
	case ok && f.ref.relation != nil && to.External != "":
		f.ref.relation.put(body, to.External)
	case ok && to.NativeID != "" && f.ref.wrap:
		f.path.put(body, map[string]any{"id": to.NativeID})
	case ok && to.NativeID != "":
		f.path.put(body, to.NativeID)
	default:
		return &unusable{MissingReference, fmt.Sprintf("%s points to %s, which is not on this platform yet", f.name, id)}
	}
	return nil
}

// As is what the platform would say back if v were written to field: Write, then Observe, of that one field.
// References and values that cannot be written come back as they are.
func (m *Mapping) As(name string, v record.Value) record.Value {
	f, ok := m.fields[name]
	if !ok || !f.out || f.ref != nil || v.IsAbsent() || v.IsNull() {
		return v
	}
	native, err := f.encode(v)
	if err != nil {
		return v
	}
	if native == nil {
		return record.NullValue()
	}
	back, err := f.codec.decode(native)
	if err != nil {
		return v
	}
	return back
}

func (m *Mapping) fault(class fault.Class, id, detail, remedy string) error {
	return &fault.Error{Class: class, Op: "mapping.observe", ID: id, Detail: detail, Remedy: remedy}
}

// Refers says which native object a reference field points to; false when the field is no mapped reference.
func (m *Mapping) Refers(canonical string) (object string, ok bool) {
	if f := m.fields[canonical]; f != nil && f.ref != nil {
		return f.ref.object, true
	}
	return "", false
}
