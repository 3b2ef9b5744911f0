package record

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Platform names of the connected systems.
const (
	NetSuite   = "netsuite"
	Salesforce = "salesforce"
	Zendesk    = "zendesk"
	ServiceNow = "servicenow"
)

// Files stands for files that are taken in: it is read like a platform, and nothing is ever due for it.
const Files = "files"

// subscriber begins what stands for a platform where a subscriber is to be told something: no platform has a point in it.
const subscriber = "subscriber."

// ToSubscriber is what a record is due for where a subscriber is to be told of its changes.
func ToSubscriber(name string) string { return subscriber + name }

// Subscriber is the name of the subscriber that is to be told something, if what a record is due for is one.
func Subscriber(due string) (name string, is bool) { return strings.CutPrefix(due, subscriber) }

// Ref names one native record: a platform, an object in that platform's own words, and its native id.
type Ref struct {
	Platform string `json:"platform"`
	Object   string `json:"object"`
	ID       string `json:"id"`
}

func (r Ref) String() string { return r.Platform + "/" + r.Object + "/" + r.ID }

// Version orders what one platform said about one native record. It is the platform's own token: At is its
// modification time with the precision it has, Seq breaks ties where the platform counts (CDC commit and
// sequence number, ServiceNow sys_mod_count, our NetSuite revision field). Final marks a value that was read
// back when no further change at the same At was possible any more: it beats every pushed value of that At.
type Version struct {
	At    time.Time `json:"at"`
	Final bool      `json:"final,omitempty"`
	Seq   int64     `json:"seq,omitempty"`
}

// Compare orders versions: by At, then Final, then Seq.
func (v Version) Compare(w Version) int {
	if c := v.At.Compare(w.At); c != 0 {
		return c
	}
	if v.Final != w.Final {
		if v.Final {
			return 1
		}
		return -1
	}
	switch {
	case v.Seq < w.Seq:
		return -1
	case v.Seq > w.Seq:
		return 1
	}
	return 0
}

// IsZero reports whether the platform gave no version: such a Native is only a hint.
func (v Version) IsZero() bool { return v.At.IsZero() && v.Seq == 0 }

// within reports whether v leaves open when in the moment of w it is, as a read does where the clock counts whole seconds
// and only events are ordered within them.
func (v Version) within(w Version) bool {
	return v.At.Equal(w.At) && v.Seq == 0 && !v.Final && w.Seq != 0
}

// Native is one native record as its platform said it, in the platform's own field names and value shapes.
type Native struct {
	Ref
	Version  Version        `json:"version"`
	Fields   map[string]any `json:"fields,omitempty"`   // decoded JSON with json.Number; nil = nothing but a hint: read it
	Partial  bool           `json:"partial,omitempty"`  // Fields holds only some fields; a full native's missing fields are not said either
	Gone     bool           `json:"gone,omitempty"`     // deleted at Version
	Into     string         `json:"into,omitempty"`     // with Gone: it was merged into this native id of the same object
	Born     time.Time      `json:"born,omitzero"`      // creation time, where known: only a later birth revives a deleted record
	External string         `json:"external,omitempty"` // Sorrel's external id found on the record
	Ours     bool           `json:"ours,omitempty"`     // the platform itself says our client made this change; a full native made by us says nothing new
	Actor    string         `json:"actor,omitempty"`    // who did it, in the platform's own user id
}

// Hint reports whether n must be read before it can be observed.
func (n Native) Hint() bool { return !n.Gone && (n.Fields == nil || n.Version.IsZero()) }

// ID names a record: entity/…
type ID string

// Entity of the record.
func (id ID) Entity() string {
	e, _, _ := strings.Cut(string(id), "/")
	return e
}

// External is the id in the form that every platform accepts as an external id: letters, digits, '-'.
func (id ID) External() string { return strings.Replace(string(id), "/", "-", 1) }

// ParseExternal turns an external id (see Record.External) back into a record id, or reports that it is none of ours.
func ParseExternal(s string) (ID, bool) {
	e, rest, ok := strings.Cut(s, "-")
	rest, again, parted := strings.Cut(rest, "-")
	if n, err := strconv.Atoi(again); parted && (err != nil || n < 1) {
		return "", false
	}
	id := ID(e + "/" + rest)
	if !ok || id.Validate() != nil {
		return "", false
	}
	return id, true
}

// Validate checks the form entity/key: lower-case letters, then letters and digits.
func (id ID) Validate() error {
	e, key, ok := strings.Cut(string(id), "/")
	valid := ok && e != "" && key != "" && len(id) <= 80
	for _, c := range e {
		valid = valid && c >= 'a' && c <= 'z'
	}
	for _, c := range key {
		valid = valid && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9')
	}
	if !valid {
		return fmt.Errorf("record id %q is not of the form entity/key", id)
	}
	return nil
}
