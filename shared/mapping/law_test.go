package mapping_test

import (
	"encoding/json"
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

// each runs a test for every mapping of the embedded configuration.
func each(t *testing.T, test func(t *testing.T, s *policy.Set, m *mapping.Mapping)) {
	s := load(t)
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
	each(t, func(t *testing.T, s *policy.Set, m *mapping.Mapping) {
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
					if id, there := refs[name]; there && v.IsNull() || !there && !v.IsNull() && m.Platform != record.Salesforce {
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
	})
}

// tidied reports whether as is v without surrounding spaces and empty parts, the only change that no mapping
// has to declare.
func tidied(kind contract.Type, v, as record.Value) bool {
	switch kind {
	case contract.Text:
		return strings.TrimSpace(v.Raw()) == as.Raw()
	case contract.List:
		list, _ := v.Any().([]any)
		kept := []any{}
		for _, e := range list {
			if s := strings.TrimSpace(e.(string)); s != "" {
				kept = append(kept, s)
			}
		}
		w, err := record.FromAny(kept)
		return err == nil && (as == w || as.IsNull() && len(kept) == 0)
	}
	return false
}
