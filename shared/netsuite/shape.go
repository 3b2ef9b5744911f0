package netsuite

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/jsonread"
	"sorrel/shared/record"
)

// shape brings a record in the record API's loose shape (links, enums as object or bare id, "T"/"F", numbers
// as text, empty fields left out) into the native shape that the package comment promises.
func (l layout) shape(raw map[string]any) (map[string]any, error) {
	out, err := shapeFields(l.fields, raw, "")
	if err != nil {
		return nil, err
	}
	for _, s := range l.sub {
		for _, f := range s.lift {
			if out[f.name], err = f.shape(raw[f.name]); err != nil {
				return nil, err
			}
		}
		if s.name == "" {
			continue
		}
		if out[s.name], err = s.shape(raw[s.name], s.name); err != nil {
			return nil, err
		}
	}
	for _, f := range []field{{name: "externalId", kind: text}, l.created, l.modified} {
		if out[f.name], err = f.shape(raw[f.name]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func shapeFields(fields []field, raw map[string]any, path string) (map[string]any, error) {
	out := make(map[string]any, len(fields)+4)
	for _, f := range fields {
		v, err := f.shape(raw[f.name])
		if err != nil {
			return nil, fmt.Errorf("%s%w", path, err)
		}
		out[f.name] = v
	}
	return out, nil
}

func (c child) shape(v any, path string) (any, error) {
	if !c.list {
		m, ok := v.(map[string]any)
		if !ok {
			if v != nil {
				return nil, fmt.Errorf("%s is a %T, want an object", path, v)
			}
			return nil, nil
		}
		return c.shapeOne(m, path)
	}
	items, ok := v.([]any)
	if m, isMap := v.(map[string]any); isMap {
		if items, ok = m["items"].([]any); !ok && m["links"] != nil {
			return nil, fmt.Errorf("%s is only a link: the answer was not expanded", path)
		}
	} else if v != nil && !ok {
		return nil, fmt.Errorf("%s is a %T, want {\"items\": […]}", path, v)
	}
	lines := make([]any, 0, len(items))
	for i, item := range items {
		at := fmt.Sprintf("%s.items[%d]", path, i)
		m, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s is a %T, want an object", at, item)
		}
		line, err := c.shapeOne(m, at)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return map[string]any{"items": lines}, nil
}

func (c child) shapeOne(raw map[string]any, path string) (map[string]any, error) {
	out, err := shapeFields(c.fields, raw, path+".")
	if err != nil {
		return nil, err
	}
	for _, s := range c.children {
		if out[s.name], err = s.shape(raw[s.name], path+"."+s.name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// shape brings one value into its kind's shape. Empty text is as good as none in NetSuite.
func (f field) shape(v any) (any, error) {
	if v == nil || v == "" {
		return nil, nil
	}
	wrong := func(want string) error { return fmt.Errorf("%s is a %T, want %s", f.name, v, want) }
	m, isMap := v.(map[string]any)
	id, isScalar := scalar(v)
	if isMap {
		id, isScalar = scalar(m["id"])
	}
	if !isScalar {
		return nil, wrong("a single value")
	}
	switch f.kind {
	case number:
		n, err := record.ParseNumber(id)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		return n.Any(), nil
	case boolean:
		switch id {
		case "T", "true":
			return true, nil
		case "F", "false":
			return false, nil
		}
		return nil, wrong("true or false")
	case date:
		if len(id) > len(time.DateOnly) {
			id = id[:len(time.DateOnly)]
		}
		if _, err := time.Parse(time.DateOnly, id); err != nil {
			return nil, wrong("a date such as 2006-01-02")
		}
	case instant:
		t, err := time.Parse(time.RFC3339Nano, id)
		if err != nil {
			return nil, wrong("a time such as 2006-01-02T15:04:05Z")
		}
		return t.UTC().Format(time.RFC3339Nano), nil
	case ident:
		return map[string]any{"id": id}, nil
	case billed:
		return map[string]any{"id": billing(id)}, nil
	case choice:
		_, isText := m["id"].(string)
		if _, named := m["refName"].(string); isText && named && len(m) == 2 {
			return m, nil // it has the shape already
		}
		out := map[string]any{"id": id}
		if name, ok := m["refName"].(string); ok {
			out["refName"] = name
		}
		return out, nil
	}
	return id, nil
}

// billing is the letter of an invoice's status. SuiteQL says the letter, the record API and scripts say the name. A
// status that is none of these stays as it is.
// https://netsuite.custhelp.com/app/answers/detail/a_id/23874
func billing(status string) string {
	switch strings.ToLower(strings.ReplaceAll(status, " ", "")) {
	case "open":
		return "A"
	case "paidinfull":
		return "B"
	case "pendingapproval":
		return "D"
	case "rejected":
		return "E"
	case "voided":
		return "V"
	}
	return status
}

// outward is fields as the record API takes them: {"id": …} for text in a field that is a list value, a
// reference or a country.
func (l layout) outward(fields map[string]any) map[string]any {
	return outwardFields(l.fields, l.sub, fields)
}

func outwardFields(fields []field, subs []child, in map[string]any) map[string]any {
	out := maps.Clone(in)
	for _, f := range fields {
		if s, ok := in[f.name].(string); ok && s != "" && (f.kind == ident || f.kind == choice || f.kind == code) {
			out[f.name] = map[string]any{"id": s}
		}
	}
	for _, c := range subs {
		m, ok := in[c.name].(map[string]any)
		items, isList := m["items"].([]any)
		switch {
		case isList && c.list:
			lines := make([]any, len(items))
			for i, item := range items {
				lines[i] = item
				if line, ok := item.(map[string]any); ok {
					lines[i] = outwardFields(c.fields, c.children, line)
				}
			}
			m = maps.Clone(m)
			m["items"] = lines
			out[c.name] = m
		case ok && !c.list:
			out[c.name] = outwardFields(c.fields, c.children, m)
		}
	}
	return out
}

// scalar is v as text.
func scalar(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case json.Number:
		return x.String(), true
	case bool:
		return strconv.FormatBool(x), true
	}
	return "", false
}

// maxDepth bounds the nesting of JSON that vendors send.
const maxDepth = 64

// read reads exactly one JSON value of a vendor's.
func read(body []byte, value func(r *jsonread.Reader)) error {
	r := jsonread.New(body, maxDepth)
	value(r)
	if err := r.End(); err != nil {
		return fmt.Errorf("broken JSON: %w", err)
	}
	return nil
}

// native builds a full native from a raw record. asked is the vendor's clock when it answered, or zero.
func (l layout) native(raw map[string]any, asked time.Time) (record.Native, error) {
	fields, err := l.shape(raw)
	if err != nil {
		return record.Native{}, err
	}
	id, _ := scalar(raw["id"])
	if !digits(id) {
		return record.Native{}, fmt.Errorf("id is %.40q, want an internal id of digits", id)
	}
	n := record.Native{Ref: record.Ref{Platform: record.NetSuite, Object: l.object, ID: id}, Fields: fields}
	n.External, _ = fields["externalId"].(string)
	n.Born = when(fields[l.created.name])
	n.Version = version(when(fields[l.modified.name]), asked)
	if l.queried {
		return n, nil
	}
	n.Actor, _ = scalar(raw[l.user])
	if rev, ok := scalar(raw[l.rev]); ok && rev != "" {
		if n.Version.Seq, err = strconv.ParseInt(strings.TrimSuffix(rev, ".0"), 10, 64); err != nil {
			return record.Native{}, fmt.Errorf("%s is %.40q, want a whole number", l.rev, rev)
		}
	}
	return n, nil
}

// version is final when the vendor's clock was past the second of the change.
func version(at, asked time.Time) record.Version {
	return record.Version{At: at, Final: !at.IsZero() && !asked.IsZero() && asked.Sub(at) > resolution}
}

func when(v any) time.Time {
	s, _ := v.(string)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func digits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 20
}
