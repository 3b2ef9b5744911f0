package mapping

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sorrel/shared/record"
)

// Row is what a file says of a record, as Observe would read it: canonical fields in the places and forms that the mapping
// of the platform files gives them, the rows of lists under the names of these. Absent fields are left out.
//
// key finds the key of the record that a field refers to. unsaid tells of each field that would not be read back as it is,
// why; the row lacks those. Only spaces around a text get lost silently.
func (m *Mapping) Row(fields map[string]record.Value, key func(field string, id record.ID) (string, bool)) (row map[string]any, unsaid map[string]string) {
	row, unsaid = map[string]any{}, map[string]string{}
	said := map[*field]any{}
	for _, f := range m.in {
		v := fields[f.name]
		if v.IsAbsent() {
			continue
		}
		native, err := f.say(v, key)
		if err == nil {
			for other, its := range said {
				if f.path.meets(other.path) && !(slices.Equal(f.path, other.path) && reflect.DeepEqual(native, its)) {
					err = invalid("and %s share %s, which cannot hold both", other.name, f.native)
				}
			}
		}
		if err != nil {
			_, unsaid[f.name] = reason(err)
			continue
		}
		said[f] = native
		f.path.put(row, native)
	}
	return row, unsaid
}

// say is a field's native value that is read back as v.
func (f *field) say(v record.Value, key func(string, record.ID) (string, bool)) (any, error) {
	switch {
	case f.ref != nil && !v.IsNull():
		k, ok := key(f.name, record.ID(v.Raw()))
		if !ok || k == "" {
			return nil, &unusable{MissingReference, fmt.Sprintf("points to %s, which has no key in files", v.Raw())}
		}
		return k, nil
	}
	native, err := f.encode(v)
	if err != nil {
		return nil, err
	}
	back := record.NullValue()
	if native != nil {
		if back, err = f.codec.decode(native); err != nil {
			return nil, err
		}
	}
	tidy := v
	if v.Kind() == record.Text {
		if tidy = record.TextValue(strings.TrimSpace(v.Raw())); tidy.Raw() == "" {
			tidy = record.NullValue()
		}
	}
	if back != v && back != tidy {
		return nil, invalid("would be read back as another value")
	}
	return native, nil
}

// ReadFrom lists the fields that are read from a native path, sorted.
func (m *Mapping) ReadFrom(native string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m.fields)) {
		if f := m.fields[name]; f.in && f.native == native {
			out = append(out, name)
		}
	}
	return out
}
