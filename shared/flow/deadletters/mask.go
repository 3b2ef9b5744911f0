package deadletters

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// masked is the shape of a JSON body: its names stay, every value becomes a word for its kind. Where the program can read the
// message, what names and dates it stays readable. It is nil for what is no JSON.
func masked(body []byte, readable bool) any {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil
	}
	return mask(v, readable)
}

// shows are the members that name and date what a message is about. They lie outside the fields of a native record.
func shows(name string) bool {
	return slices.Contains([]string{"v", "correlationId", "receivedAt", "source", "platform", "object", "id", "record", "version", "native", "at", "final", "seq",
		"partial", "gone", "into", "born", "external", "ours"}, name)
}

func mask(v any, open bool) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			out[name] = mask(value, open && shows(name))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = mask(value, false)
		}
		return out
	case nil:
		return nil
	}
	if open {
		return v
	}
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("(text of %d)", utf8.RuneCountInString(v))
	case bool:
		return "(true or false)"
	}
	return "(number)"
}
