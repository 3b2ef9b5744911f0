package policy

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"sorrel/shared/contract/source"
)

const lookupsFile = "lookups.yaml"

// What consumers may ask for.
const (
	UseRecords      = "records"
	UseContext      = "context"
	UseInvoices     = "invoices"
	UseEntitlements = "entitlements"
)

// LookupUses lists them.
func LookupUses() []string { return []string{UseContext, UseEntitlements, UseInvoices, UseRecords} }

// What is answered where an owner cannot be asked and what is known is older than it may be.
const (
	AnswerStale = "answer" // fail open: what is known, with its age
	Refuse      = "refuse" // fail closed
)

// Bounds and defaults of lookups.
const (
	DefaultLookupBudget = 800 * time.Millisecond
	DefaultMaxAge       = time.Hour
	mostLookupBudget    = 10 * time.Second
	mostQuota           = 100_000
)

// Lookups is lookups.yaml: who may look things up, and how old an answer may be.
type Lookups struct {
	Budget    time.Duration // that an answer may wait for owners
	Uses      map[string]Use
	Consumers []Consumer // by name

	Deprecated map[string]Deprecation // by path
}

// Deprecation is how a path ends. Days begin at midnight, UTC.
type Deprecation struct {
	Since  time.Time // when it is, or was, deprecated
	Sunset time.Time // when it may be gone; zero is not known
	See    string    // where people read about it; "" = nowhere
}

// LookupPaths lists the paths of the interface.
func LookupPaths() []string {
	return []string{"/v1/customers/{id}/context", "/v1/entitlements", "/v1/invoices", "/v1/records", "/v1/records/{entity}/{id}"}
}

// Use is how one kind of question is answered.
type Use struct {
	MaxAge    time.Duration // where the caller says nothing
	OwnerDown string        // AnswerStale or Refuse
}

// Consumer is a program that looks things up. What it may learn is named.
type Consumer struct {
	Name   string
	Uses   []string            // sorted
	Fields map[string][]string // by entity, sorted
	Quota  int                 // questions in a minute
	JWT    []string            // whom its tokens name: the claim client_id, else azp, else sub
	Keys   []string            // SHA-256 of its API keys, in hexadecimal
}

// May reports whether it may ask questions of a kind.
func (c Consumer) May(use string) bool {
	_, may := slices.BinarySearch(c.Uses, use)
	return may
}

// Learns reports whether it may learn of a field.
func (c Consumer) Learns(entity, field string) bool {
	_, may := slices.BinarySearch(c.Fields[entity], field)
	return may
}

// Lookups are the rules of lookups. Callers must not modify them.
func (s *Set) Lookups() Lookups { return s.lookups }

// WithLookups is the configuration with other rules of lookups.
func (s *Set) WithLookups(l Lookups) *Set {
	out := *s
	out.lookups = l
	return &out
}

// ByKey finds the consumer that an API key is of. Keys are kept as digests; they must be random, of 128 bits or more.
func (l Lookups) ByKey(key string) (Consumer, bool) {
	sum := sha256.Sum256([]byte(key))
	digest := []byte(hex.EncodeToString(sum[:]))
	var found Consumer
	some := false
	for _, c := range l.Consumers {
		for _, k := range c.Keys {
			if subtle.ConstantTimeCompare(digest, []byte(k)) == 1 {
				found, some = c, true
			}
		}
	}
	return found, some
}

// BySubject finds the consumer that a token names.
func (l Lookups) BySubject(subject string) (Consumer, bool) {
	i := slices.IndexFunc(l.Consumers, func(c Consumer) bool { return slices.Contains(c.JWT, subject) })
	if i < 0 {
		return Consumer{}, false
	}
	return l.Consumers[i], true
}

