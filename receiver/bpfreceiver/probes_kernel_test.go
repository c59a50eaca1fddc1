//go:build linux && kernel

package bpfreceiver

// The probes, on known workloads: exact numbers, each event once and in its most specific category.

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

func TestProcesses(t *testing.T) {
	const n = 25
	events := trace(t, `probes: {process: {command: [$COMMAND]}}`, "processes", argument{N: n})
	checkTally(t, tally{
		"process.fork": {events: 4 * n}, "process.exec": {events: 4 * n},
		"process.exit": {events: n}, "process.exit 3": {events: n}, "process.exit 137": {events: n}, "process.exit 143": {events: n},
	}, events)

	children, lives := map[uint32]bool{}, map[uint32]int{}
	parent := uint16(0)
	for _, fork := range only(events, event.CategoryProcess, "fork") {
		children[fork.Lifecycle().ChildTGID] = true
		parent = fork.ExecNumber
	}
	assert.Len(t, children, 4*n)
	for _, exec := range only(events, event.CategoryProcess, "exec") {
		assert.True(t, children[exec.Process.TGID])
		assert.True(t, strings.HasPrefix(exec.Name(), "/tmp/"), exec.Name())
		assert.NotZero(t, exec.Flags&event.FlagNameCut, "the path has more than 39 bytes")
		assert.Equal(t, parent+1, exec.ExecNumber, "a child begins with the number of its parent")
	}
	for _, exit := range only(events, event.CategoryProcess, "exit") {
		lives[exit.Process.TGID]++
		assert.NotZero(t, exit.Duration)
		assert.Equal(t, exit.Process.TGID, exit.Process.TID)
		assert.Equal(t, parent+1, exit.ExecNumber)
		assert.Equal(t, workCommand(), exit.Comm())
		signal := map[int64]uint32{137: 9, 143: 15}[exit.Result]
		assert.Equal(t, signal, exit.Lifecycle().Signal)
	}
	for child := range children {
		assert.Equal(t, 1, lives[child])
	}
}

func TestFailedExecs(t *testing.T) {
	const n = 20
	events := trace(t, `
probes:
  syscall: {include: [execve, clone, clone3, vfork, fork], command: [$COMMAND]}
  process: {command: [$COMMAND]}
`, "failed_execs", argument{N: n})
	checkTally(t, tally{
		"syscall.execve ENOENT": {events: n}, // a success is a process event, and not reported again
		"process.fork":          {events: 2 * n}, "process.exec": {events: n}, "process.exit": {events: n}, "process.exit 253": {events: n},
	}, events)
}

// Without the process category the same calls are system calls, each once: it is the parent's return that counts.
func TestForksAreSystemCalls(t *testing.T) {
	const n = 20
	events := trace(t, `probes: {syscall: {include: [execve, clone, clone3, vfork, fork], command: [$COMMAND]}}`, "failed_execs", argument{N: n})
	byName := tallyOf(events)
	forks := 0
	for _, name := range []string{"fork", "vfork", "clone", "clone3"} {
		forks += byName["syscall."+name].events
	}
	assert.Equal(t, 2*n, forks)
	assert.Equal(t, n, byName["syscall.execve"].events)
	assert.Equal(t, n, byName["syscall.execve ENOENT"].events)
	assert.Len(t, events, 4*n)
}

// An operation that a category leaves out is a system call still.
func TestForksWithoutForkEvents(t *testing.T) {
	const n = 5
	events := trace(t, `
probes:
  syscall: {include: [clone, clone3, vfork, fork], command: [$COMMAND]}
  process: {operation: [exit], command: [$COMMAND]}
`, "failed_execs", argument{N: n})
	assert.Len(t, only(events, event.CategoryProcess, "exit"), 2*n)
	assert.Len(t, events, 4*n)
}

// A process of many threads that all end at once has one end. Making a thread is no process event, so it stays
// a system call.
func TestThreads(t *testing.T) {
	const n, threads = 25, 60
	events := trace(t, `
probes:
  process: {command: [$COMMAND]}
  syscall: {include: [clone, clone3], command: [$COMMAND]}
`, "threads", argument{N: n})
	got := tallyOf(events)
	for _, key := range []string{"process.fork", "process.exec", "process.exit 7"} {
		assert.Equal(t, count{events: n}, got[key], key)
		delete(got, key)
	}
	made := got["syscall.clone"].events + got["syscall.clone3"].events
	assert.GreaterOrEqual(t, made, n*threads)
	for key := range got {
		assert.Contains(t, key, "syscall.clone", "there is nothing else; the end may interrupt one")
	}
}

