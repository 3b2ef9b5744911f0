package templatetest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python gives a Python with the pinned tools. Where it cannot be made the test is skipped, but fails in CI.
func python(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "python.sh").Output()
	if err == nil {
		return strings.TrimSpace(string(out))
	}
	stderr := ""
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		stderr = string(failed.Stderr)
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("no Python with infra/pyrequirements: %v\n%s", err, stderr)
	}
	t.Skipf("skipped cfn-lint and the SAM translator, no Python with infra/pyrequirements: %v\n%s", err, stderr)
	return ""
}

// TestPythonTools is one test so that the tools are installed once.
func TestPythonTools(t *testing.T) {
	t.Parallel()
	python := python(t)
	t.Run("cfn-lint", func(t *testing.T) {
		t.Parallel()
		out, err := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(python), "cfn-lint"), "--regions", "us-east-1", "eu-central-1", "--template", root+"/template.yaml").CombinedOutput()
		if err != nil {
			t.Errorf("cfn-lint: %v\n%s", err, out)
		}
	})
	t.Run("cfn-lint can fail", func(t *testing.T) {
		t.Parallel()
		broken := t.TempDir() + "/template.yaml"
		text := strings.Replace(read(t, "template.yaml"), "FifoQueue: true", "FifoQueue: maybe", 1)
		if err := os.WriteFile(broken, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(python), "cfn-lint"), "--template", broken).CombinedOutput(); err == nil {
			t.Errorf("cfn-lint took `FifoQueue: maybe`\n%s", out)
		}
	})
	t.Run("translated", func(t *testing.T) {
		t.Parallel()
		var stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), python, "translate.py", root+"/template.yaml")
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("SAM translator: %v\n%s", err, &stderr)
		}
		s, err := parseJSON(out)
		if err != nil {
			t.Fatal(err)
		}
		obeys(t, s)
		for _, id := range s.doc.at("Resources").keys() {
			if strings.HasPrefix(s.kind(id), "AWS::Serverless::") {
				t.Errorf("%s was not translated", id)
			}
		}
	})
}
