package expression_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkColdStart is the measurement behind decision 010. It builds one program per candidate, as functions are
// built, and starts each of them b.N times in turn: process start, compile one condition, evaluate it, exit. It
// fetches the two libraries that were not taken, into a go.mod of its own:
//
//	go test -run '^$' -bench ColdStart -benchtime 200x ./shared/expression
func BenchmarkColdStart(b *testing.B) {
	dir := b.TempDir()
	mod := filepath.Join(dir, "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	run := func(args ...string) {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			b.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	run("get", "-modfile="+mod, "github.com/expr-lang/expr@v1.17.8", "cel.dev/cel-go/cel@v0.32.0")
	candidates := []string{"floor", "own", "expr", "cel"}
	for _, c := range candidates {
		main := filepath.Join("testdata", "coldstart", c, "main.go")
		run("build", "-modfile="+mod, "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", filepath.Join(dir, c), main)
	}
	wall, cpu, first := map[string][]time.Duration{}, map[string][]time.Duration{}, map[string][]time.Duration{}
	for b.Loop() {
		for _, c := range candidates {
			cmd := exec.Command(filepath.Join(dir, c))
			began := time.Now()
			out, err := cmd.Output()
			wall[c] = append(wall[c], time.Since(began))
			var ns int64
			if _, scan := fmt.Sscanf(string(out), "%d true", &ns); err != nil || scan != nil {
				b.Fatalf("%s: %v, it says %s", c, err, out)
			}
			cpu[c] = append(cpu[c], cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
			first[c] = append(first[c], time.Duration(ns))
		}
	}
	middle := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2].Microseconds()) / 1000
	}
	var table strings.Builder
	fmt.Fprintf(&table, "medians of %d starts\n%-6s %9s %9s %9s %9s\n", b.N, "", "wall ms", "CPU ms", "first ms", "MB")
	for _, c := range candidates {
		info, err := os.Stat(filepath.Join(dir, c))
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(&table, "%-6s %9.2f %9.2f %9.2f %9.2f\n", c, middle(wall[c]), middle(cpu[c]), middle(first[c]), float64(info.Size())/1e6)
	}
	b.Log(table.String())
}
