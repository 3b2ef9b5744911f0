package bench

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"sorrel/shared/boot"
	"sorrel/shared/record"
)

// configWithout writes the deployable configuration to dir without some platforms: one event is then one
// delivery, as it is for the floor.
func configWithout(dir string, platforms ...string) error {
	from := boot.ConfigFS("")
	return fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		platform, _, _ := strings.Cut(filepath.Base(name), ".")
		if err != nil || slices.Contains(platforms, platform) {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		b, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		if strings.HasPrefix(name, "policy/") {
			var rules map[string]any
			if err := yaml.Unmarshal(b, &rules); err != nil {
				return fmt.Errorf("bench: %s: %w", name, err)
			}
			if b, err = yaml.Marshal(without(rules, platforms)); err != nil {
				return fmt.Errorf("bench: %s: %w", name, err)
			}
		}
		return os.WriteFile(to, b, 0o600)
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
