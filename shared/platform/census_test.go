package platform

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/fault"
)

func at(seconds int) time.Time { return time.Unix(1_780_000_000+int64(seconds), 0).UTC() }

// spans draws spans within a thousand seconds; some are empty, turned round or without a bound.
func spans(t *rapid.T) []Span {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Span {
		s := Span{From: at(rapid.IntRange(0, 1000).Draw(t, "from"))}
		s.To = s.From.Add(time.Duration(rapid.IntRange(-5, 200).Draw(t, "for")) * time.Second)
		switch rapid.IntRange(0, 15).Draw(t, "bound") {
		case 0:
			s.From = time.Time{}
		case 1:
			s.To = time.Time{}
		}
		return s
	}), 0, 12).Draw(t, "spans")
}

func TestMerged(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		given := spans(t)
		before := slices.Clone(given)
		merged, apart := Merged(given), Apart(given)
		for i := 1; i < len(apart); i++ {
			if apart[i-1].To.IsZero() || apart[i-1].To.After(apart[i].From) {
				t.Fatalf("%v and %v overlap, or are out of order", apart[i-1], apart[i])
			}
		}
		if !slices.Equal(Merged(apart), merged) {
			t.Fatalf("%v apart and %v merged hold other moments", apart, merged)
		}
		if !slices.Equal(given, before) {
			t.Fatal("it changed its argument")
		}
		for i, s := range merged {
			if i > 0 && (merged[i-1].To.IsZero() || !merged[i-1].To.Before(s.From)) {
				t.Fatalf("%v and %v touch, or are out of order", merged[i-1], s)
			}
		}
		for second := -10; second < 1300; second += rapid.IntRange(1, 9).Draw(t, "step") {
			if m := at(second); Held(given, m) != Held(merged, m) {
				t.Fatalf("%s is held by %v: %v, after merging: %v", m, given, Held(given, m), Held(merged, m))
			}
		}
		// What is left after a moment is what was held, from it on.
		cut := at(rapid.IntRange(0, 1000).Draw(t, "cut"))
		rest := After(merged, cut)
		for second := -10; second < 1300; second += 7 {
			if m := at(second); Held(rest, m) != (Held(merged, m) && !m.Before(cut)) {
				t.Fatalf("%s is held after %s: %v", m, cut, Held(rest, m))
			}
		}
	})
}

