package peer

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// usage reads /proc/<pid>/stat and status. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
func usage(pid int) Usage {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}
	}
	i := bytes.LastIndexByte(stat, ')') // the name before it may hold anything
	f := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(f) < 13 {
		return Usage{}
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil {
		return Usage{}
	}
	u := Usage{CPU: time.Duration(user+system) * tick, Known: true}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		for line := range strings.Lines(string(status)) {
			name, kb, _ := strings.Cut(line, ":")
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64) // 0 says unknown
			switch name {
			case "VmHWM":
				u.Peak = n << 10
			case "RssAnon":
				u.Own = n << 10
			}
		}
	}
	return u
}

// Self is what this process has used.
func Self() Usage { return usage(os.Getpid()) }

// Busy is the CPU time that all processes have used, and whether the system tells.
func Busy() (time.Duration, bool) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal
	if len(f) < 8 {
		return 0, false
	}
	var sum int64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, false
		}
		sum += n
	}
	return time.Duration(sum) * tick, true
}

// mask is a kernel CPU set.
type mask [16]uint64

// Pin binds every thread of this process to one CPU, and returns how to undo it. Threads made later inherit it.
func Pin(cpu int) (undo func(), err error) {
	before, err := affinity()
	if err != nil {
		return nil, err
	}
	var one mask
	one[cpu/64] = 1 << (cpu % 64)
	if err := setAll(one); err != nil {
		return nil, fmt.Errorf("CPU %d: %w", cpu, err)
	}
	return func() { _ = setAll(before) }, nil // best effort: it only widens again
}

func affinity() (mask, error) {
	var m mask
	_, _, e := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(m), uintptr(unsafe.Pointer(&m)))
	if e != 0 {
		return m, fmt.Errorf("bench: sched_getaffinity: %w", e)
	}
	return m, nil
}

// setAll goes over the threads twice, because one may have started another meanwhile.
func setAll(m mask) error {
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			_, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(id), unsafe.Sizeof(m), uintptr(unsafe.Pointer(&m)))
			if e != 0 && e != syscall.ESRCH { // the thread has ended
				return fmt.Errorf("bench: sched_setaffinity: %w", e)
			}
		}
	}
	return nil
}

// CPU names the processor.
func CPU() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
