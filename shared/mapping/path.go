package mapping

import "strings"

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

// writable reports whether a value can be put at p: a path that chooses a list element cannot.
func (p path) writable() bool {
	for _, s := range p {
		if s.flag != "" {
			return false
		}
	}
	return true
}

// find returns the value at p. A missing parent means absent, a null parent or no chosen element means null;
// ok is false when a parent is of another shape.
func (p path) find(fields map[string]any) (value any, found, ok bool) {
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
			v = chosen(list, s.flag)
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

// put sets the value at p. Paths of one mapping never run through each other's values, which Load checks.
func (p path) put(body map[string]any, value any) {
	for _, s := range p[:len(p)-1] {
		next, ok := body[s.key].(map[string]any)
		if !ok {
			next = map[string]any{}
			body[s.key] = next
		}
		body = next
	}
	body[p[len(p)-1].key] = value
}

// String is p without its selectors.
func (p path) String() string {
	keys := make([]string, len(p))
	for i, s := range p {
		keys[i] = s.key
	}
	return strings.Join(keys, ".")
}
