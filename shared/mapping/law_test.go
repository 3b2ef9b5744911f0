package mapping_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/infra/config"
	"sorrel/shared/contract"
	"sorrel/shared/contract/contracttest"
	"sorrel/shared/mapping"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

func load(t testing.TB) *policy.Set {
	t.Helper()
	s, problems := policy.Load(config.FS)
	for _, p := range problems {
		t.Error(p)
	}
	if s == nil {
		t.Fatal("no configuration")
	}
	return s
}

// wide is a configuration that uses every type and every form that a mapping can have.
func wide(t testing.TB) *policy.Set {
	t.Helper()
	s, problems := policy.Load(os.DirFS("testdata/wide"))
	for _, p := range problems {
		t.Error(p)
	}
	if s == nil {
		t.Fatal("no configuration")
	}
	return s
}

// each runs a test for every mapping of a configuration.
func each(t *testing.T, s *policy.Set, test func(t *testing.T, s *policy.Set, m *mapping.Mapping)) {
	for _, p := range s.Platforms() {
		for _, o := range s.Objects(p) {
			m, ok := s.ByObject(p, o)
			if !ok {
				t.Fatalf("%s %s is listed but not found", p, o)
			}
			t.Run(p+"."+strings.ReplaceAll(o, "/", "_"), func(t *testing.T) {
				t.Parallel()
				test(t, s, m)
			})
		}
	}
}

func everyone(_ string, id record.ID) (mapping.Target, bool) {
	return mapping.Target{NativeID: "n" + id.External(), External: id.External()}, true
}

// asJSON sends a body over the wire and back.
func asJSON(t interface{ Fatal(...any) }, body map[string]any) map[string]any {
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	out := map[string]any{}
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// For every field, and every value that its contract allows: As(As(v)) == As(v), a lossless field gives every
// value back up to surrounding spaces and emptiness, and Observe(Write(v)) == As(v) over the wire.
func TestRoundTripLaw(t *testing.T) {
	t.Parallel()
	each(t, load(t), roundTrip)
	each(t, wide(t), roundTrip)
}

func roundTrip(t *testing.T, s *policy.Set, m *mapping.Mapping) {
	c := s.Contract(m.Entity)
	rapid.Check(t, func(t *rapid.T) {
		fields := map[string]record.Value{}
		for _, f := range c.Fields() {
			if _, _, out := m.Native(f.Name); out {
				fields[f.Name] = contracttest.Value(f).Draw(t, f.Name)
			}
		}
		body, held, err := m.Write(fields, false, everyone)
		if err != nil {
			t.Fatal(err)
		}
		back, refs, err := m.Observe(record.Native{
			Ref: record.Ref{Platform: m.Platform, Object: m.Object, ID: "1"}, Version: record.Version{At: time.Unix(1, 0)},
			Fields: asJSON(t, body), Partial: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range fields {
			as := m.As(name, v)
			if again := m.As(name, as); again != as {
				t.Fatalf("%s: As(As(v)) = %v, As(v) = %v", name, again, as)
			}
			if h, is := held[name]; is {
				if h.Value != v || h.Type == "" || h.Detail == "" {
					t.Fatalf("%s: hold %+v", name, h)
				}
				continue
			}
			spec, _ := c.Field(name)
			if _, isRef := m.Refers(name); isRef {
				native, in, _ := m.Native(name)
				_, direct := body[native]
				byRelation := !strings.Contains(native, ".") && !direct // read from another place than written to
				if id, there := refs[name]; there && (v.IsNull() || !in) || !there && in && !v.IsNull() && !byRelation {
					t.Fatalf("%s: %v came back as %v", name, v, id)
				}
				continue
			}
			if !m.Lossy(name) && as != v && !tidied(spec.Type, v, as) {
				t.Fatalf("%s: %v became %v and the mapping does not say lossy", name, v, as)
			}
			got := back.Fields[name]
			if d, doubted := back.Doubts[name]; doubted {
				if !as.IsNull() || spec.Nullable {
					t.Fatalf("%s: %v came back as a doubt: %+v", name, v, d)
				}
				continue
			}
			if got != as {
				t.Fatalf("%s: As(%v) = %v, but observed %v", name, v, as, got)
			}
		}
	})
}

// tidied reports whether as is v without surrounding spaces and empty parts, the only change that no mapping
// has to declare.
func tidied(kind contract.Type, v, as record.Value) bool {
	switch kind {
	case contract.Text:
		return strings.TrimSpace(v.Raw()) == as.Raw()
	case contract.List, contract.Table:
		a := tidy(v.Any())
		if a == nil {
			return as.IsNull() || as.Raw() == "[]"
		}
		w, err := record.FromAny(a)
		return err == nil && as == w
	}
	return false
}

func tidy(a any) any {
	switch x := a.(type) {
	case string:
		if s := strings.TrimSpace(x); s != "" {
			return s
		}
		return nil
	case []any:
		var out []any
		for _, e := range x {
			if t := tidy(e); t != nil {
				out = append(out, t)
			}
		}
		if out == nil {
			return nil
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, e := range x {
			if t := tidy(e); t != nil {
				out[k] = t
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	}
	return a
}
