package config_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"sorrel/infra/config"
	"sorrel/shared/policy"
)

func TestEverywhereLeavesOutTheConditionsOnly(t *testing.T) {
	t.Parallel()
	shipped, problems := policy.Load(config.FS)
	all, more := policy.Load(config.Everywhere())
	if len(problems)+len(more) > 0 {
		t.Fatal(problems, more)
	}
	if len(shipped.Rules("customer").Copies) == 0 || all.Rules("customer").Copies != nil {
		t.Errorf("copies %v, everywhere %v", shipped.Rules("customer").Copies, all.Rules("customer").Copies)
	}
	for _, entity := range shipped.Entities() {
		same := entity != "customer" && len(shipped.Rules(entity).Workflows) == 0
		if (shipped.Rules(entity).Version == all.Rules(entity).Version) != same || len(all.Rules(entity).Workflows) > 0 {
			t.Errorf("the rules of %s", entity)
		}
	}
	const name = "policy/customer.yaml"
	a, err := fs.ReadFile(config.FS, name)
	b, err2 := fs.ReadFile(config.Everywhere(), name)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	lines := strings.Split(string(b), "\n")
	for _, line := range strings.Split(string(a), "\n") {
		if !slices.Contains(lines, line) && !strings.Contains(line, "golden.") && !strings.HasPrefix(line, "copies:") && !strings.HasPrefix(line, "  salesforce: {}") {
			t.Errorf("it lacks %q", line)
		}
	}
}
