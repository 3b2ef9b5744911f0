//go:build !linux

package peer

import (
	"errors"
	"time"
)

func usage(int) Usage { return Usage{} }

// Self is what this process has used.
func Self() Usage { return Usage{} }

// Busy is the CPU time that all processes have used, and whether the system tells.
func Busy() (time.Duration, bool) { return 0, false }

// Pin binds this process to one CPU.
func Pin(int) (undo func(), err error) {
	return nil, errors.New("bench: CPU affinity is set on Linux only")
}

// CPU names the processor.
func CPU() string { return "" }
