package testprogram

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// InTimeNamespace does something on a thread whose children are in a time namespace of their own, in which the boot was so
// many seconds earlier. It needs root.
func InTimeNamespace(seconds int, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
				return fmt.Errorf("make a time namespace: %w", err)
			}
			offsets := fmt.Sprintf("boottime %d 0\nmonotonic %d 0\n", seconds, seconds)
			if err := os.WriteFile("/proc/"+strconv.Itoa(unix.Gettid())+"/timens_offsets", []byte(offsets), 0o600); err != nil {
				return err
			}
			return do()
		}()
	}()
	return <-done
}
