package mapping

import (
	"slices"
	"strings"
)

// Canonical names the canonical fields that native field names mean, as a vendor names them in its errors: a
// path that the field is read from or written to, a part below it, or its last component. Names that mean
// nothing here are left out. Sorted.
func (m *Mapping) Canonical(native []string) []string {
	var out []string
	for name, f := range m.fields {
		if slices.ContainsFunc(native, f.called) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// called reports whether a vendor may mean f by a native name.
func (f *field) called(native string) bool {
	means := func(full string) bool {
		last := full[strings.LastIndexByte(full, '.')+1:]
		return native == full || native == last || strings.HasPrefix(native, full+".") || strings.HasPrefix(native, full+"[")
	}
	if means(f.native) || slices.ContainsFunc(f.also, func(p path) bool { return means(p.String()) }) {
		return true
	}
	return f.ref != nil && f.ref.relation != nil && (native == f.ref.relation[0].key || native == f.ref.relation.String())
}
