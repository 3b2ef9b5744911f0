package policy_test

import (
	"testing"

	"sorrel/infra/config"
	"sorrel/shared/policy"
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

func TestEmbedded(t *testing.T) {
	s := load(t)
	for _, e := range s.Entities() {
		for _, f := range s.Contract(e).Names() {
			x, _ := s.Explain(e, f)
			t.Log(x)
		}
	}
}
