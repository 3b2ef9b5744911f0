package message

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"sorrel/shared/record"
)

// appendInbound appends what encoding/json makes of in, byte for byte, which a test holds it to. It is by hand because
// reflection over the maps of a native record was a sixth of all that acknowledging a webhook costs.
func appendInbound(b []byte, in Inbound) ([]byte, error) {
	b = strconv.AppendInt(append(b, `{"v":`...), int64(in.V), 10)
	b = appendText(append(b, `,"correlationId":`...), in.CorrelationID)
	b, err := appendTime(append(b, `,"receivedAt":`...), in.ReceivedAt)
	if err != nil {
		return nil, err
	}
	b = appendText(append(b, `,"source":`...), string(in.Source))
	if b, err = appendNative(append(b, `,"native":`...), in.Native); err != nil {
		return nil, err
	}
	return append(b, '}'), nil
}

func appendNative(b []byte, n record.Native) ([]byte, error) {
	b = appendText(append(b, `{"platform":`...), n.Platform)
	b = appendText(append(b, `,"object":`...), n.Object)
	b = appendText(append(b, `,"id":`...), n.ID)
	b, err := appendTime(append(b, `,"version":{"at":`...), n.Version.At)
	if err != nil {
		return nil, err
	}
	b = appendFlag(b, `,"final":true`, n.Version.Final)
	if n.Version.Seq != 0 {
		b = strconv.AppendInt(append(b, `,"seq":`...), n.Version.Seq, 10)
	}
	b = append(b, '}')
	if len(n.Fields) > 0 {
		if b, err = appendAny(append(b, `,"fields":`...), n.Fields, 0); err != nil {
			return nil, err
		}
	}
	b = appendFlag(b, `,"partial":true`, n.Partial)
	b = appendFlag(b, `,"gone":true`, n.Gone)
	if n.Into != "" {
		b = appendText(append(b, `,"into":`...), n.Into)
	}
	if !n.Born.IsZero() {
		if b, err = appendTime(append(b, `,"born":`...), n.Born); err != nil {
			return nil, err
		}
	}
	if n.External != "" {
		b = appendText(append(b, `,"external":`...), n.External)
	}
	b = appendFlag(b, `,"ours":true`, n.Ours)
	if n.Actor != "" {
		b = appendText(append(b, `,"actor":`...), n.Actor)
	}
	return append(b, '}'), nil
}

// maxDepth is where a value is left to encoding/json, which knows about cycles.
const maxDepth = 64

func appendAny(b []byte, a any, depth int) ([]byte, error) {
	var err error
	switch a := a.(type) {
	case nil:
		return append(b, `null`...), nil
	case string:
		return appendText(b, a), nil
	case bool:
		return strconv.AppendBool(b, a), nil
	case map[string]any:
		if a == nil || depth > maxDepth {
			break
		}
		keys := make([]string, 0, len(a))
		for k := range a {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b = append(b, '{')
		for i, k := range keys {
			b = appendComma(b, i)
			if b, err = appendAny(append(appendText(b, k), ':'), a[k], depth+1); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case []any:
		if a == nil || depth > maxDepth {
			break
		}
		b = append(b, '[')
		for i, v := range a {
			if b, err = appendAny(appendComma(b, i), v, depth+1); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case json.Number:
		if digits(string(a)) {
			return append(b, a...), nil
		}
	}
	text, err := json.Marshal(a)
	return append(b, text...), err
}

func appendComma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

func appendFlag(b []byte, member string, set bool) []byte {
	if set {
		return append(b, member...)
	}
	return b
}

func appendTime(b []byte, t time.Time) ([]byte, error) {
	if y := t.Year(); t.Location() != time.UTC || y < 0 || y > 9999 {
		text, err := json.Marshal(t)
		return append(b, text...), err
	}
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"'), nil
}

// digits reports whether s is a plain JSON number: digits, perhaps a sign and a fraction.
func digits(s string) bool {
	if len(s) > 1 && s[0] == '-' {
		s = s[1:]
	}
	if s == "" || s[0] == '0' && len(s) > 1 && s[1] != '.' {
		return false
	}
	point := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
		case c == '.' && !point && i > 0 && i+1 < len(s):
			point = true
		default:
			return false
		}
	}
	return true
}

func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string always marshals
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