// readLookups reads lookups.yaml, if there is one.
func (s *Set) readLookups(fsys fs.FS, ps *source.Problems) {
	s.lookups = Lookups{Budget: DefaultLookupBudget, Uses: map[string]Use{}}
	for _, use := range LookupUses() {
		s.lookups.Uses[use] = Use{MaxAge: DefaultMaxAge, OwnerDown: AnswerStale}
	}
	data, err := fs.ReadFile(fsys, lookupsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		ps.Add(source.Node{File: lookupsFile, Line: 1, Column: 1}, "the file cannot be read: "+err.Error(), "check its permissions")
		return
	}
	root, ok := source.Parse(lookupsFile, data, ps)
	if !ok || !root.Known(ps, "the lookups file", "budget", "uses", "deprecated", "consumers") {
		return
	}
	if root.Has("budget") {
		s.lookups.Budget = span(ps, root, "budget", mostLookupBudget)
	}
	if uses := root.Get("uses"); uses.Kind == source.Map {
		for _, x := range uses.Entries {
			s.lookups.Uses[x.Key.Text] = readUse(ps, x, s.lookups.Uses[x.Key.Text])
		}
	} else if uses.Kind != source.None {
		ps.Add(root.Key("uses"), "uses must be a block of use: {maxAge: …}", "write it as entitlements: {maxAge: 15m, ownerDown: answer}")
	}
	s.lookups.Deprecated = readDeprecated(ps, root)
	block := root.Get("consumers")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(root.Key("consumers"), "consumers must be a block of name: {uses: …}", "write it as portal: {uses: [records], entities: {customer: [name]}, quota: 600, jwt: [client]}, or {} for none")
	}
	who := map[string]string{} // token subject or key → consumer
	for _, x := range block.Entries {
		if x.Value.Known(ps, "consumer "+x.Key.Text, "uses", "entities", "quota", "jwt", "keys") {
			s.lookups.Consumers = append(s.lookups.Consumers, s.readConsumer(ps, x, who))
		}
	}
	slices.SortFunc(s.lookups.Consumers, func(a, b Consumer) int { return strings.Compare(a.Name, b.Name) })
}

// span reads a duration from one millisecond up to a bound.
func span(ps *source.Problems, n source.Node, key string, most time.Duration) time.Duration {
	text := n.String(ps, key, true)
	d, err := time.ParseDuration(text)
	if text != "" && (err != nil || d < time.Millisecond || d > most) {
		ps.Add(n.Get(key), fmt.Sprintf("%s is %q, want a time from 1ms to %s", key, text, most), "write it as 800ms, 15m or 1h")
	}
	return d
}

func readUse(ps *source.Problems, x source.Entry, u Use) Use {
	if !slices.Contains(LookupUses(), x.Key.Text) {
		ps.Add(x.Key, fmt.Sprintf("unknown use %q", x.Key.Text), source.Suggest(x.Key.Text, LookupUses()))
		return u
	}
	if !x.Value.Known(ps, "use "+x.Key.Text, "maxAge", "ownerDown") {
		return u
	}
	if x.Value.Has("maxAge") {
		u.MaxAge = span(ps, x.Value, "maxAge", 365*24*time.Hour)
	}
	if x.Value.Has("ownerDown") {
		u.OwnerDown = x.Value.String(ps, "ownerDown", true)
		if ways := []string{AnswerStale, Refuse}; u.OwnerDown != "" && !slices.Contains(ways, u.OwnerDown) {
			ps.Add(x.Value.Get("ownerDown"), fmt.Sprintf("unknown way %q", u.OwnerDown), source.Suggest(u.OwnerDown, ways))
		}
	}
	return u
}

