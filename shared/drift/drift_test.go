package drift

import (
	"bytes"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"sorrel/shared/flow/reconcile"
	"sorrel/shared/record"
)

func example() reconcile.Report {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	first := time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)
	set := reconcile.Set{Platform: "netsuite", Object: "customer", Entity: "customer", State: reconcile.Done, AsOf: at, There: 100_000, Here: 99_990, Compared: 100_040, Equal: 99_940,
		Drift: []reconcile.Tally{
			{Kind: reconcile.Missing, Found: 50, Healed: 50, Samples: []reconcile.Sample{{ID: "1004", There: record.Version{At: first.AddDate(0, 1, 3), Seq: 7}}}},
			{Kind: reconcile.Changed, Found: 8, Healed: 7, Excepted: 1, Samples: []reconcile.Sample{
				{ID: "17", Record: "customer/01A", There: record.Version{At: first.AddDate(0, 2, 0)}, Here: record.Version{At: first}, Fields: []string{"billing.city", "phone"}},
				{ID: "18", Record: "customer/01B", There: record.Version{Seq: 4}, Here: record.Version{Seq: 3}, Detail: "held by a person"}}},
			{Kind: reconcile.Merged, Found: 2, Healed: 2, Samples: []reconcile.Sample{{ID: "20", Record: "customer/01C", Here: record.Version{At: first}, Into: "17"}}},
			{Kind: reconcile.Extra, Found: 40, Healed: 40},
		},
		Rounds: 2, Calls: reconcile.Calls{Census: 3, List: 11, Deleted: 1, Read: 2}, FullCalls: 1000,
		Roots:      reconcile.Roots{Hub: reconcile.Root{Records: 100_000, Hash: strings.Repeat("ab", 32)}},
		Exceptions: []string{"reconciliation-drift/01E"}, Limits: []string{"Two differences of one bucket that cancel each other out."}}
	for i := range 120 {
		b := reconcile.Bucket{From: first.AddDate(0, 0, i), To: first.AddDate(0, 0, i+1), There: 700 + 37*i%400, Here: 700 + 37*i%400}
		if i%17 == 4 {
			b.Drift, b.There = 3+i%11, b.There+2
		}
		set.Buckets = append(set.Buckets, b)
	}
	even := reconcile.Set{Platform: "salesforce", Object: "Account", Entity: "customer", State: reconcile.Done, AsOf: at, There: 5, Here: 5, Compared: 5, Equal: 5, Rounds: 1,
		Calls: reconcile.Calls{Census: 1}, FullCalls: 1, Buckets: []reconcile.Bucket{{From: first, To: first.AddDate(0, 0, 1), There: 5, Here: 5}}}
	down := reconcile.Set{Platform: "zendesk", Object: "organizations", Entity: "customer", State: reconcile.Failed, Reason: "the platform does not answer"}
	capped := reconcile.Set{Platform: "servicenow", Object: "customer_account", Entity: "customer", State: reconcile.Done, AsOf: at, There: 10, Here: 20, Compared: 20, Equal: 10, Capped: true, Unexplained: 3,
		Drift: []reconcile.Tally{{Kind: reconcile.Deleted, Found: 10, Excepted: 10}}, Rounds: 4, Calls: reconcile.Calls{Census: 40, List: 2}, FullCalls: 1}
	return reconcile.Report{ID: "01JRUN", State: reconcile.Done, Mode: reconcile.ByCounts, By: "schedule", Started: at, Ended: at.Add(time.Minute), Config: "c4", Policy: "p2", Sets: []reconcile.Set{set, even, down, capped}}
}

// small is a run in which nothing differed.
func small() reconcile.Report {
	r := example()
	r.Sets, r.Mode = r.Sets[1:2], reconcile.Full
	return r
}

var update = flag.Bool("update", false, "write golden files anew")

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
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
		t.Errorf("%s is not what is written now (see -update):\n%s", file, got)
	}
}

