package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Stat is what /proc/<pid>/stat says of a process; proc_pid_stat(5).
type Stat struct {
	// Comm is the name of the main thread, which may hold any byte but NUL.
	Comm string
	// Parent is the pid of the parent, 0 if there is none that this /proc can see.
	Parent uint32
	// Kernel says that it is a thread of the kernel's, which has no executable.
	Kernel bool
	// Start is when the process started, in clock ticks after boot.
	Start uint64
}

// nanosecondsPerTick is that of the clock ticks in /proc: USER_HZ is 100 on all architectures with BPF
// (include/asm-generic/param.h).
const nanosecondsPerTick = 1e9 / 100

// Ticks converts a process's start in ns after boot to the start in its Stat (nsec_to_clock_t in
// kernel/time/time.c).
func Ticks(start uint64) uint64 { return start / nanosecondsPerTick }

// The fields after the comm, counted from the state; and PF_KTHREAD of include/linux/sched.h in flags.
const (
	fieldParent = 1
	fieldFlags  = 6
	fieldStart  = 19

	flagKernel = 0x00200000
)

// ParseStat reads the content of a stat file.
func ParseStat(content []byte) (Stat, error) {
	_, afterPID, found := bytes.Cut(content, []byte(" ("))
	end := bytes.LastIndexByte(afterPID, ')') // the comm itself may have some
	if !found || end < 0 {
		return Stat{}, errors.New("stat: no command in parentheses")
	}
	stat := Stat{Comm: string(afterPID[:end])}
	rest := bytes.TrimPrefix(afterPID[end+1:], []byte(" "))
	for field := 0; field <= fieldStart; field++ {
		value, after, more := bytes.Cut(rest, []byte(" "))
		if !more && field < fieldStart {
			return Stat{}, fmt.Errorf("stat: it ends after %d of %d fields", field+1, fieldStart+1)
		}
		rest = after
		number, err := uint64(0), error(nil)
		switch field {
		case fieldParent:
			number, err = strconv.ParseUint(string(value), 10, 32)
			stat.Parent = uint32(number)
		case fieldFlags:
			number, err = strconv.ParseUint(string(value), 10, 64)
			stat.Kernel = number&flagKernel != 0
		case fieldStart:
			stat.Start, err = strconv.ParseUint(string(bytes.TrimSuffix(value, []byte("\n"))), 10, 64)
		}
		if err != nil {
			return Stat{}, fmt.Errorf("stat: field %d: %w", field, err)
		}
	}
	return stat, nil
}

// executableName returns the base name in the target of an exe link. The kernel marks a file that is no
// longer in its directory (d_path in fs/d_path.c).
func executableName(target []byte) string {
	target = bytes.TrimSuffix(target, []byte(" (deleted)"))
	return string(target[bytes.LastIndexByte(target, '/')+1:])
}
