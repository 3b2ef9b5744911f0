package local_test

import (
	"runtime/debug"
	"testing"

	"sorrel/shared/local"
)

func TestTuneRuntime(t *testing.T) { // not parallel: it changes the process
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	set := map[string]string{"GOGC": "50", "GOMEMLIMIT": "1GiB", "GOMAXPROCS": "1"}
	local.TuneRuntime(func(k string) string { return set[k] })
	if now := debug.SetMemoryLimit(-1); now != limit {
		t.Errorf("memory limit %d although the environment sets one, want %d", now, limit)
	}
	if now := debug.SetGCPercent(100); now != 100 {
		t.Errorf("GC percent %d although the environment sets one, want 100", now)
	}
	local.TuneRuntime(func(string) string { return "" })
	if now := debug.SetMemoryLimit(-1); now == limit {
		t.Error("the memory limit is not set")
	}
	if now := debug.SetGCPercent(100); now <= 100 {
		t.Errorf("GC percent %d, want more than 100", now)
	}
}
