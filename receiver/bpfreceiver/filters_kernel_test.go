//go:build linux && kernel

package bpfreceiver

// What is asked for, and nothing else: conditions, system calls, and the receiver's own process.

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

func TestIncludedSystemCalls(t *testing.T) {
	const n = 100
	events := trace(t, `probes: {syscall: {include: [getppid, chdir], command: [$COMMAND]}}`, "calls", argument{N: n})
	checkTally(t, tally{"syscall.getppid": {events: n}}, events)
	for i := range events {
		assert.NotZero(t, events[i].Duration)
		assert.Positive(t, events[i].Result)
		assert.Zero(t, events[i].Flags)
	}
}

// By default the calls of inner loops are left out.
func TestDefaultSystemCalls(t *testing.T) {
	const n = 10
	events := trace(t, `probes: {syscall: {command: [$COMMAND]}}`, "files", argument{N: n})
	got := tallyOf(events)
	assert.Equal(t, n, got["syscall.chdir"].events)
	assert.Equal(t, 2*n, got["syscall.fsync"].events+got["syscall.fdatasync"].events)
	for _, name := range []string{"read", "pread64", "write", "close"} {
		assert.Zero(t, got["syscall."+name].events, name)
	}
}

func TestFilterByCommand(t *testing.T) {
	events := trace(t, `probes: {syscall: {include: [getppid], command: [other, $COMMAND]}}`, "two_names", argument{N: 30})
	checkTally(t, tally{"syscall.getppid": {events: 30}}, events)
}

func TestFilterByUser(t *testing.T) {
	const user = 54321
	for _, test := range []struct {
		uid  string
		want []uint32
	}{
		{"{min: 54321, max: 54321}", []uint32{user}}, {"{max: 0}", []uint32{0}}, {"{min: 1}", []uint32{user}}, {"{max: 54321}", []uint32{0, user}},
	} {
		t.Run(test.uid, func(t *testing.T) {
			events := trace(t, `probes: {syscall: {include: [getppid], command: [$COMMAND], uid: `+test.uid+`}}`, "identity", argument{N: 30, UID: user})
			assert.Len(t, events, 30*len(test.want))
			for i := range events {
				assert.Contains(t, test.want, events[i].Process.UID)
			}
		})
	}
}

func TestFilterByPID(t *testing.T) {
	const n = 30
	first, second := begin(t, "calls", argument{N: n}), begin(t, "calls", argument{N: n})
	r := start(t, configure(t, fmt.Sprintf(`probes: {syscall: {include: [getppid], command: [$COMMAND], pid: {min: %[1]d, max: %[1]d}}}`, second.pid())), &sink{})
	for _, p := range []*process{first, second} {
		p.tell()
		p.end()
	}
	assert.Equal(t, account{produced: n, delivered: n}, r.stop(t))
	for _, e := range r.sink.all() {
		assert.EqualValues(t, second.pid(), e.Process.TGID)
	}
}

func TestFilterErrorsOnly(t *testing.T) {
	const n = 10
	events := trace(t, `
probes:
  filesystem: {command: [$COMMAND], errors_only: true}
  syscall: {include: [chdir, read], command: [$COMMAND], errors_only: true}
`, "files", argument{N: n})
	checkTally(t, tally{"filesystem.unlink ENOENT": {events: n}}, events)

	events = trace(t, `probes: {process: {command: [$COMMAND], errors_only: true}}`, "processes", argument{N: n})
	checkTally(t, tally{"process.exit 3": {events: n}, "process.exit 137": {events: n}, "process.exit 143": {events: n}}, events)

	events = trace(t, `probes: {network: {command: [$COMMAND], errors_only: true}}`, "tcp", argument{N: n})
	assert.Empty(t, events)
}

