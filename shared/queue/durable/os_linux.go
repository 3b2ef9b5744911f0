package durable

import (
	"os"
	"syscall"
)

// syncData flushes a file's bytes and, as they need it, its length.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
