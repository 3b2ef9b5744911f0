package bench

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"sorrel/shared/boot"
	"sorrel/shared/record"
)

// configTo writes the deployable configuration to dir, as edit leaves each file. What it makes nil is left out.
func configTo(dir string, edit func(name string, b []byte) ([]byte, error)) error {
	from := boot.ConfigFS(boot.Everywhere)
	return fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		b, err := fs.ReadFile(from, name)
		if err == nil {
			b, err = edit(name, b)
		}
		if err != nil {
			return fmt.Errorf("bench: %s: %w", name, err)
		}
		if b == nil {
			return nil
		}
		return os.WriteFile(to, b, 0o600)
	})
}

// configWithout writes the deployable configuration to dir without some platforms, and without what only they bring into
// being: one event is then one delivery, as it is for the floor.
func configWithout(dir string, platforms ...string) error {
	orphans, err := onlyFrom(platforms)
	if err != nil {
		return err
	}
	return configTo(dir, func(name string, b []byte) ([]byte, error) {
		platform, _, _ := strings.Cut(path.Base(name), ".")
		switch {
		case slices.Contains(platforms, platform), slices.ContainsFunc(strings.Split(path.Base(name), "."), func(part string) bool { return slices.Contains(orphans, part) }):
			return nil, nil
		case !strings.HasPrefix(name, "policy/"):
			return b, nil
		}
		var rules map[string]any
		if err := yaml.Unmarshal(b, &rules); err != nil {
			return nil, err
		}
		return yaml.Marshal(without(rules, platforms))
	})
}

// onlyFrom lists the entities that no other platform brings into being.
func onlyFrom(platforms []string) ([]string, error) {
	from := boot.ConfigFS(boot.Everywhere)
	files, err := fs.Glob(from, "policy/*.yaml")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range files {
		b, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, err
		}
		var rules struct {
			Entity  string
			Origins []string
		}
		if err := yaml.Unmarshal(b, &rules); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", name, err)
		}
		if len(rules.Origins) > 0 && !slices.ContainsFunc(rules.Origins, func(o string) bool { return !slices.Contains(platforms, o) }) {
			out = append(out, rules.Entity)
		}
	}
	return out, nil
}

// configWithTier writes the deployable configuration to dir with one more support tier, platinum, which the platforms'
// lists do not have yet.
func configWithTier(dir string) error {
	more := map[string][2]string{
		"contract/customer.v1.json":        {`"premium", "vip"`, `"premium", "vip", "platinum"`},
		"mapping/servicenow.customer.yaml": {`premium, vip]`, `premium, vip, platinum]`},
		"mapping/salesforce.customer.yaml": {`VIP: vip`, `VIP: vip, Platinum: platinum`},
		"mapping/zendesk.customer.yaml":    {`tier_vip: vip`, `tier_vip: vip, tier_platinum: platinum`},
	}
	return configTo(dir, func(name string, b []byte) ([]byte, error) {
		m, is := more[name]
		if is && strings.Count(string(b), m[0]) != 1 {
			return nil, fmt.Errorf("the list of support tiers is not where it was: want %q once", m[0])
		}
		return []byte(strings.Replace(string(b), m[0], m[1], 1)), nil
	})
}

// without drops names from all maps and lists. What only they decided, Salesforce decides, and tells nobody.
func without(a any, names []string) any {
	gone := func(v any) bool { s, ok := v.(string); return ok && slices.Contains(names, s) }
	switch a := a.(type) {
	case map[string]any:
		maps.DeleteFunc(a, func(k string, _ any) bool { return gone(k) })
		for k, v := range a {
			a[k] = without(v, names)
		}
		if gone(a["owner"]) {
			a["owner"], a["targets"] = record.Salesforce, []any{}
			delete(a, "meanwhile")
		}
		if of, decided := a["of"].([]any); decided && len(of) == 0 {
			a["of"] = []any{record.Salesforce}
		}
	case []any:
		return slices.DeleteFunc(a, gone)
	}
	return a
}
