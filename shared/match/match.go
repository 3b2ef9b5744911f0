// Package match says which native records mean the same thing. It is pure: no I/O, no clock.
//
// A Rule names fields and, for each, a normaliser that turns what people typed into a comparable text. The normalised
// parts of a rule make one Key; two records with an equal key of one rule are candidates for being one. A strong rule
// is enough to link, a weak one only asks a person.
//
// Decide judges one newcomer against the records that claim its keys. Cluster does the same for all existing records of
// all platforms at once, before going live.
//
// What it costs to start: the normalisers need golang.org/x/net/publicsuffix, x/net/idna and x/text/unicode/norm, which
// add 0.1 MB to a zip that has net/http in it, and no time at start (their tables are data). nyaruka/phonenumbers was
// measured and left out: 6.5 ms and 35,500 allocations at every cold start, 2.5 MB of heap and 2.1 MB of zip, for every
// function that links it. Equality of phone numbers needs a calling code and a trunk prefix per country; countries.go has them.
package match

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"sorrel/shared/record"
)

// Part is one field of a rule.
type Part struct {
	Field      string
	Normaliser string
	Country    string // optional: the field that holds the record's country, for phone, tax-id and postcode
}

// Rule equates the records whose parts are all equal after normalisation.
type Rule struct {
	Name   string
	Parts  []Part
	Strong bool   // enough to link; otherwise it only makes a candidate
	At     string // file:line:column where the rule stands
}

// Rules are the match rules of one entity, in the order of the policy.
type Rules []Rule

// Key is what one record has under one rule. Two records match under a rule exactly when Rule and Value are equal.
type Key struct {
	Rule   string
	Strong bool
	Value  string // at most 128 bytes of letters, digits, marks and " .@+_-'", joined by |; longer or stranger parts are a # and 32 hex digits
}

const (
	maxValue  = 128
	hashBytes = 16
	joiner    = "|"
	hashed    = "#" // occurs in no part that is not hashed
)

// Keys returns one key for each rule all of whose parts have a value, in the order of the rules.
func (r Rules) Keys(fields map[string]record.Value) []Key {
	keys := make([]Key, 0, len(r))
	done := make(map[Part]string, 2*len(r)) // rules share parts, and normalising is what takes the time
	for _, rule := range r {
		if v := rule.value(fields, done); v != "" {
			keys = append(keys, Key{rule.Name, rule.Strong, v})
		}
	}
	return keys
}

func (r Rule) value(fields map[string]record.Value, done map[Part]string) string {
	parts := make([]string, len(r.Parts))
	for i, p := range r.Parts {
		k, known := done[p]
		if !known {
			if k = Normalise(p.Normaliser, text(fields[p.Field]), text(fields[p.Country])); k != "" {
				k = bounded(k, true)
			}
			done[p] = k
		}
		if k == "" {
			return ""
		}
		parts[i] = k
	}
	return bounded(strings.Join(parts, joiner), false)
}

// text is what a normaliser sees. A list or object, a cleared and an absent field have no key.
func text(v record.Value) string {
	switch v.Kind() {
	case record.Text, record.Number, record.Bool:
		return v.Raw()
	}
	return ""
}

// bounded hashes what is too long and, when it looks at a single part, what has characters that a key may not have.
func bounded(s string, part bool) string {
	if len(s) <= maxValue && (!part || strings.IndexFunc(s, odd) < 0 && utf8.ValidString(s)) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return hashed + hex.EncodeToString(sum[:hashBytes])
}

func odd(r rune) bool {
	return !unicode.In(r, unicode.L, unicode.N, unicode.M) && !strings.ContainsRune(" .@+_-'", r)
}

// Shown is the key for people who must judge it: the beginning and the end of each part, never all of it.
func (k Key) Shown() string {
	parts := strings.Split(k.Value, joiner)
	for i, p := range parts {
		runes := []rune(p)
		switch n := len(runes); {
		case strings.HasPrefix(p, hashed):
			parts[i] = string(runes[:min(n, 9)])
		case n >= 8:
			parts[i] = string(runes[:3]) + "…" + string(runes[n-2:])
		default:
			parts[i] = string(runes[:min(n, 1)]) + "…"
		}
	}
	return strings.Join(parts, " ")
}