func asText(t interface{ Fatal(...any) }, r reconcile.Report) string {
	var b strings.Builder
	if err := Text(&b, r, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func asPage(t interface{ Fatal(...any) }, r reconcile.Report) string {
	var b strings.Builder
	if err := Page(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]reconcile.Report{"drift": example(), "equal": small()} {
		golden(t, "testdata/"+name+".txt", []byte(asText(t, r)))
		golden(t, "testdata/"+name+".html", []byte(asPage(t, r)))
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*reconcile.Report){
		"complete: nothing differed": func(*reconcile.Report) {},
		"complete: 1 differed": func(r *reconcile.Report) {
			r.Sets[0].Drift = []reconcile.Tally{{Kind: reconcile.Stale, Found: 1, Healed: 1}}
		},
		"dry run: 1 differ": func(r *reconcile.Report) {
			r.DryRun, r.Sets[0].Drift = true, []reconcile.Tally{{Kind: reconcile.Stale, Found: 1}}
		},
		"open: 2 differed, 1 healed, 1 left to people": func(r *reconcile.Report) {
			r.Sets[0].Drift = []reconcile.Tally{{Kind: reconcile.Stale, Found: 2, Healed: 1, Excepted: 1}}
		},
		"still running":  func(r *reconcile.Report) { r.State = reconcile.Running },
		"failed: broken": func(r *reconcile.Report) { r.State, r.Reason = reconcile.Failed, "broken" },
	} {
		r := small()
		r.Sets = append([]reconcile.Set{}, r.Sets...)
		change(&r)
		if text, page := asText(t, r), asPage(t, r); !strings.Contains(text, want) || !strings.Contains(page, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}

// Where no full run has told what it takes, no share is told.
func TestFullCallsThatAreNotKnown(t *testing.T) {
	t.Parallel()
	r := example()
	r.Sets = append([]reconcile.Set{}, r.Sets...)
	r.Sets[0].FullCalls = 0
	if text := strings.Join(strings.Fields(asText(t, r)), " "); !strings.Contains(text, "calls to the platforms: 60; what reading everything takes is known after a full run") || strings.Contains(text, "%") {
		t.Errorf("want no share in\n%s", text)
	}
}

// Colours come from the caller alone, around whole lines.
func TestPaint(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	seen := map[Tone]bool{}
	if err := Text(&b, example(), func(tone Tone, s string) string { seen[tone] = true; return "<" + s + ">" }); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if line = strings.TrimSpace(line); line != "" && (line[0] != '<' || line[len(line)-1] != '>') {
			t.Errorf("%q is not painted as a whole", line)
		}
	}
	if len(seen) < 5 {
		t.Errorf("tones %v", seen)
	}
}

// hostile draws reports with anything in them.
func hostile(t *rapid.T) reconcile.Report {
	word := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "<script>alert(1)</script>", `"><b onload=x>`, "\x1b[31m", "%d %s", "&amp;", strings.Repeat("long ", 60), strings.Repeat("x", 200)}))
	number := rapid.IntRange(0, 2_000_000)
	when := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "none") {
			return time.Time{}
		}
		return time.Unix(int64(rapid.IntRange(0, 2_000_000_000).Draw(t, "at")), 0)
	})
	r := reconcile.Report{ID: word.Draw(t, "id"), State: rapid.SampledFrom([]string{"", reconcile.Running, reconcile.Done, reconcile.Failed}).Draw(t, "state"), Reason: word.Draw(t, "why"), By: word.Draw(t, "by"), Config: word.Draw(t, "config"), Policy: word.Draw(t, "policy"), Started: when.Draw(t, "started"), DryRun: rapid.Bool().Draw(t, "dry")}
	for range rapid.IntRange(0, 2).Draw(t, "sets") {
		s := reconcile.Set{Platform: word.Draw(t, "platform"), Object: word.Draw(t, "object"), Entity: word.Draw(t, "entity"), State: rapid.SampledFrom([]string{"", reconcile.Done, reconcile.Failed}).Draw(t, "state"), Reason: word.Draw(t, "why"),
			There: number.Draw(t, "there"), Here: number.Draw(t, "here"), Unexplained: number.Draw(t, "unexplained"), Capped: rapid.Bool().Draw(t, "capped"), Roots: reconcile.Roots{Hub: reconcile.Root{Hash: word.Draw(t, "hash")}},
			Exceptions: rapid.SliceOfN(word, 0, 3).Draw(t, "exceptions"), Limits: rapid.SliceOfN(word, 0, 2).Draw(t, "limits")}
		for _, k := range []reconcile.Kind{reconcile.Merged, reconcile.Kind(word.Draw(t, "kind"))} {
			s.Drift = append(s.Drift, reconcile.Tally{Kind: k, Found: number.Draw(t, "found"), Healed: number.Draw(t, "healed"), Samples: []reconcile.Sample{{ID: word.Draw(t, "id"),
				Record: record.ID(word.Draw(t, "record")), There: record.Version{At: when.Draw(t, "at"), Seq: int64(number.Draw(t, "seq"))}, Into: word.Draw(t, "into"), Fields: []string{word.Draw(t, "field")}, Detail: word.Draw(t, "detail")}}})
		}
		for range rapid.IntRange(0, 5).Draw(t, "buckets") {
			s.Buckets = append(s.Buckets, reconcile.Bucket{From: when.Draw(t, "from"), To: when.Draw(t, "to"), There: number.Draw(t, "there"), Here: number.Draw(t, "here"), Drift: number.Draw(t, "drift")})
		}
		r.Sets = append(r.Sets, s)
	}
	return r
}

