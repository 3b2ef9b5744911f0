//go:build !linux

package floor

import "os"

// Sync flushes a file's data, as Sorrel's durable queue does.
func Sync(f *os.File) error { return f.Sync() }
