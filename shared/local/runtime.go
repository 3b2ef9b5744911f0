package local

import (
	"runtime"
	"runtime/debug"
)

// Settings of a process that runs a host for long; Lambda functions keep Go's defaults.
const (
	gcPercent = 200
	// memoryLimit is a soft bound: near it the collector works as often as it must, with half of the CPU at most. A process
	// on which 100,000 webhooks wait needs half of it; set GOMEMLIMIT for many more. Resident memory is larger by the program and
	// by what the kernel shows of the store's file, 15 to 50 MB, which it takes back when others need memory.
	memoryLimit = 80 << 20
	leastProcs  = 2 // with 1, every flush to the disk would stop the only processor
)

// TuneRuntime sets the Go runtime of this process for running a host: the live heap is small, so collecting it less
// often costs little memory and saves about a tenth of the CPU time. What the environment sets (GOGC, GOMEMLIMIT,
// GOMAXPROCS, https://pkg.go.dev/runtime#hdr-Environment_Variables) stays. Call it first thing in the process.
func TuneRuntime(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < leastProcs {
		runtime.GOMAXPROCS(leastProcs)
	}
}
