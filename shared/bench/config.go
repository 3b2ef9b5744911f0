package bench

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"sorrel/shared/boot"
)

// configWithout writes the deployable configuration to dir without one platform: one event is then one
// delivery, as it is for the floor.
func configWithout(dir, platform string) error {
	from := boot.ConfigFS("")
	return fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(filepath.Base(name), platform+".") {
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
			if b, err = yaml.Marshal(without(rules, platform)); err != nil {
				return fmt.Errorf("bench: %s: %w", name, err)
			}
		}
		return os.WriteFile(to, b, 0o600)
	})
}

// without drops a name from all maps and lists.
func without(a any, name string) any {
	switch a := a.(type) {
	case map[string]any:
		delete(a, name)
		for k, v := range a {
			a[k] = without(v, name)
		}
	case []any:
		return slices.DeleteFunc(a, func(v any) bool { return v == name })
	}
	return a
}