func TestBundles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		merged, most := Merged(spans(t)), rapid.IntRange(1, 4).Draw(t, "most")
		width := time.Minute
		bucket := func(t time.Time) time.Time { return t.Truncate(width) }
		var all []Span
		for _, bundle := range Bundles(merged, most, bucket) {
			if len(bundle) == 0 || len(bundle) > most {
				t.Fatalf("a bundle of %d", len(bundle))
			}
			for i, s := range bundle {
				if i > 0 && !bucket(bundle[i-1].To.Add(-1)).Before(bucket(s.From)) {
					t.Fatalf("%v and %v share a bucket", bundle[i-1], s)
				}
			}
			all = append(all, bundle...)
		}
		if !slices.Equal(all, merged) {
			t.Fatalf("%v became %v", merged, all)
		}
	})
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		within := slices.DeleteFunc(spans(t), func(s Span) bool { return s.From.IsZero() || s.To.IsZero() })
		if len(within) == 0 {
			return
		}
		buckets, err := Buckets("op", "object", within, Hour)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range buckets {
			if !b.From.Before(b.To) || b.From.Truncate(Hour) != b.To.Add(-1).Truncate(Hour) || i > 0 && b.From.Before(buckets[i-1].To) {
				t.Fatalf("%v is no part of one hour, or out of order", b)
			}
		}
		if !slices.Equal(Merged(buckets), Merged(within)) {
			t.Fatalf("%v became %v", within, buckets)
		}
	})
	for _, unbounded := range [][]Span{nil, {{}}, {{From: at(0)}}, {{To: at(0)}}} {
		if _, err := Buckets("op", "object", unbounded, Day); !fault.Is(err, fault.Contract) {
			t.Errorf("%v: %v, want a refusal", unbounded, err)
		}
		if whole, err := Buckets("op", "object", unbounded, 0); err != nil || len(whole) != 1 {
			t.Errorf("%v as a whole: %v, %v", unbounded, whole, err)
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	hour := func(h, n int) Count {
		return Count{Span: Span{at(h * 3600), at((h + 1) * 3600)}, Records: n}
	}
	within := []Span{{at(0), at(10 * 3600)}}
	got, err := Tally("op", "object", within, []Count{hour(3, 1), hour(1, 5), hour(2, 0)})
	if err != nil || fmt.Sprint(got) != fmt.Sprint([]Count{hour(1, 5), hour(3, 1)}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Tally("op", "object", nil, []Count{{Records: 3}}); err != nil {
		t.Errorf("everything in one: %v", err)
	}
	for name, counts := range map[string][]Count{
		"negative":      {hour(1, -1)},
		"twice":         {hour(1, 1), hour(1, 1)},
		"overlapping":   {hour(1, 1), {Span: Span{at(5400), at(9000)}, Records: 1}},
		"turned round":  {{Span: Span{at(3600), at(0)}, Records: 1}},
		"not asked for": {hour(11, 1)},
		"too wide":      {{Span: Span{at(0), at(11 * 3600)}, Records: 1}},
		"unbounded":     {{Span: Span{From: at(0)}, Records: 1}},
	} {
		if got, err := Tally("op", "object", within, counts); !fault.Is(err, fault.Contract) {
			t.Errorf("%s: %v, %v; want a broken contract", name, got, err)
		}
	}
}

// A cursor is good for the listing that it comes from, as often as somebody likes, and for no other.
func TestResume(t *testing.T) {
	t.Parallel()
	within := []Span{{at(0), at(10)}, {From: at(20)}}
	l, err := Resume("op", "account", "object", "within", within, "")
	if err != nil {
		t.Fatal(err)
	}
	l.Chunk, l.After = 1, "x y"
	if again, err := Resume("op", "account", "object", "within", within, l.String()); err != nil || again != l {
		t.Errorf("%+v, %v; want %+v", again, err, l)
	}
	for name, other := range map[string]func() error{
		"account": func() error { _, err := Resume("op", "other", "object", "within", within, l.String()); return err },
		"object":  func() error { _, err := Resume("op", "account", "other", "within", within, l.String()); return err },
		"verb":    func() error { _, err := Resume("op", "account", "object", "deleted", within, l.String()); return err },
		"spans": func() error {
			_, err := Resume("op", "account", "object", "within", within[:1], l.String())
			return err
		},
		"all":   func() error { _, err := Resume("op", "account", "object", "within", nil, l.String()); return err },
		"moved": func() error { _, err := Resume("op", "accounto", "bject", "within", within, l.String()); return err },
	} {
		if err := other(); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "another") {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

func TestAscending(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		numeric bool
		after   string
		ids     string
		ok      bool
	}{
		{true, "", "9 10 100", true}, {true, "9", "10", true}, {true, "10", "9", false}, {true, "10", "10", false}, {true, "", "1 1", false}, {true, "", "0010 9", false}, {true, "", "", true},
		{false, "", "10 100 9", true}, {false, "", "A a", true}, {false, "", "a A", false}, {false, "b", "b", false}, {false, "b", "", true},
	} {
		if err := Ascending("op", "object", tt.numeric, tt.after, strings.Fields(tt.ids)); (err == nil) != tt.ok || err != nil && !fault.Is(err, fault.Contract) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func FuzzResume(f *testing.F) {
	f.Add(`{"v":1,"of":"x"}`)
	f.Add(`{"v":1,"chunk":-1}`)
	f.Add(`[`)
	l, err := Resume("op", "account", "object", "within", nil, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.String())
	f.Fuzz(func(t *testing.T, cursor string) {
		got, err := Resume("op", "account", "object", "within", nil, cursor)
		if err != nil {
			if !fault.Is(err, fault.Contract) {
				t.Fatalf("%v is of class %q", err, fault.ClassOf(err))
			}
			return
		}
		if again, err := Resume("op", "account", "object", "within", nil, got.String()); err != nil || again != got || got.Of != l.Of {
			t.Errorf("%+v came back as %+v, %v", got, again, err)
		}
	})
}
