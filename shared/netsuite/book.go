package netsuite

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
)

const (
	addressBook        = "addressBook"
	addressBookAddress = "addressBookAddress"
)

// defaults are the flags of an address book: each is borne by one line at most.
func defaults() []string { return []string{"defaultBilling", "defaultShipping"} }

// withBook returns the fields of w with a book that fits what is there.
func (c *Connector) withBook(ctx context.Context, w platform.Write, key string, book map[string]any) (map[string]any, error) {
	given, _ := book["items"].([]any)
	raw, _, err := c.raw(ctx, "write", w.Ref.Object, key)
	if err != nil && !(w.Ref.ID == "" && fault.Is(err, fault.NotFound)) {
		return nil, err
	}
	now, _ := raw[addressBook].(map[string]any)
	there, _ := now["items"].([]any)
	lines, err := fit(there, given)
	if err != nil {
		return nil, fault.Wrap(fault.Contract, "netsuite.write", w.Ref.Object+"/"+key, err)
	}
	fields := maps.Clone(w.Fields)
	if fields[addressBook] = map[string]any{"items": lines}; len(lines) == 0 {
		delete(fields, addressBook)
	}
	return fields, nil
}

// entry is one line of the book with what is written to it.
type entry struct {
	was   map[string]any
	write map[string]any // nil = nothing
}

// bears reports whether the line will bear flag.
func (e *entry) bears(flag string) bool {
	if v, told := e.write[flag]; told {
		return v == true
	}
	return e.was[flag] == true || e.was[flag] == "T"
}

// set prepares a write to the line, which its keys name: without one NetSuite would add a line.
// https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/section_1545295601.html
// Which of id and internalId is the key is UNCONFIRMED, so both are sent as they were read.
func (e *entry) set(name string, value any) error {
	if e.write == nil {
		e.write = map[string]any{}
		for _, k := range []string{"id", "internalId"} {
			if e.was[k] != nil {
				e.write[k] = e.was[k]
			}
		}
		if len(e.write) == 0 {
			return fmt.Errorf("a line of %s was read without id and internalId, so it cannot be written", addressBook)
		}
	}
	e.write[name] = value
	return nil
}

// fit turns given lines into lines that NetSuite understands, next to those that are there. A given line with a
// default flag true means the line that bears it now. If that line bears the other flag too, and the given line
// does not say the same, it stays as it is for the other one: the flag moves to a new line, which begins as its
// copy. Otherwise a change of where bills go would change where goods go. If no line bears the flag, one is
// added, unless there is nothing to say in it. Other given lines are added.
func fit(there, given []any) ([]any, error) {
	var book []*entry
	for i, l := range there {
		was, ok := l.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s.items[%d] is a %T, want an object", addressBook, i, l)
		}
		book = append(book, &entry{was: was})
	}
	var added []any
	for i, g := range given {
		line, ok := g.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s.items[%d] is a %T, want an object", addressBook, i, g)
		}
		var old *entry
		shared := false // with a flag that the given line does not want
		for _, flag := range defaults() {
			for _, e := range book {
				if old == nil && line[flag] == true && e.bears(flag) {
					old = e
				}
			}
		}
		for _, flag := range defaults() {
			shared = shared || old != nil && line[flag] != true && old.bears(flag)
		}
		if old != nil && (!shared || repeats(old.was, line)) {
			if err := old.take(line); err != nil {
				return nil, err
			}
		} else if fresh := newLine(old, line); fresh != nil {
			added = append(added, fresh)
			old = nil
		} else {
			continue
		}
		for _, flag := range defaults() { // only one line bears a flag
			for _, e := range book {
				if e != old && line[flag] == true && e.bears(flag) {
					if err := e.set(flag, false); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	var out []any
	for _, e := range book {
		if e.write != nil {
			out = append(out, e.write)
		}
	}
	return append(out, added...), nil
}

// take writes a given line to an old one. Flags that do not change are left out.
func (e *entry) take(line map[string]any) error {
	for name, v := range line {
		if slices.Contains(defaults(), name) && (v != true || e.bears(name)) {
			continue
		}
		if m, isMap := v.(map[string]any); isMap && e.write != nil {
			if before, twice := e.write[name].(map[string]any); twice {
				before = maps.Clone(before)
				maps.Copy(before, m)
				v = before
			}
		}
		if err := e.set(name, v); err != nil {
			return err
		}
	}
	return nil
}

// repeats reports whether line says nothing that was does not say already.
func repeats(was, line map[string]any) bool {
	for name, v := range line {
		if slices.Contains(defaults(), name) {
			continue
		}
		if m, ok := v.(map[string]any); ok && name == addressBookAddress {
			before, _ := was[name].(map[string]any)
			for part, p := range m {
				if plain(before[part]) != plain(p) {
					return false
				}
			}
		} else if plain(was[name]) != plain(v) {
			return false
		}
	}
	return true
}

// plain is a value of a line as text, which is empty for none.
func plain(v any) string {
	if m, ok := v.(map[string]any); ok {
		v = m["id"]
	}
	s, _ := scalar(v)
	return s
}

// newLine is line as one to add, with the address of old, if any, where line does not say otherwise; nil if it
// says nothing.
func newLine(old *entry, line map[string]any) map[string]any {
	fresh, parts := map[string]any{}, map[string]any{}
	if old != nil {
		before, _ := old.was[addressBookAddress].(map[string]any)
		for _, part := range address() {
			if s := plain(before[part.name]); s != "" {
				parts[part.name] = s
			}
		}
	}
	says := false
	for name, v := range line {
		m, isAddress := v.(map[string]any)
		switch {
		case name == addressBookAddress && isAddress:
			maps.Copy(parts, m)
		case v != nil && v != false:
			fresh[name] = v
			says = says || !slices.Contains(defaults(), name)
		}
	}
	maps.DeleteFunc(parts, func(_ string, v any) bool { return plain(v) == "" })
	if len(parts) > 0 {
		fresh[addressBookAddress] = outwardFields(address(), nil, parts)
	} else if !says {
		return nil
	}
	return fresh
}
