// Package certificate makes and checks completeness certificates: what one run of reconciliation compared and how it came out,
// signed, so that whoever holds the public key can check it without asking anybody.
//
// A certificate is a text file: a Statement as indented JSON, and one last line with the key and the Ed25519 signature
// (https://www.rfc-editor.org/rfc/rfc8032) over all bytes before that line. There is one way to write a statement, and another
// is refused, so no byte can differ unnoticed. Nothing of it needs Sorrel: with the file without its last line as STATEMENT, and
// the signature decoded from base64 as SIGNATURE,
//
//	openssl pkeyutl -verify -pubin -inkey KEY.pem -rawin -in STATEMENT -sigfile SIGNATURE
//
// What it proves: whoever held the private key said this, and it has not been altered since; and, by the hash roots, which
// native records in which versions it was said about, without naming them (see Tree and Proof). What it does not prove: that the
// platforms told the truth, that nothing has changed since AsOf, that the key was kept well, or that values are equal where only
// versions were compared. What a run could not see is listed in Limits.
package certificate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"sorrel/shared/fault"
)

// Title and Format begin every statement, so that a signature over one cannot be mistaken for one over something else.
const (
	Title  = "Sorrel completeness certificate"
	Format = 1
)

// Bounds of a certificate.
const (
	MaxBytes      = 4 << 20
	MaxSets       = 1000
	MaxExceptions = 1000 // of a set; Unlisted counts those beyond
	MaxLimits     = 100  // of a set
	MaxText       = 1000 // bytes of any text
)

