//go:build linux && kernel

package bpfreceiver

// System calls that a signal interrupts, made by the other process.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/syscalls"
	"github.com/kernelpipe/kernelpipe/internal/testprogram"
)

// blocked waits until a thread waits in one of these system calls, having waited more often than before, and returns how often.
func blocked(thread string, before int, names ...string) int {
	for {
		call, err := os.ReadFile(thread + "/syscall")
		must(err)
		for _, name := range names {
			if strings.HasPrefix(string(call), callNumber(name)+" ") || strings.HasPrefix(string(call), callNumber("restart_syscall")+" ") {
				if waits := waitsOf(thread); waits > before {
					return waits
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// waitsOf returns how often a thread has gone to sleep.
func waitsOf(thread string) int {
	for line := range strings.Lines(string(must1(os.ReadFile(thread + "/status")))) {
		if n, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
			return must1(strconv.Atoi(strings.TrimSpace(n)))
		}
	}
	panic("no switches")
}

// poll waits until there is something to read. What the kernel restarts of poll(2) is another call, restart_syscall(2).
func poll(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	number, ok := syscalls.Number("poll")
	if !ok { // arm64
		_, err := unix.Ppoll(fds, nil, nil)
		return err
	}
	if _, _, errno := unix.Syscall(uintptr(number), uintptr(unsafe.Pointer(&fds[0])), 1, 600_000); errno != 0 {
		return errno
	}
	return nil
}

// N times a read and a poll that wait, are interrupted by a signal with a handler of these Flags, or by a Stop and its end,
// and go on to wait until there is something to read. A call that fails with EINTR is made again. It says how long reads and
// polls have waited at least in all, in ns.
func workInterrupted(h *helper) {
	pipe := make([]int, 2)
	must(unix.Pipe(pipe))
	handle(unix.SIGUSR1, uintptr(h.argument.Flags))
	tid := unix.Gettid()
	thread := fmt.Sprintf("/proc/self/task/%d", tid)
	const stopAndContinue = `
stopped() {
	while read -r key value; do case $key$value in State:T*) return 0 ;; esac; done <$1/status
	return 1
}
kill -STOP $PPID
until stopped "$1"; do :; done
kill -CONT $PPID`
	interrupt := func() { must(unix.Tgkill(os.Getpid(), tid, unix.SIGUSR1)) }
	if h.argument.Stop {
		// The end of the shell interrupts no call of this thread, as it would by a handler.
		must(unix.PthreadSigmask(unix.SIG_BLOCK, &unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGCHLD - 1)}}, nil))
		interrupt = func() {
			must(exec.Command("/bin/sh", "-c", stopAndContinue, "sh", fmt.Sprintf("/proc/%d/task/%d", os.Getpid(), tid)).Run())
		}
	}
	var waited [2]time.Duration
	turn := make(chan bool)
	go func() {
		for i := range 2 * h.argument.N {
			<-turn
			waits := blocked(thread, -1, "read", "poll", "ppoll")
			begun := time.Now()
			interrupt()
			blocked(thread, waits, "read", "poll", "ppoll")
			waited[i%2] += time.Since(begun)
			must1(unix.Write(pipe[1], []byte{1}))
			turn <- true
		}
	}()
	again := func(do func() error) {
		turn <- true
		h.named(func() {
			for {
				if err := do(); !errors.Is(err, unix.EINTR) {
					must(err)
					break
				}
			}
		})
		<-turn
	}
	for range h.argument.N {
		again(func() error {
			_, err := unix.Read(pipe[0], make([]byte, 1))
			return err
		})
		again(func() error {
			return poll(pipe[0])
		})
		must1(unix.Read(pipe[0], make([]byte, 1)))
	}
	fmt.Println(waited[0].Nanoseconds(), waited[1].Nanoseconds())
}

// N processes that are killed while they wait.
func workKilledCalls(h *helper) {
	program := filepath.Join(h.dir, workCommand())
	must(testprogram.Write(program, testprogram.Endless))
	for range h.argument.N {
		pid := must1(syscall.ForkExec(program, []string{program}, &syscall.ProcAttr{}))
		blocked(fmt.Sprintf("/proc/%d", pid), -1, "pause", "ppoll")
		must(unix.Kill(pid, unix.SIGKILL))
		var status syscall.WaitStatus
		must1(syscall.Wait4(pid, &status, 0, nil))
	}
}
