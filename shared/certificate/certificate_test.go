package certificate

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
)

// testKey is the same key in every run.
func testKey(t testing.TB, seed byte) *Key {
	t.Helper()
	k, err := NewKey(bytes.NewReader(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func example() Statement {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("elsewhere", 3600))
	return Statement{Run: "01RUN", Mode: "counts", State: Done, By: "schedule", Started: at, Ended: at.Add(time.Minute), Config: "c1", Policy: "p1", Previous: Hash(nil),
		Sets: []Set{
			{Platform: "netsuite", Object: "customer", Entity: "customer", State: Done, AsOf: at, There: 100, Here: 99, Compared: 101, Equal: 98,
				Drift: []Drift{{"missing", 2, 2, 0}, {"deleted", 1, 1, 0}}, Hub: Root{99, Hash([]byte("hub"))}, Exceptions: []string{"reconciliation-drift/1"}, Limits: []string{"two differences < of one bucket & more"}},
			{Platform: "zendesk", Object: "organizations", Entity: "customer", State: Done, AsOf: at, Provider: Root{0, Hash([]byte("there"))}},
		}}
}

func signed(t testing.TB, s Statement) []byte {
	t.Helper()
	file, err := testKey(t, 1).Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func verify(file []byte, keys ...PublicKey) error {
	c, err := Read(file)
	if err != nil {
		return err
	}
	return c.Verify(keys...)
}

var update = flag.Bool("update", false, "write golden files anew")

// The form of a certificate never changes: those that were handed out must stay valid.
func TestGolden(t *testing.T) {
	t.Parallel()
	got := signed(t, example())
	const file = "testdata/certificate.json"
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the certificate is written otherwise than before:\n%s", got)
	}
	if err := verify(want, testKey(t, 1).Public()); err != nil {
		t.Error(err)
	}
}

func TestReadGivesWhatWasSigned(t *testing.T) {
	t.Parallel()
	file := signed(t, example())
	c, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	want := example().plain()
	want.Key = testKey(t, 1).Public().ID()
	a, _ := json.Marshal(c.Statement)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) || c.Hash() != Hash(file) {
		t.Errorf("read %s, signed %s", a, b)
	}
}

// Whatever single byte is altered, taken out or put in, at any place, the certificate fails.
func TestNoByteCanDiffer(t *testing.T) {
	t.Parallel()
	file := signed(t, example())
	key := testKey(t, 1).Public()
	if err := verify(file, key); err != nil {
		t.Fatal(err)
	}
	for i := range file {
		bad := slices.Clone(file)
		bad[i] ^= 1 << (i % 8)
		if verify(bad) == nil {
			t.Fatalf("a bit of byte %d (%q) may be altered", i, file[i])
		}
		if verify(slices.Delete(slices.Clone(file), i, i+1)) == nil {
			t.Fatalf("byte %d (%q) may be taken out", i, file[i])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		bad := slices.Clone(file)
		i, b := rapid.IntRange(0, len(bad)).Draw(t, "at"), rapid.Byte().Draw(t, "byte")
		if i < len(bad) && rapid.Bool().Draw(t, "replace") {
			if bad[i] == b {
				t.Skip()
			}
			bad[i] = b
		} else {
			bad = slices.Insert(bad, i, b)
		}
		if verify(bad) == nil {
			t.Fatalf("%q at %d makes no difference", b, i)
		}
	})
}

// Nobody else's key will do: not in the last line alone, and not for the whole, when a key is given.
func TestKeys(t *testing.T) {
	t.Parallel()
	one, two := testKey(t, 1), testKey(t, 2)
	file := signed(t, example())
	if err := verify(file, two.Public()); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("another's key: %v", err)
	}
	if err := verify(file, two.Public(), one.Public()); err != nil {
		t.Errorf("one of two keys: %v", err)
	}
	if err := verify(file, PublicKey{}); err == nil {
		t.Error("no key is the one")
	}
	forged, err := two.Sign(example())
	if err != nil {
		t.Fatal(err)
	}
	if verify(forged) != nil || verify(forged, one.Public()) == nil {
		t.Error("who signs with a key of his own must be found out by the key that is given, and by nothing else")
	}
	statement := file[:bytes.LastIndexByte(file[:len(file)-1], '\n')+1]
	last, err := seal{Public: two.Public().key, Signature: ed25519.Sign(two.private, statement)}.encode()
	if err != nil {
		t.Fatal(err)
	}
	if verify(slices.Concat(statement, last)) == nil {
		t.Error("the statement names its key, and another's signature was taken")
	}
}

