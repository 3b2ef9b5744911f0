package policy_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"sorrel/shared/policy"
	"sorrel/shared/record"
)

var update = flag.Bool("update", false, "rewrite the expected problems")

// small is the configuration of testdata/small.txtar with files laid over it.
func small(t testing.TB, over ...txtar.File) fstest.MapFS {
	t.Helper()
	base, err := txtar.ParseFile("testdata/small.txtar")
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for _, f := range append(base.Files, over...) {
		fsys[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	return fsys
}

func TestSmallIsSound(t *testing.T) {
	t.Parallel()
	for _, p := range policy.Validate(small(t)) {
		t.Error(p)
	}
}

// Each archive lays broken files over the sound configuration; its file "want" lists every problem.
func TestBrokenConfigurations(t *testing.T) {
	t.Parallel()
	archives, _ := filepath.Glob("testdata/broken/*.txtar")
	if len(archives) == 0 {
		t.Fatal("no archives")
	}
	for _, name := range archives {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var over []txtar.File
			var want []byte
			for _, f := range a.Files {
				if f.Name == "want" {
					want = f.Data
				} else {
					over = append(over, f)
				}
			}
			fsys := small(t, over...)
			var got bytes.Buffer
			for _, p := range policy.Validate(fsys) {
				got.WriteString(p.String() + "\n")
				if p.Remedy == "" || p.Line < 1 || p.Column < 1 {
					t.Errorf("without place or remedy: %+v", p)
				}
			}
			if s, _ := policy.Load(fsys); s != nil {
				t.Error("loaded all the same")
			}
			if *update {
				a.Files = append(over, txtar.File{Name: "want", Data: got.Bytes()})
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}

// A policy names only workflows that this program has, and that start with a record of that entity.
func TestUnknownWorkflows(t *testing.T) {
	t.Parallel()
	named := func(list string) txtar.File {
		name := "policy/thing.yaml"
		f := small(t)[name]
		if f == nil {
			t.Fatal("testdata/small.txtar has no " + name)
		}
		return txtar.File{Name: name, Data: append([]byte("workflows: "+list+"\n"), f.Data...)}
	}
	starts := func(names ...string) policy.Starts {
		return func(string) []string { return names }
	}
	for _, row := range []struct {
		list, want string
		starts     policy.Starts
	}{
		{"[activation]", "", starts("activation", "escalation")},
		{"[activaton]", `policy/thing.yaml:1:13: unknown workflow "activaton"; did you mean "activation"?`, starts("activation", "escalation")},
		{"[activation, other]", `policy/thing.yaml:1:25: unknown workflow "other"; known: activation`, starts("activation")},
		{"[activation]", `policy/thing.yaml:1:13: unknown workflow "activation"; no workflow starts with a record of thing: remove it`, starts()},
	} {
		var got []string
		for _, p := range policy.Validate(small(t, named(row.list)), row.starts) {
			got = append(got, p.String())
		}
		if strings.Join(got, "\n") != row.want {
			t.Errorf("%s: got %q, want %q", row.list, got, row.want)
		}
	}
}

func TestProblemsAreTheSameEveryTime(t *testing.T) {
	t.Parallel()
	a, err := txtar.ParseFile("testdata/broken/mapping-fields.txtar")
	if err != nil {
		t.Fatal(err)
	}
	text := func() string {
		var sb strings.Builder
		for _, p := range policy.Validate(small(t, a.Files[0])) {
			sb.WriteString(p.String() + "\n")
		}
		return sb.String()
	}
	first := text()
	for range 20 {
		if again := text(); again != first {
			t.Fatalf("%s\nthen\n%s", first, again)
		}
	}
}

func FuzzLoad(f *testing.F) {
	archives, _ := filepath.Glob("testdata/broken/*.txtar")
	for _, name := range append(archives, "testdata/small.txtar", "testdata/governed.txtar") {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		policies := map[string][]byte{}
		for _, file := range a.Files {
			policies[file.Name] = file.Data
			f.Add(file.Data, file.Data, file.Data)
		}
		f.Add(policies["policy/thing.yaml"], policies["mapping/salesforce.thing.yaml"], policies["people.yaml"])
	}
	f.Fuzz(func(t *testing.T, governed, mapped, people []byte) {
		s, problems := policy.Load(small(t, txtar.File{Name: "policy/thing.yaml", Data: governed}, txtar.File{Name: "mapping/salesforce.thing.yaml", Data: mapped}, txtar.File{Name: "people.yaml", Data: people}))
		if (s == nil) == (len(problems) == 0) {
			t.Fatalf("a set and problems, or neither: %v", problems)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" || p.Remedy == "" {
				t.Fatalf("%+v", p)
			}
		}
		if s == nil {
			return
		}
		nothing := func(string) record.Value { return record.NullValue() }
		for name, rule := range s.Rules("thing").Fields {
			if _, ok := s.Explain("thing", name); !ok {
				t.Errorf("%s is not explained", name)
			}
			if rule.Eval != nil {
				_, _ = rule.Eval(nothing)
			}
			for _, path := range rule.Paths {
				if path == record.Propose && (rule.Kind != record.Owner || rule.Approval == nil) {
					t.Errorf("%s is proposed to nobody: %+v", name, rule)
				}
			}
			if rule.Approval == nil {
				continue
			}
			if len(rule.Approval.Roles) == 0 || rule.Approval.Expires <= 0 {
				t.Errorf("%s: %+v", name, rule.Approval)
			}
			for _, auto := range rule.Approval.Auto {
				_, _ = auto.Holds(nothing)
			}
		}
	})
}
