package certificate

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// Tree is the Merkle tree of RFC 9162, section 2.1 (https://www.rfc-editor.org/rfc/rfc9162#section-2.1), over native records in the
// order in which they are added, which is that of their ids. It keeps one hash per level, whatever the number of records, and is
// JSON between two parts of a run. The zero value is empty and ready.
type Tree struct {
	records int
	peaks   []peak // of perfect subtrees, wide to narrow
	proof   *Proof // of the marked record
	scratch []byte
}

type peak struct {
	sum    sum
	marked bool // holds the record that is proven
}

type sum = [sha256.Size]byte

// Add takes the next record. The same id and version at the same place give the same root, whatever was told of the record else.
func (t *Tree) Add(id string, v record.Version) { t.add(id, v, false) }

// Mark is Add, and Proof will be about this record and none that was marked before.
func (t *Tree) Mark(id string, v record.Version) {
	for i := range t.peaks {
		t.peaks[i].marked = false
	}
	t.proof = &Proof{ID: id, Version: v, Place: t.records}
	t.add(id, v, true)
}

func (t *Tree) add(id string, v record.Version, marked bool) {
	p := peak{t.leaf(id, v), marked}
	for n := t.records; n&1 == 1; n >>= 1 { // one perfect subtree per bit of the number of records
		p = t.join(t.peaks[len(t.peaks)-1], p)
		t.peaks = t.peaks[:len(t.peaks)-1]
	}
	t.peaks = append(t.peaks, p)
	t.records++
}

// join is the node over two neighbours, and notes the one that the marked record has not.
func (t *Tree) join(left, right peak) peak {
	switch {
	case left.marked:
		t.proof.Path = append(t.proof.Path, hex.EncodeToString(right.sum[:]))
	case right.marked:
		t.proof.Path = append(t.proof.Path, hex.EncodeToString(left.sum[:]))
	}
	return peak{node(left.sum, right.sum), left.marked || right.marked}
}

// leaf hashes one record: 0, the length of the id, the id, the time in seconds and nanoseconds, 1 if final, the sequence number.
func (t *Tree) leaf(id string, v record.Version) sum {
	b := append(t.scratch[:0], 0)
	b = binary.AppendUvarint(b, uint64(len(id)))
	b = append(b, id...)
	b = binary.BigEndian.AppendUint64(b, uint64(v.At.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(v.At.Nanosecond()))
	final := byte(0)
	if v.Final {
		final = 1
	}
	b = binary.BigEndian.AppendUint64(append(b, final), uint64(v.Seq))
	t.scratch = b
	return sha256.Sum256(b)
}

func node(left, right sum) sum {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// Root is the hash over everything added so far. More may be added afterwards.
func (t *Tree) Root() Root {
	whole, _ := t.whole()
	return Root{Records: t.records, Hash: hex.EncodeToString(whole[:])}
}

// whole joins what is there, narrow to wide, without changing it.
func (t *Tree) whole() (sum, *Proof) {
	if t.records == 0 {
		return sha256.Sum256(nil), nil
	}
	c := Tree{}
	if t.proof != nil {
		p := *t.proof
		p.Path = append([]string{}, p.Path...)
		c.proof = &p
	}
	last := t.peaks[len(t.peaks)-1]
	for i := len(t.peaks) - 2; i >= 0; i-- {
		last = c.join(t.peaks[i], last)
	}
	return last.sum, c.proof
}

// Proof shows that the marked record is in the tree, or nothing if none was marked.
func (t *Tree) Proof() (Proof, bool) {
	_, p := t.whole()
	if p == nil {
		return Proof{}, false
	}
	p.Records = t.records
	return *p, true
}

// saved is a tree between two parts of a run. A mark is not kept.
type saved struct {
	Records int      `json:"records"`
	Peaks   []string `json:"peaks,omitempty"`
}

// MarshalJSON writes where the tree is.
func (t *Tree) MarshalJSON() ([]byte, error) {
	s := saved{Records: t.records}
	for _, p := range t.peaks {
		s.Peaks = append(s.Peaks, hex.EncodeToString(p.sum[:]))
	}
	return json.Marshal(s)
}

// UnmarshalJSON goes on from there.
func (t *Tree) UnmarshalJSON(b []byte) error {
	var s saved
	if err := json.Unmarshal(b, &s); err != nil {
		return fault.Wrap(fault.Malformed, "certificate.tree", "", err)
	}
	if s.Records < 0 || len(s.Peaks) != bits.OnesCount(uint(s.Records)) {
		return fault.New(fault.Malformed, "certificate.tree", fmt.Sprintf("%d hashes for %d records", len(s.Peaks), s.Records))
	}
	*t = Tree{records: s.Records}
	for _, p := range s.Peaks {
		got, ok := hash(p)
		if !ok {
			return fault.New(fault.Malformed, "certificate.tree", "a hash is no SHA-256 in hexadecimal")
		}
		t.peaks = append(t.peaks, peak{sum: got})
	}
	return nil
}

func hash(text string) (out sum, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(out) {
		return out, false
	}
	return sum(b), true
}

// Proof shows that a set holds one native record in one version, to somebody who has the set's root: it takes one hash per level
// of the tree and names no other record.
type Proof struct {
	ID      string         `json:"id"` // native
	Version record.Version `json:"version"`
	Place   int            `json:"place"` // among the records of the set, from 0
	Records int            `json:"records"`
	Path    []string       `json:"path"` // hashes beside the way up
}

// Verify checks a proof against a root, by RFC 9162, section 2.1.3.2.
func (p Proof) Verify(r Root) error {
	no := func(detail string) error {
		return &fault.Error{Class: fault.Unauthenticated, Op: "certificate.proof", ID: cut(p.ID), Detail: detail, Remedy: "make a proof of the set that this root is of"}
	}
	want, ok := hash(r.Hash)
	if !ok || p.Records != r.Records || p.Place < 0 || p.Place >= p.Records || len(p.Path) > 64 {
		return no("the proof is not about a set of this root")
	}
	var t Tree
	got := t.leaf(p.ID, p.Version)
	at, last := p.Place, p.Records-1
	for _, text := range p.Path {
		beside, ok := hash(text)
		switch {
		case !ok || last == 0:
			return no("the path is none of this tree")
		case at&1 == 1 || at == last:
			got = node(beside, got)
			for at&1 == 0 && at != 0 {
				at, last = at>>1, last>>1
			}
		default:
			got = node(got, beside)
		}
		at, last = at>>1, last>>1
	}
	if last != 0 || !bytes.Equal(got[:], want[:]) {
		return no("the path does not lead to the root")
	}
	return nil
}