// A call that was not entered has no start, least of all that of an earlier call which nobody asked for.
func TestDeniedSystemCalls(t *testing.T) {
	const n = 10
	for name, test := range map[string]struct {
		conditions string
		allowed    int
	}{"all": {"", n}, "errors": {"errors_only: true", 0}} {
		t.Run(name, func(t *testing.T) {
			events := trace(t, `probes: {syscall: {include: [getppid], command: [$COMMAND], `+test.conditions+`}}`, "denied_calls", argument{N: n})
			got := tallyOf(events)
			assert.Equal(t, test.allowed, got["syscall.getppid"].events)
			assert.Equal(t, n, got["syscall.getppid EPERM"].events)
			for _, e := range events {
				assert.Equal(t, e.Failed(), e.Flags&event.FlagNoDuration != 0)
				assert.Equal(t, e.Failed(), e.Duration == 0)
			}
		})
	}
}

func TestFilterByDuration(t *testing.T) {
	events := trace(t, `probes: {syscall: {include: [getppid, clock_nanosleep], command: [$COMMAND], min_duration: 50ms}}`, "sleep", argument{N: 3})
	checkTally(t, tally{"syscall.clock_nanosleep": {events: 3}}, events)
	for i := range events {
		assert.GreaterOrEqual(t, events[i].Duration, uint64(100_000_000))
	}
}

func TestFilterByOperation(t *testing.T) {
	const n = 10
	for _, test := range []struct {
		category, operations, workload string
		want                           tally
	}{
		{"network", "[close]", "tcp", tally{"network.close": {events: 2 * n}}},
		{"network", "[connect, receive]", "tcp", tally{"network.connect": {events: n}, "network.receive": {events: 2 * n, bytes: 150 * n}}},
		{"network", "[retransmit]", "tcp", tally{}},
		{"filesystem", "[unlink]", "files", tally{"filesystem.unlink": {events: n}, "filesystem.unlink ENOENT": {events: n}}},
		{"filesystem", "[read, fsync]", "files", tally{"filesystem.read": {events: 2 * n, bytes: 180 * n}, "filesystem.fsync": {events: 2 * n}}},
		{"process", "[exec]", "processes", tally{"process.exec": {events: 4 * n}}},
	} {
		t.Run(test.category+test.operations, func(t *testing.T) {
			events := trace(t, fmt.Sprintf(`probes: {%s: {operation: %s, command: [$COMMAND]}}`, test.category, test.operations), test.workload, argument{N: n})
			checkTally(t, test.want, events)
			for _, e := range only(events, event.CategoryNetwork, "close") {
				assert.Zero(t, e.Flags&event.FlagNoDuration, "its owner and its beginning are known")
			}
		})
	}
}

// The receiver's own process is never traced, and its children are.
func TestOwnProcess(t *testing.T) {
	r := start(t, configure(t, `probes: {syscall: {include: [getppid], pid: {min: 2}}, process: }`), &sink{})
	calls(100)
	assert.NoError(t, exec.Command("/bin/sh", "-c", ":").Run())
	r.stop(t)
	children := 0
	for _, e := range r.sink.all() {
		assert.NotEqual(t, unix.Getpid(), int(e.Process.TGID))
		if e.OperationName() == "exec" && strings.HasSuffix(e.Name(), "/bin/sh") {
			children++
		}
	}
	assert.Positive(t, children)
}

// In a pid namespace a process knows itself by another number than the kernel.
func TestOwnProcessInPIDNamespace(t *testing.T) {
	p := begin(t, "own_calls", argument{N: 100}, func(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID })
	p.tell()
	p.expect("pid 1 own 0")
	p.end()
}

func TestMissingCapabilities(t *testing.T) {
	output := startWith(t)
	assert.Contains(t, output, "missing capability CAP_BPF, needed to load BPF programs and make BPF maps")
	assert.Contains(t, output, "missing capability CAP_PERFMON, needed to attach BPF programs to tracepoints")
	output = startWith(t, unix.CAP_BPF)
	assert.NotContains(t, output, "CAP_BPF")
	assert.Contains(t, output, "missing capability CAP_PERFMON")
}

func TestLeastPrivilege(t *testing.T) {
	assert.True(t, strings.HasPrefix(startWith(t, unix.CAP_BPF, unix.CAP_PERFMON), "<nil>\n"))
}

// startWith has a receiver start in a process with these capabilities only, and returns its error.
func startWith(t *testing.T, capabilities ...int) string {
	t.Helper()
	p := begin(t, "capabilities", argument{Capabilities: capabilities})
	p.tell()
	return p.end()
}
