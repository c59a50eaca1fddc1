//go:build linux && kernel

package bpfreceiver

// System calls that are not what they seem by number, result or arguments.

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/testprogram"
)

// A call that seccomp denies has failed, whatever its return value looks like: it moves nothing and accepts nobody.
func TestCallsDeniedBySeccomp(t *testing.T) {
	const n = 10
	for name, test := range map[string]struct {
		action uint32
		want   string
	}{
		"trap":                   {unix.SECCOMP_RET_TRAP, "EPERM"},
		"errno":                  {unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES), "EACCES"},
		"trace without a tracer": {unix.SECCOMP_RET_TRACE, "ENOSYS"},
	} {
		t.Run(name, func(t *testing.T) {
			events := trace(t, `
probes:
  syscall: {include: [getppid, execve], command: [$COMMAND]}
  network: {command: [$COMMAND]}
  filesystem: {command: [$COMMAND]}
  process: {command: [$COMMAND]}
`, "denied", argument{N: n, Action: test.action})
			checkTally(t, tally{
				"filesystem.open " + test.want: {events: n}, "filesystem.write " + test.want: {events: 2 * n}, "filesystem.unlink " + test.want: {events: n},
				"network.send " + test.want: {events: n}, "network.accept " + test.want: {events: n},
				"syscall.getppid " + test.want: {events: n}, "syscall.execve " + test.want: {events: n},
			}, events)
			for i := range events {
				assert.Zero(t, events[i].Duration)
				assert.NotZero(t, events[i].Flags&event.FlagNoDuration)
			}
		})
	}
}

func TestProcessesKilledBySeccomp(t *testing.T) {
	const n = 5
	for _, conditions := range []string{"", "errors_only: true"} {
		events := trace(t, `
probes:
  filesystem: {operation: [unlink], command: [$COMMAND], `+conditions+`}
  process: {operation: [exit], command: [$COMMAND], `+conditions+`}
`, "killed", argument{N: n})
		checkTally(t, tally{"filesystem.unlink EPERM": {events: n}, "process.exit 159": {events: n}}, events)
	}
}

// What a supervisor answers is the call's result, even if it is the call's number.
func TestCallsAnsweredBySupervisor(t *testing.T) {
	const n = 5
	events := trace(t, `probes: {syscall: {include: [getppid], command: [$COMMAND]}}`, "answered", argument{N: n})
	checkTally(t, tally{"syscall.getppid": {events: n}, "syscall.getppid EBUSY": {events: n}}, events)
}

// Errors are -4095 to -1. Other results below 0 are successes.
func TestNegativeResults(t *testing.T) {
	const n = 5
	events := trace(t, `probes: {syscall: {include: [lseek], command: [$COMMAND]}}`, "odd_results", argument{N: n})
	checkTally(t, tally{"syscall.lseek": {events: n}}, events)
	for i := range events {
		assert.EqualValues(t, -0xa00000, events[i].Result)
	}
	assert.Empty(t, trace(t, `probes: {syscall: {include: [lseek], command: [$COMMAND], errors_only: true}}`, "odd_results", argument{N: n}))
}

// A question whether a program may be executed is a system call and no exec; and what is executed by execveat is by execveat.
func TestExecChecks(t *testing.T) {
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, ^uintptr(99), 0, 0, 0, execCheck, 0)
	if errno == unix.EINVAL {
		t.Skip("this kernel has no AT_EXECVE_CHECK (6.14)")
	}
	const n = 5
	for name, test := range map[string]struct {
		probes string
		want   tally
	}{
		"with the process category": {
			"{syscall: {include: [execve, execveat], command: [$COMMAND]}, process: {operation: [exec], command: [$COMMAND]}}",
			tally{"syscall.execveat": {events: n}, "syscall.execveat EACCES": {events: n}, "process.exec": {events: 1}},
		},
		"without": {
			"{syscall: {include: [execve, execveat], command: [$COMMAND]}}",
			tally{"syscall.execveat": {events: n + 1}, "syscall.execveat EACCES": {events: n}},
		},
		"execveat alone": {
			"{syscall: {include: [execveat], command: [$COMMAND]}}",
			tally{"syscall.execveat": {events: n + 1}, "syscall.execveat EACCES": {events: n}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			checkTally(t, test.want, trace(t, "probes: "+test.probes, "exec_checks", argument{N: n}))
		})
	}
}