func TestTCP(t *testing.T) {
	const n = 200
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "tcp", argument{N: n})
	checkTally(t, tally{
		"network.connect": {events: n}, "network.accept": {events: n}, "network.close": {events: 2 * n},
		"network.send": {events: 2 * n, bytes: 150 * n}, "network.receive": {events: 2 * n, bytes: 150 * n},
	}, events)
	loopback := netip.MustParseAddr("127.0.0.1")
	var server uint16
	for i := range events {
		e := &events[i]
		network := e.Network()
		assert.EqualValues(t, unix.AF_INET, network.Family)
		assert.EqualValues(t, unix.IPPROTO_TCP, network.Protocol)
		assert.Equal(t, loopback, netip.AddrFrom4([4]byte(network.LocalAddress[:4])))
		assert.Equal(t, loopback, netip.AddrFrom4([4]byte(network.RemoteAddress[:4])))
		assert.NotZero(t, e.Duration)
		assert.Zero(t, e.Flags)
		assert.Equal(t, workCommand(), e.Comm())
		if e.OperationName() == "connect" {
			server = network.RemotePort
		}
	}
	for i := range events { // also at the close
		network := events[i].Network()
		assert.NotZero(t, network.LocalPort)
		assert.NotZero(t, network.RemotePort)
		assert.True(t, (network.LocalPort == server) != (network.RemotePort == server))
	}
	for _, accept := range only(events, event.CategoryNetwork, "accept") {
		assert.Equal(t, server, accept.Network().LocalPort)
	}
}

// The same calls when only the syscall category is on, and when both are.
func TestTCPAsSystemCalls(t *testing.T) {
	const n = 10
	list := `{include: [connect, accept, accept4, read, write, close, socket], command: [$COMMAND]}`
	events := trace(t, `probes: {syscall: `+list+`}`, "tcp", argument{N: n})
	want := tally{
		"syscall.connect": {events: n}, "syscall.accept4": {events: n}, "syscall.close": {events: 2 * n}, "syscall.socket": {events: n},
		"syscall.write": {events: 2 * n, bytes: 150 * n}, "syscall.read": {events: 2 * n, bytes: 150 * n},
	}
	if got := tallyOf(events); got["syscall.accept"].events > 0 { // which of the two it is, is for the library to say
		want["syscall.accept"] = want["syscall.accept4"]
		delete(want, "syscall.accept4")
	}
	checkTally(t, want, events)

	events = trace(t, `probes: {network: {command: [$COMMAND]}, syscall: `+list+`}`, "tcp", argument{N: n})
	checkTally(t, tally{
		"network.connect": {events: n}, "network.accept": {events: n}, "network.close": {events: 2 * n},
		"network.send": {events: 2 * n, bytes: 150 * n}, "network.receive": {events: 2 * n, bytes: 150 * n},
		"syscall.close": {events: 2 * n}, "syscall.socket": {events: n},
	}, events)
}

func TestTCPRefused(t *testing.T) {
	const n = 50
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "tcp_refused", argument{N: n})
	checkTally(t, tally{"network.connect ECONNREFUSED": {events: 2 * n}}, events)
}

func TestTCPPending(t *testing.T) {
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "tcp_pending", argument{})
	checkTally(t, tally{
		"network.connect": {events: 3}, "network.connect ECONNREFUSED": {events: 1}, "network.connect ECANCELED": {events: 1},
		"network.retransmit": {events: 2}, "network.accept": {events: 1},
		// Of the established ones the accepted end names its process too; the end that was never accepted doesn't.
		"network.close": {events: 4},
	}, events)
	for _, retransmit := range only(events, event.CategoryNetwork, "retransmit") {
		assert.Equal(t, workCommand(), retransmit.Comm(), "it runs in no process, but is that of a socket with an owner")
	}
}

func TestTCPNoRoute(t *testing.T) {
	const n = 20
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "tcp_no_route", argument{N: n})
	checkTally(t, tally{"network.connect ENETUNREACH": {events: n}}, events)
}

func TestTCPNoPort(t *testing.T) {
	const n = 20
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "tcp_no_port", argument{N: n})
	checkTally(t, tally{"network.connect": {events: 1}, "network.connect EADDRNOTAVAIL": {events: n}, "network.close": {events: 1}}, events)
}

// One failed connect is one event, however and by whom its error is fetched.
func TestTCPNoHost(t *testing.T) {
	const n = 20
	events := trace(t, `probes: {network: {command: [$COMMAND], operation: [connect]}}`, "tcp_no_host", argument{N: n})
	checkTally(t, tally{"network.connect EHOSTUNREACH": {events: 2 * n}, "network.connect ENETUNREACH": {events: 2 * n}}, events)
}

func TestTCPReset(t *testing.T) {
	const n = 50
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "tcp_reset", argument{N: n})
	checkTally(t, tally{"network.connect": {events: n}, "network.accept": {events: n}, "network.close": {events: n}}, events)
}