// readDeprecated reads what paths end.
func readDeprecated(ps *source.Problems, root source.Node) map[string]Deprecation {
	out := map[string]Deprecation{}
	block := root.Get("deprecated")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(root.Key("deprecated"), "deprecated must be a block of path: {since: …}", "write it as /v1/invoices: {since: 2027-01-31, sunset: 2027-07-31}, or leave it out")
	}
	for _, x := range block.Entries {
		if !slices.Contains(LookupPaths(), x.Key.Text) {
			ps.Add(x.Key, fmt.Sprintf("unknown path %q", x.Key.Text), source.Suggest(x.Key.Text, LookupPaths()))
		}
		if !x.Value.Known(ps, "deprecated path "+x.Key.Text, "since", "sunset", "see") {
			continue
		}
		day := func(key string, must bool) time.Time {
			text := x.Value.String(ps, key, must)
			at, err := time.Parse(time.DateOnly, text)
			if err != nil && text != "" {
				ps.Add(x.Value.Get(key), fmt.Sprintf("%s: %.40q is no day", key, text), "write it as 2027-01-31")
			}
			return at
		}
		d := Deprecation{Since: day("since", true), Sunset: day("sunset", false), See: x.Value.String(ps, "see", false)}
		if !d.Sunset.IsZero() && d.Sunset.Before(d.Since) { // https://www.rfc-editor.org/rfc/rfc9745#name-sunset
			ps.Add(x.Value.Get("sunset"), "it is gone before it is deprecated", "let sunset be since, or later")
		}
		if u, err := url.Parse(d.See); d.See != "" && (err != nil || u.Scheme != "https" || u.Host == "" || strings.ContainsAny(d.See, "<>\" ")) {
			ps.Add(x.Value.Get("see"), fmt.Sprintf("see: %.80q is no https address", d.See), "write the address of a page, such as https://docs.example.com/lookups")
		}
		out[x.Key.Text] = d
	}
	return out
}

func (s *Set) readConsumer(ps *source.Problems, x source.Entry, who map[string]string) Consumer {
	n := x.Value
	out := Consumer{Name: x.Key.Text, Quota: n.Int(ps, "quota")}
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`).MatchString(out.Name) {
		ps.Add(x.Key, fmt.Sprintf("%q is no name of a consumer", out.Name), "use up to 40 small letters, digits and -, beginning with a letter")
	}
	if out.Quota < 1 || out.Quota > mostQuota {
		ps.Add(x.Key, fmt.Sprintf("consumer %s has a quota of %d questions in a minute", out.Name, out.Quota), fmt.Sprintf("write quota: with a number from 1 to %d", mostQuota))
	}
	for _, u := range n.Texts(ps, "uses") {
		if !slices.Contains(LookupUses(), u.Text) {
			ps.Add(u, fmt.Sprintf("unknown use %q", u.Text), source.Suggest(u.Text, LookupUses()))
		}
		out.Uses = append(out.Uses, u.Text)
	}
	if len(out.Uses) == 0 {
		ps.Add(x.Key, "consumer "+out.Name+" may ask nothing", "write uses: with some of "+strings.Join(LookupUses(), ", "))
	}
	slices.Sort(out.Uses)
	named := Subscriber{Fields: map[string][]string{}}
	s.readEntities(ps, n, &named)
	out.Fields = named.Fields
	take := func(at source.Node, as string) {
		if other, twice := who[as]; twice {
			ps.Add(at, fmt.Sprintf("consumer %s has it already", other), "each token and each key is of one consumer")
		}
		who[as] = out.Name
	}
	for _, j := range n.Texts(ps, "jwt") {
		if j.Text == "" {
			ps.Add(j, "a token names nobody so", "write the client id that its tokens carry")
		}
		take(j, "jwt "+j.Text)
		out.JWT = append(out.JWT, j.Text)
	}
	for _, k := range n.Texts(ps, "keys") {
		digest, hashed := strings.CutPrefix(k.Text, "sha256:")
		if !hashed || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(digest) {
			ps.Add(k, "this is no SHA-256 digest of an API key", "write sha256: and the 64 hexadecimal digits of the digest, never the key itself; see infra/runbooks/lookups.md")
			continue
		}
		take(k, "key "+digest)
		out.Keys = append(out.Keys, digest)
	}
	if len(n.Get("jwt").Items)+len(n.Get("keys").Items) == 0 {
		ps.Add(x.Key, "consumer "+out.Name+" cannot say who it is", "write jwt:, keys: or both")
	}
	return out
}