// Bytes that are looked at are received when they are read, and what is cut off is not.
func TestPeeks(t *testing.T) {
	events := trace(t, `
probes:
  network: {operation: [receive], command: [$COMMAND]}
  syscall: {include: [recvfrom, recvmsg, recvmmsg], command: [$COMMAND]}
`, "peeks", argument{})
	checkTally(t, tally{
		"network.receive":  {events: 7, bytes: 100 + 100 + 10 + 23 + 100 + 30 + 100 + 60},
		"syscall.recvfrom": {events: 2}, "syscall.recvmsg": {events: 3}, "syscall.recvmmsg": {events: 1},
	}, events)
	events = trace(t, `probes: {network: {operation: [receive], command: [$COMMAND]}}`, "peeks", argument{})
	checkTally(t, tally{"network.receive": {events: 7, bytes: 523}}, events)
}

// A call by another table of numbers is counted, whatever the tables call it, and is no event.
func TestCompatCalls(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the program is of amd64")
	}
	for probes, own := range map[string]int{ // how many events there are of the getppid that is by the right table
		"{syscall: {command: [$COMMAND]}}":                     0, // left out by default
		"{syscall: {include: [getppid], command: [$COMMAND]}}": 1,
		"{filesystem: {command: [$COMMAND]}}":                  0,
	} {
		t.Run(probes, func(t *testing.T) {
			r := start(t, configure(t, "probes: "+probes), &sink{})
			work(t, "compat", argument{})
			assert.EqualValues(t, 3*testprogram.CompatCalls, r.metric(t, "missed", "cause")["compat"])
			r.stop(t)
			got := tallyOf(r.sink.all())
			assert.Zero(t, got["filesystem.open"])
			assert.Equal(t, own, got["syscall.getppid"].events)
		})
	}
}

// In a time namespace this process has another boot time than the kernel.
func TestTimeNamespace(t *testing.T) {
	p := begin(t, "other_time", argument{N: 1_000_000})
	p.tell()
	p.expect("ready")
	p.expect("in time true")
	p.end()
}

// A call that a signal interrupts is one call, from its first beginning to its last end, if it begins again; else it fails.
func TestInterruptedCalls(t *testing.T) {
	const n, restart = 5, 0x10000000 // SA_RESTART
	for name, test := range map[string]struct {
		argument     argument
		reads, polls int // that fail
	}{
		"handler that restarts": {argument{N: n, Flags: restart}, 0, n}, // but for calls that no handler restarts
		"handler that does not": {argument{N: n}, n, n},
		"stopped and continued": {argument{N: n, Stop: true}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, configure(t, `probes: {syscall: {include: [read, poll, ppoll], command: [$COMMAND]}}`), &sink{})
			p := begin(t, "interrupted", test.argument)
			p.tell()
			var readsWaited, pollsWaited, readsLasted, pollsLasted uint64
			_, err := fmt.Sscan(p.line(), &readsWaited, &pollsWaited)
			require.NoError(t, err)
			p.end()
			r.stop(t)
			events := r.sink.all()
			got := tallyOf(events)
			assert.Equal(t, n, got["syscall.read"].events)
			assert.Equal(t, test.reads, got["syscall.read EINTR"].events)
			assert.Equal(t, n, got["syscall.poll"].events+got["syscall.ppoll"].events)
			assert.Equal(t, test.polls, got["syscall.poll EINTR"].events+got["syscall.ppoll EINTR"].events)
			assert.Len(t, events, 2*n+test.reads+test.polls)
			for i := range events {
				assert.Zero(t, events[i].Flags)
				if events[i].OperationName() == "read" {
					readsLasted += events[i].Duration
				} else {
					pollsLasted += events[i].Duration
				}
			}
			if test.reads == 0 {
				assert.GreaterOrEqual(t, readsLasted, readsWaited)
			}
			if test.polls == 0 {
				assert.GreaterOrEqual(t, pollsLasted, pollsWaited)
			}
		})
	}
}

// A thread that is killed sees no call return.
func TestKilledCalls(t *testing.T) {
	const n = 5
	events := trace(t, `probes: {syscall: {include: [execve, pause, ppoll], command: [$COMMAND]}, process: {operation: [exit], command: [$COMMAND]}}`,
		"killed_calls", argument{N: n})
	checkTally(t, tally{"syscall.execve": {events: n}, "process.exit 137": {events: n}}, events)
}