// Whatever is in a report, its text stays within 80 columns and moves no cursor.
func TestTextIsNarrowAndClean(t *testing.T) {
	t.Parallel()
	check := func(t interface{ Fatalf(string, ...any) }, text string) {
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if n := utf8.RuneCountInString(line); n > width {
				t.Fatalf("%d columns: %q", n, line)
			}
			if strings.ContainsAny(line, "\x1b\r\x07\x08") {
				t.Fatalf("a control character: %q", line)
			}
		}
	}
	check(t, asText(t, example()))
	rapid.Check(t, func(t *rapid.T) { check(t, asText(t, hostile(t))) })
}

var outside = regexp.MustCompile(`(?i)https?:|src=|href=|url\(|@import|<script|<b onload`)

// Whatever is in a report, its page is well formed, has no script and asks for nothing.
func TestPageIsWellFormedAndAlone(t *testing.T) {
	t.Parallel()
	check := func(page string) error {
		dec := xml.NewDecoder(strings.NewReader(strings.Replace(page, "<!doctype html>", "", 1)))
		dec.Strict, dec.AutoClose = false, []string{"meta"}
		depth := 0
		var sum int
		for {
			tok, err := dec.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			switch e := tok.(type) {
			case xml.StartElement:
				depth++
				sum++
				for _, a := range e.Attr {
					if strings.HasPrefix(strings.ToLower(a.Name.Local), "on") {
						return fmt.Errorf("an attribute %s", a.Name.Local)
					}
				}
			case xml.EndElement:
				depth--
			}
		}
		if depth != 0 || sum < 10 {
			return fmt.Errorf("%d elements are not closed", depth)
		}
		return nil
	}
	if err := check(asPage(t, example())); err != nil {
		t.Fatal(err)
	}
	if found := outside.FindString(asPage(t, example())); found != "" {
		t.Fatalf("the page asks for %q", found)
	}
	if strings.Contains(asPage(t, example()), "%!") {
		t.Fatal("a format is wrong")
	}
	rapid.Check(t, func(t *rapid.T) {
		page := asPage(t, hostile(t))
		if err := check(page); err != nil {
			t.Fatalf("%v in %s", err, page)
		}
		if found := regexp.MustCompile(`<script|<b onload`).FindString(page); found != "" {
			t.Fatalf("%q in %s", found, page)
		}
	})
}
