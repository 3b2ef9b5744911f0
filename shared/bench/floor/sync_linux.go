package floor

import (
	"os"
	"syscall"
)

// Sync flushes a file's data, as Sorrel's durable queue does.
func Sync(f *os.File) error {
	return os.NewSyscallError("fdatasync", syscall.Fdatasync(int(f.Fd())))
}