// Statement is what is certified about one run. It holds counts, hashes and ids of exceptions: no value of any record.
type Statement struct {
	Title   string    `json:"title"`
	Format  int       `json:"format"`
	Run     string    `json:"run"`
	Mode    string    `json:"mode"` // counts or full
	State   string    `json:"state"`
	DryRun  bool      `json:"dryRun"`
	By      string    `json:"by"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// Config is the version of policies and mappings, Policy that of the rules of reconciliation.
	Config string `json:"configVersion"`
	Policy string `json:"policyVersion"`
	// Previous is the hash of the certificate before this one, or "". So one that is taken away leaves a gap.
	Previous string `json:"previous"`
	Sets     []Set  `json:"sets"`
	Key      string `json:"key"` // the id of the public key; Sign sets it
}

// Set is what was compared of one object of one platform.
type Set struct {
	Platform    string    `json:"platform"`
	Object      string    `json:"object"`
	Entity      string    `json:"entity"`
	State       string    `json:"state"`
	AsOf        time.Time `json:"asOf"`
	There       int       `json:"there"` // native records that the platform says it has
	Here        int       `json:"here"`  // of them and others, those that Sorrel knew
	Compared    int       `json:"compared"`
	Equal       int       `json:"equal"`
	Drift       []Drift   `json:"drift"`
	Capped      bool      `json:"capped"`
	Unexplained int       `json:"unexplained"`
	Hub         Root      `json:"hubRoot"`
	Provider    Root      `json:"platformRoot"`
	Exceptions  []string  `json:"exceptions"`
	Unlisted    int       `json:"exceptionsUnlisted"`
	Limits      []string  `json:"limits"`
}

// Drift counts one kind of difference.
type Drift struct {
	Kind     string `json:"kind"`
	Found    int    `json:"found"`
	Healed   int    `json:"healed"`
	Excepted int    `json:"excepted"`
}

// Root is the hash over a set and how many records it is over. Hash is "" where not every record was told.
type Root struct {
	Records int    `json:"records"`
	Hash    string `json:"hash"`
}

// The states of a run that ended well, and of each of its sets.
const Done = "done"

// Open says why the run does not leave the sets complete, one reason each; none if it does.
func (s Statement) Open() []string {
	var out []string
	add := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	if s.State != Done {
		add("the run did not end well: %s", s.State)
	}
	if len(s.Sets) == 0 {
		add("nothing was compared")
	}
	for _, set := range s.Sets {
		name := set.Platform + " " + set.Object
		if set.State != Done {
			state := set.State
			if state == "" {
				state = "not begun"
			}
			add("%s: %s", name, state)
			continue
		}
		found, healed := 0, 0
		for _, d := range set.Drift {
			found, healed = found+d.Found, healed+d.Healed
		}
		if set.Capped {
			add("%s: more differed than may be healed without people", name)
		}
		if left := found - healed; left > 0 {
			add("%s: %d differing and not healed", name, left)
		}
		if set.Unexplained > 0 {
			add("%s: counts still differ by %d", name, set.Unexplained)
		}
	}
	return out
}

// Certificate is a file that was read. Its statement is only what the file says until Verify.
type Certificate struct {
	Statement Statement
	Public    PublicKey // the key that the file names as its own
	signed    []byte
	signature []byte
	hash      string
}

// seal is the last line.
type seal struct {
	Public    []byte `json:"publicKey"`
	Signature []byte `json:"signature"`
}

// Hash names a certificate, for Statement.Previous.
func Hash(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:])
}

// Hash of the file that was read.
func (c Certificate) Hash() string { return c.hash }

// Read takes a file apart. It refuses what Sign would have written otherwise, down to the byte, and checks no signature.
func Read(file []byte) (Certificate, error) {
	if len(file) > MaxBytes {
		return Certificate{}, &fault.Error{Class: fault.TooLarge, Op: "certificate", Detail: fmt.Sprintf("the file has %d bytes, a certificate at most %d", len(file), MaxBytes), Remedy: "name a certificate"}
	}
	body, ended := bytes.CutSuffix(file, []byte("\n"))
	cut := bytes.LastIndexByte(body, '\n') + 1
	if !ended || cut == 0 {
		return Certificate{}, broken("the file has no statement and last line")
	}
	c := Certificate{signed: file[:cut], hash: Hash(file)}
	var last seal
	if err := strict(file[cut:], &last); err != nil {
		return Certificate{}, broken("the last line is not a signature: " + err.Error())
	}
	if err := strict(c.signed, &c.Statement); err != nil {
		return Certificate{}, broken("the statement is not one: " + err.Error())
	}
	if err := c.Statement.check(); err != nil {
		return Certificate{}, err
	}
	if written, err := c.Statement.encode(); err != nil || !bytes.Equal(written, c.signed) {
		return Certificate{}, broken("the statement is not written as Sorrel writes it")
	}
	if written, err := last.encode(); err != nil || !bytes.Equal(written, file[cut:]) {
		return Certificate{}, broken("the last line is not written as Sorrel writes it")
	}
	var err error
	if c.Public, err = publicKey(last.Public); err != nil {
		return Certificate{}, err
	}
	c.signature = last.Signature
	return c, nil
}

// Verify checks the signature by the key that the certificate names; and, if keys are given, that it is one of these. Without
// any, it proves only that the file is as somebody wrote it: anybody can make a key.
func (c Certificate) Verify(trusted ...PublicKey) error {
	if id := c.Public.ID(); id != c.Statement.Key {
		return broken("the key in the last line is " + Short(id) + ", the statement names " + Short(c.Statement.Key))
	}
	known := len(trusted) == 0
	for _, k := range trusted {
		known = known || k.Equal(c.Public)
	}
	if !known {
		return &fault.Error{Class: fault.Unauthenticated, Op: "certificate", ID: c.Statement.Run, Detail: "signed by the key " + Short(c.Statement.Key) + ", which is none of those given",
			Remedy: "compare with `sorrel reconcile key`; after a rotation give the key that was in use then"}
	}
	if !c.Public.verify(c.signed, c.signature) {
		return broken("the signature does not fit: the file is not as it was signed")
	}
	return nil
}

func broken(detail string) error {
	return &fault.Error{Class: fault.Unauthenticated, Op: "certificate", Detail: detail, Remedy: "fetch it again from where it was made, with sorrel reconcile certificate; if that fails alike, trust it in nothing"}
}

// strict decodes one JSON value without members that v has not. The errors of encoding/json quote at most a name or a character.
func strict(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("something follows it")
	}
	return nil
}

func (s Statement) encode() ([]byte, error) { return encode(s, "  ") }
func (s seal) encode() ([]byte, error)      { return encode(s, "") }

func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// plain brings a statement into the one form: UTC, and no list that is absent.
func (s Statement) plain() Statement {
	s.Title, s.Format = Title, Format
	s.Started, s.Ended = s.Started.UTC(), s.Ended.UTC()
	sets := make([]Set, len(s.Sets))
	for i, set := range s.Sets {
		set.AsOf = set.AsOf.UTC()
		set.Drift, set.Exceptions, set.Limits = append([]Drift{}, set.Drift...), append([]string{}, set.Exceptions...), append([]string{}, set.Limits...)
		if more := len(set.Exceptions) - MaxExceptions; more > 0 {
			set.Exceptions, set.Unlisted = set.Exceptions[:MaxExceptions], set.Unlisted+more
		}
		sets[i] = set
	}
	s.Sets = sets
	return s
}

// check holds a statement to the bounds and to what can be true.
func (s Statement) check() error {
	var wrong []string
	bad := func(field, detail string) { wrong = append(wrong, field+" "+detail) }
	text := func(field string, values ...string) {
		for _, v := range values {
			if len(v) > MaxText {
				bad(field, fmt.Sprintf("has %d bytes, at most %d", len(v), MaxText))
				return
			}
		}
	}
	if s.Title != Title || s.Format != Format {
		bad("title", fmt.Sprintf("and format are not %q, %d", Title, Format))
	}
	text("a text of the run", s.Run, s.Mode, s.State, s.By, s.Config, s.Policy)
	hash := func(field, v string) {
		if sum, err := hex.DecodeString(v); v != "" && (err != nil || len(sum) != sha256.Size || strings.ToLower(v) != v) {
			bad(field, "is no SHA-256 in lower-case hexadecimal")
		}
	}
	hash("previous", s.Previous)
	hash("key", s.Key)
	if len(s.Sets) > MaxSets {
		bad("sets", fmt.Sprintf("are %d, at most %d", len(s.Sets), MaxSets))
	}
	for i, set := range s.Sets {
		at := fmt.Sprintf("sets[%d]", i)
		text(at+" a text", set.Platform, set.Object, set.Entity, set.State)
		text(at+".exceptions", set.Exceptions...)
		text(at+".limits", set.Limits...)
		hash(at+".hubRoot", set.Hub.Hash)
		hash(at+".platformRoot", set.Provider.Hash)
		if len(set.Exceptions) > MaxExceptions || len(set.Limits) > MaxLimits || len(set.Drift) > MaxLimits {
			bad(at, "has too long a list")
		}
		counts := []int{set.There, set.Here, set.Compared, set.Equal, set.Unexplained, set.Unlisted, set.Hub.Records, set.Provider.Records}
		for _, d := range set.Drift {
			text(at+".drift", d.Kind)
			counts = append(counts, d.Found, d.Healed, d.Excepted)
		}
		for _, n := range counts {
			if n < 0 {
				bad(at, "has a count below 0")
				break
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &fault.Error{Class: fault.Contract, Op: "certificate", ID: cut(s.Run), Detail: strings.Join(wrong[:min(len(wrong), 10)], "; "), Remedy: "a certificate is made by sorrel reconcile"}
}

func cut(text string) string { return text[:min(len(text), 80)] }