func TestSockets(t *testing.T) {
	const n = 20
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "sockets", argument{N: n})
	bytes := 1 + 2 + 4 + 8 + 64 + 128 + 256
	checkTally(t, tally{
		"network.connect": {events: n}, "network.send": {events: 7 * n, bytes: bytes * n}, "network.receive": {events: 7 * n, bytes: bytes * n},
	}, events)
}

func TestFiles(t *testing.T) {
	const n = 20
	events := trace(t, `probes: {filesystem: {command: [$COMMAND]}, syscall: {include: [open, openat, close, chdir], command: [$COMMAND]}}`, "files", argument{N: n})
	checkTally(t, tally{
		"filesystem.open": {events: 2 * n}, "filesystem.write": {events: 3 * n, bytes: 175 * n}, "filesystem.fsync": {events: 2 * n},
		"filesystem.read": {events: 2 * n, bytes: 180 * n}, "filesystem.rename": {events: n}, "filesystem.unlink": {events: n},
		"filesystem.unlink ENOENT": {events: n}, "syscall.close": {events: 2 * n}, "syscall.chdir": {events: n},
	}, events)
	for _, test := range []struct {
		operation, name string
		flags           event.Flags
		result          int64
	}{
		{"open", "file-0", 0, 0}, {"write", "file-0", 0, 0}, {"read", "file-0", 0, 0}, {"fsync", "file-0", 0, 0},
		{"rename", "file-0", 0, 0}, {"unlink", "renamed-0", 0, 0}, {"unlink", "missing", 0, -int64(unix.ENOENT)},
	} {
		found := false
		for _, e := range only(events, event.CategoryFilesystem, test.operation) {
			if e.Name() == test.name {
				found = true
				assert.Equal(t, test.flags, e.Flags)
				if test.result != 0 {
					assert.Equal(t, test.result, e.Result)
				}
			}
		}
		assert.True(t, found, "%s %s", test.operation, test.name)
	}
	cut := 0
	for _, open := range only(events, event.CategoryFilesystem, "open") {
		if open.Flags&event.FlagNameCut != 0 {
			cut++
			assert.Len(t, open.Name(), event.NameLen-1)
		}
	}
	assert.Equal(t, n, cut)
}

// Event descriptors and pipes are no files.
// The kernel calls a file that was made without a name # and the number of its inode. That is no name. A file may be called so.
func TestFilesWithoutAName(t *testing.T) {
	events := trace(t, `probes: {filesystem: {operation: [write], command: [$COMMAND]}}`, "nameless", argument{})
	var names []string
	for _, e := range events {
		name := e.Name()
		if len(name) > 2 && name[0] == '#' {
			name = "# and a number"
		}
		names = append(names, name)
		assert.Zero(t, e.Payload[len(e.Name())+1], "nothing is left behind the name")
		assert.Zero(t, e.Flags)
	}
	assert.Equal(t, []string{"", "", "linked", "memfd:memory", "removed", "# and a number", "#1", "#2"}, names)
}

func TestNoFiles(t *testing.T) {
	const n = 20
	events := trace(t, `
probes:
  filesystem: {command: [$COMMAND]}
  network: {command: [$COMMAND]}
  syscall: {include: [read, write], command: [$COMMAND]}
`, "no_files", argument{N: n})
	checkTally(t, tally{
		"syscall.read": {events: 2 * n, bytes: 16 * n}, "syscall.write": {events: 2 * n, bytes: 16 * n}, "syscall.read EBADF": {events: n},
	}, events)
}

func TestTransfers(t *testing.T) {
	const n = 20
	reads := count{events: 2 * n, bytes: 370 * n}
	events := trace(t, `probes: {filesystem: {command: [$COMMAND]}}`, "transfers", argument{N: n})
	checkTally(t, tally{"filesystem.write": {events: 3 * n, bytes: 1800 * n}, "filesystem.read": reads}, events)
	events = trace(t, `probes: {filesystem: {command: [$COMMAND], operation: [read]}}`, "transfers", argument{N: n})
	checkTally(t, tally{"filesystem.read": reads}, events)
	for i := range events {
		assert.Equal(t, "from", events[i].Name())
	}
}

// A socket that would block: nothing happened in the network, but the call was made.
func TestWouldBlock(t *testing.T) {
	const n = 5
	events := trace(t, `
probes:
  network: {operation: [send], command: [$COMMAND]}
  syscall: {include: [recvfrom, read], command: [$COMMAND]}
`, "sockets", argument{N: n})
	got := tallyOf(events)
	assert.Equal(t, 7*n, got["network.send"].events)
	assert.Equal(t, 2*n, got["syscall.recvfrom"].events)
	assert.Equal(t, 2*n, got["syscall.read"].events)
	assert.Equal(t, n, got["syscall.read EAGAIN"].events)
	assert.Len(t, events, 12*n)
	require.Len(t, got, 4)
}
