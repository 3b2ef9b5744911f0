package mapping

import (
	"slices"
	"strings"
)

// Canonical names the canonical fields that native field names mean, as a vendor names them in its errors: the
// path as mapped, a part below it, or its last component. Names that mean nothing here are left out. Sorted.
func (m *Mapping) Canonical(native []string) []string {
	var out []string
	for _, n := range native {
		for name, f := range m.fields {
			last := f.native[strings.LastIndexByte(f.native, '.')+1:]
			if n == f.native || n == last || strings.HasPrefix(n, f.native+".") || strings.HasPrefix(n, f.native+"[") {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
