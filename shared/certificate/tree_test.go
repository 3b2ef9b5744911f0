package certificate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/record"
)

func version(n int) record.Version {
	return record.Version{At: time.Unix(int64(1000+n), 0), Seq: int64(n)}
}

func id(n int) string { return fmt.Sprintf("%06d", n) }

// plainRoot is the definition of RFC 9162, section 2.1.1, word for word.
func plainRoot(leaves []sum) sum {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		return node(plainRoot(leaves[:k]), plainRoot(leaves[k:]))
	}
}

func TestRootIsThatOfTheDefinition(t *testing.T) {
	t.Parallel()
	var leaves []sum
	var tree Tree
	for n := range 200 {
		want := plainRoot(leaves)
		if got := tree.Root(); got.Hash != hex.EncodeToString(want[:]) || got.Records != n {
			t.Fatalf("%d records: %v, want %x", n, got, want)
		}
		leaves = append(leaves, tree.leaf(id(n), version(n)))
		tree.Add(id(n), version(n))
	}
}

// The root as of one small set, for ever: certificates that were handed out say it.
func TestRootNeverChanges(t *testing.T) {
	t.Parallel()
	var tree Tree
	for n := range 5 {
		tree.Add(id(n), version(n))
	}
	const want = "664b1520dbf32000acbd43ea47be37cef7e0c427ecc1ff527923ae7eda27b80b"
	if got := tree.Root().Hash; got != want {
		t.Errorf("root %s, want %s", got, want)
	}
}

func TestRootTellsEveryDifference(t *testing.T) {
	t.Parallel()
	type leaf struct {
		id string
		v  record.Version
	}
	base := []leaf{{"1", version(1)}, {"2", version(2)}, {"3", version(3)}}
	root := func(leaves []leaf) string {
		var tree Tree
		for _, l := range leaves {
			tree.Add(l.id, l.v)
		}
		return tree.Root().Hash
	}
	seen := map[string]bool{root(base): true}
	for i, other := range [][]leaf{
		base[:2], base[1:], {base[1], base[0], base[2]}, append(slices.Clone(base), leaf{"4", version(4)}),
		{base[0], {"2", version(3)}, base[2]}, {base[0], {"2", record.Version{At: version(2).At, Seq: 3}}, base[2]},
		{base[0], {"2", record.Version{At: version(2).At, Seq: 2, Final: true}}, base[2]}, {base[0], {"2", record.Version{At: version(2).At.Add(1), Seq: 2}}, base[2]},
	} {
		got := root(other)
		if seen[got] {
			t.Errorf("set %d has the root of another", i)
		}
		seen[got] = true
	}
	zoned := slices.Clone(base)
	zoned[0].v.At = zoned[0].v.At.In(time.FixedZone("x", 3600))
	if root(zoned) != root(base) {
		t.Error("the same moment in another zone is another version")
	}
}

// A proof of each record of sets of all small sizes verifies, and none of another record, version, place or root.
func TestProofs(t *testing.T) {
	t.Parallel()
	for size := 1; size <= 40; size++ {
		for place := range size {
			var tree Tree
			tree.Mark("other", version(0))
			tree = Tree{}
			for n := range size {
				if n == place {
					tree.Mark(id(n), version(n))
				} else {
					tree.Add(id(n), version(n))
				}
			}
			p, ok := tree.Proof()
			root := tree.Root()
			if err := p.Verify(root); !ok || err != nil {
				t.Fatalf("%d of %d: %v", place, size, err)
			}
			for what, spoil := range map[string]func(*Proof, *Root){
				"id":       func(p *Proof, _ *Root) { p.ID += "x" },
				"version":  func(p *Proof, _ *Root) { p.Version.Seq++ },
				"records":  func(p *Proof, _ *Root) { p.Records++ },
				"outside":  func(p *Proof, _ *Root) { p.Place = p.Records },
				"negative": func(p *Proof, _ *Root) { p.Place = -1 },
				"root":     func(_ *Proof, r *Root) { r.Hash = Hash([]byte("x")) },
				"no root":  func(_ *Proof, r *Root) { r.Hash = "" },
				"longer":   func(p *Proof, _ *Root) { p.Path = append(slices.Clone(p.Path), Hash(nil)) },
			} {
				bad, r := p, root
				spoil(&bad, &r)
				if bad.Verify(r) == nil {
					t.Fatalf("%d of %d verifies with another %s", place, size, what)
				}
			}
			if len(p.Path) > 0 {
				bad := p
				bad.Path = p.Path[1:]
				if bad.Verify(root) == nil {
					t.Fatalf("%d of %d verifies with a shorter path", place, size)
				}
				bad = p
				if bad.Place++; bad.Place < size && bad.Verify(root) == nil {
					t.Fatalf("%d of %d verifies at another place", place, size)
				}
			}
		}
	}
	var none Tree
	none.Add("1", version(1))
	if _, ok := none.Proof(); ok {
		t.Error("a proof of nothing")
	}
}

// The last of several marked records is proven.
func TestMarkAgain(t *testing.T) {
	t.Parallel()
	var tree Tree
	for n := range 21 {
		tree.Mark(id(n), version(n))
		p, ok := tree.Proof()
		if err := p.Verify(tree.Root()); !ok || err != nil || p.Place != n {
			t.Fatalf("record %d: %v", n, err)
		}
	}
}

// A tree that is kept and taken up again, at any place, comes to the same root.
func TestTreeIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(0, 300).Draw(t, "size")
		var whole, parts Tree
		for n := range size {
			whole.Add(id(n), version(n))
			parts.Add(id(n), version(n))
			if rapid.IntRange(0, 9).Draw(t, "stop") > 0 {
				continue
			}
			b, err := json.Marshal(&parts)
			if err != nil {
				t.Fatal(err)
			}
			parts = Tree{}
			if err := json.Unmarshal(b, &parts); err != nil {
				t.Fatal(err)
			}
		}
		if whole.Root() != parts.Root() {
			t.Fatalf("%v, in parts %v", whole.Root(), parts.Root())
		}
	})
	for _, bad := range []string{`[]`, `{"records":-1}`, `{"records":3,"peaks":["00"]}`, `{"records":1,"peaks":["00"]}`, `{"records":0,"peaks":["` + Hash(nil) + `"]}`} {
		if err := json.Unmarshal([]byte(bad), new(Tree)); err == nil {
			t.Errorf("%s is taken as a tree", bad)
		}
	}
}

// BenchmarkTree is the cost of one record.
func BenchmarkTree(b *testing.B) {
	b.ReportAllocs()
	var tree Tree
	v := version(1)
	for b.Loop() {
		tree.Add("001A000001gEREAYAA", v)
	}
}

func FuzzProof(f *testing.F) {
	var tree Tree
	tree.Add("1", version(1))
	tree.Mark("2", version(2))
	tree.Add("3", version(3))
	p, _ := tree.Proof()
	root := tree.Root()
	good, _ := json.Marshal(p)
	f.Add(good)
	f.Add([]byte(`{"path":["zz"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q Proof
		if json.Unmarshal(b, &q) != nil || q.Verify(root) != nil {
			return
		}
		if q.ID != p.ID || q.Version.Compare(p.Version) != 0 || q.Place != p.Place {
			t.Errorf("proves what is not in the set: %+v", q)
		}
	})
}
