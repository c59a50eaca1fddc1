package boottime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A process of several threads, as every Go program is, stays in its time namespace, whose offsets are fixed.
var offset = sync.OnceValues(func() (int64, error) { return readOffset("/proc/self") })

// Offset returns what CLOCK_BOOTTIME and the times in /proc are ahead of the kernel's own boot-time clock, in ns, in
// the time namespace of this process.
func Offset() (int64, error) { return offset() }

// Now returns the kernel's bpf_ktime_get_boot_ns(). Where Offset fails it is the clock of this process's time
// namespace.
func Now() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil { // only for a clock that the kernel lacks, and it has had this one since 2.6.39
		return 0
	}
	ahead, _ := Offset() // components ask for the error at their start
	return uint64(now.Nano() - ahead)
}

// readOffset reads the offset in a process's directory of /proc. There the kernel shows that of the namespace for
// children, which is the process's own unless it has called unshare(2) and executed no program since.
func readOffset(process string) (int64, error) {
	content, err := os.ReadFile(process + "/timens_offsets")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // a kernel without time namespaces
	}
	if err != nil {
		return 0, fmt.Errorf("clock of this time namespace: %w", err)
	}
	var own, children unix.Stat_t
	if err := errors.Join(unix.Stat(process+"/ns/time", &own), unix.Stat(process+"/ns/time_for_children", &children)); err != nil {
		return 0, fmt.Errorf("time namespace: %w", err)
	}
	if own.Ino != children.Ino {
		return 0, errors.New("this process is in another time namespace than its children, so that the offset of its clock is not known: " +
			"start it as a child in that time namespace (unshare --time --fork), or in that of the host")
	}
	return parseOffset(string(content))
}

// parseOffset finds the line of the boot-time clock: its name, seconds, and nanoseconds.
func parseOffset(content string) (int64, error) {
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "boottime" {
			continue
		}
		seconds, err1 := strconv.ParseInt(fields[1], 10, 64)
		nanoseconds, err2 := strconv.ParseInt(fields[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("offset of the boot-time clock in this time namespace: %w", err)
		}
		return seconds*1e9 + nanoseconds, nil
	}
	return 0, fmt.Errorf("no offset of the boot-time clock in timens_offsets: %q", content)
}
