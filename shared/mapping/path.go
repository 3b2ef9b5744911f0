package mapping

import (
	"slices"
	"strings"
)

// segment is one step of a native path: a key, or with flag the first element of the list under key whose
// flag is true.
type segment struct{ key, flag string }

// path leads to a native value, such as shippingAddress.addr1, item.items or
// addressBook.items[defaultBilling].addressBookAddress.city.
type path []segment

func parsePath(s string) (path, bool) {
	var p path
	for part := range strings.SplitSeq(s, ".") {
		key, rest, chosen := strings.Cut(part, "[")
		flag, after, closed := strings.Cut(rest, "]")
		if key == "" || chosen && (!closed || flag == "" || after != "") || strings.ContainsAny(part, " \t\n") {
			return nil, false
		}
		p = append(p, segment{key, flag})
	}
	return p, true
}

// chooses reports whether p chooses a list element on its way.
func (p path) chooses() bool {
	return slices.ContainsFunc(p, func(s segment) bool { return s.flag != "" })
}

// writable reports whether a value can be put at p: into a chosen list element, but neither in its place nor
// in the place of the flag that chooses it.
func (p path) writable() bool {
	for i, s := range p {
		if s.flag != "" && (i == len(p)-1 || p[i+1] == segment{key: s.flag}) {
			return false
		}
	}
	return true
}

// meets reports whether one of two paths runs through the value of the other, or both are the same. Elements
// chosen by different flags are different places, though one element may bear both flags.
func (p path) meets(q path) bool {
	for i := range min(len(p), len(q)) {
		if p[i].key != q[i].key || p[i].flag != q[i].flag && p[i].flag != "" && q[i].flag != "" {
			return false
		}
	}
	return true
}

// find returns the value at p. A missing parent means absent, a null parent or no chosen element means null;
// ok is false when a parent is of another shape.
func (p path) find(fields map[string]any) (value any, found, ok bool) { return p.look(fields, true) }

// look is find; with whole false, a list may lack elements, so that no chosen element means absent.
func (p path) look(fields map[string]any, whole bool) (value any, found, ok bool) {
	at := fields
	for i, s := range p {
		v, there := at[s.key]
		if !there {
			return nil, false, true
		}
		if s.flag != "" && v != nil {
			list, isList := v.([]any)
			if !isList {
				return nil, true, false
			}
			if v = chosen(list, s.flag); v == nil && !whole {
				return nil, false, true
			}
		}
		if i == len(p)-1 || v == nil {
			return v, true, true
		}
		next, isMap := v.(map[string]any)
		if !isMap {
			return nil, true, false
		}
		at = next
	}
	return nil, false, true
}

func chosen(list []any, flag string) any {
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && (m[flag] == true || m[flag] == "T" || m[flag] == "true") {
			return m
		}
	}
	return nil
}

// put sets the value at p. Everything that is put into the element of one flag ends up in one element, which
// bears nothing but that flag: which element of the platform it means, the platform's connector finds out.
// Paths of one mapping never run through each other's values, which Load checks.
func (p path) put(body map[string]any, value any) {
	for _, s := range p[:len(p)-1] {
		if s.flag != "" {
			list, _ := body[s.key].([]any)
			next, ok := chosen(list, s.flag).(map[string]any)
			if !ok {
				next = map[string]any{s.flag: true}
				body[s.key] = append(list, next)
			}
			body = next
			continue
		}
		next, ok := body[s.key].(map[string]any)
		if !ok {
			next = map[string]any{}
			body[s.key] = next
		}
		body = next
	}
	body[p[len(p)-1].key] = value
}

// String is p as it is written in a mapping.
func (p path) String() string {
	keys := make([]string, len(p))
	for i, s := range p {
		if keys[i] = s.key; s.flag != "" {
			keys[i] += "[" + s.flag + "]"
		}
	}
	return strings.Join(keys, ".")
}