func TestKeysAsText(t *testing.T) {
	t.Parallel()
	k := testKey(t, 1)
	private, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadKey(private)
	if err != nil || !again.private.Equal(k.private) {
		t.Fatalf("read %v, %v", again, err)
	}
	public, err := k.Public().PEM()
	if err != nil {
		t.Fatal(err)
	}
	other, _ := testKey(t, 2).Public().PEM()
	keys, err := ReadPublicKeys(slices.Concat([]byte("two keys\n"), public, other))
	if err != nil || len(keys) != 2 || !keys[0].Equal(k.Public()) {
		t.Fatalf("read %v, %v", keys, err)
	}
	for _, bad := range [][]byte{nil, []byte("x"), public, slices.Concat(private, public), bytes.Replace(private, []byte("A"), []byte("B"), 3), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")} {
		if _, err := ReadKey(bad); !fault.Is(err, fault.Contract) {
			t.Errorf("%q is taken as a private key: %v", bad, err)
		} else if strings.Contains(err.Error(), "AAAA") {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
	for _, bad := range [][]byte{nil, []byte("x"), private, []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), bytes.Repeat(public, maxKeys+1)} {
		if _, err := ReadPublicKeys(bad); !fault.Is(err, fault.Malformed) {
			t.Errorf("%.60q are taken as public keys: %v", bad, err)
		}
	}
	seed := fmt.Sprintf("%x", k.private.Seed())
	text, _ := json.Marshal(k)
	for _, shown := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %x", k, k, k), string(text)} {
		if strings.Contains(shown, seed) || strings.Contains(shown, "1, 1, 1") {
			t.Errorf("the key shows itself: %s", shown)
		}
	}
}

func TestBoundsAndBadStatements(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Statement){
		"many sets":     func(s *Statement) { s.Sets = make([]Set, MaxSets+1) },
		"long text":     func(s *Statement) { s.By = strings.Repeat("x", MaxText+1) },
		"long limit":    func(s *Statement) { s.Sets[0].Limits = []string{strings.Repeat("x", MaxText+1)} },
		"many limits":   func(s *Statement) { s.Sets[0].Limits = make([]string, MaxLimits+1) },
		"below nothing": func(s *Statement) { s.Sets[1].Equal = -1 },
		"drift below":   func(s *Statement) { s.Sets[0].Drift[0].Found = -1 },
		"no hash":       func(s *Statement) { s.Sets[0].Hub.Hash = "abc" },
		"upper case":    func(s *Statement) { s.Previous = strings.ToUpper(Hash(nil)) },
		"no text":       func(s *Statement) { s.By = "\xff" },
		"no year":       func(s *Statement) { s.Ended = s.Ended.AddDate(9000, 0, 0) },
	} {
		s := example()
		spoil(&s)
		if _, err := testKey(t, 1).Sign(s); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	s := example()
	for i := range MaxExceptions + 7 {
		s.Sets[0].Exceptions = append(s.Sets[0].Exceptions, fmt.Sprint(i))
	}
	c, err := Read(signed(t, s))
	if err != nil || len(c.Statement.Sets[0].Exceptions) != MaxExceptions || c.Statement.Sets[0].Unlisted != 8 {
		t.Errorf("too many exceptions: %v", err)
	}
	if _, err := Read(make([]byte, MaxBytes+1)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a large file: %v", err)
	}
	for _, bad := range []string{"", "\n", "{}", "{}\n", "{}\n{}\n", "null\nnull\n", "[]\n{}", "{}\n\n"} {
		if _, err := Read([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	if open := example().Open(); len(open) != 0 {
		t.Errorf("all was healed, and yet: %v", open)
	}
	for want, spoil := range map[string]func(*Statement){
		"did not end well": func(s *Statement) { s.State = "failed" },
		"nothing was":      func(s *Statement) { s.Sets = nil },
		"not begun":        func(s *Statement) { s.Sets[0].State = "" },
		"failed":           func(s *Statement) { s.Sets[0].State = "failed" },
		"without people":   func(s *Statement) { s.Sets[0].Capped = true },
		"1 differing":      func(s *Statement) { s.Sets[0].Drift[0].Healed-- },
		"differ by 3":      func(s *Statement) { s.Sets[0].Unexplained = 3 },
	} {
		s := example()
		spoil(&s)
		if open := s.Open(); len(open) != 1 || !strings.Contains(open[0], want) {
			t.Errorf("open %q, want one with %q", open, want)
		}
	}
}

// FuzzRead: a file that reads is one that could have been written, and only a signature makes it verify.
func FuzzRead(f *testing.F) {
	file := signed(f, example())
	f.Add(file)
	f.Add(bytes.Replace(file, []byte(`"here": 99`), []byte(`"here": 100`), 1))
	f.Add(bytes.Replace(file, []byte("\n  "), []byte("\n"), 1))
	f.Add([]byte("{}\n{}\n"))
	key := testKey(f, 1).Public()
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Read(b)
		if err != nil {
			return
		}
		if again, err := c.Statement.encode(); err != nil || !bytes.HasPrefix(b, again) {
			t.Errorf("read what is not written so: %v", err)
		}
		if c.Verify(key) == nil && !bytes.Equal(b, file) {
			t.Error("verified, and never signed")
		}
	})
}

// FuzzReadKeys: keys in PEM.
func FuzzReadKeys(f *testing.F) {
	k := testKey(f, 1)
	private, _ := k.PEM()
	public, _ := k.Public().PEM()
	f.Add(private)
	f.Add(public)
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ReadKey(b); err == nil && k == nil {
			t.Error("no key and no error")
		}
		if keys, err := ReadPublicKeys(b); err == nil && len(keys) == 0 {
			t.Error("no keys and no error")
		}
	})
}
