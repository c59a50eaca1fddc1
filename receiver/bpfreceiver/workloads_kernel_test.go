//go:build linux && kernel

package bpfreceiver

// What the other process does. Each is a known number of system calls, made without a library between.

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

var workloads = map[string]func(*helper){
	"processes":        workProcesses,
	"failed_execs":     workFailedExecs,
	"threads":          workThreads,
	"tcp":              workTCP,
	"tcp_refused":      workTCPRefused,
	"tcp_pending":      workTCPPending,
	"tcp_no_route":     workTCPNoRoute,
	"tcp_no_port":      workTCPNoPort,
	"tcp_no_host":      workTCPNoHost,
	"tcp_reset":        workTCPReset,
	"tcp_held":         workTCPHeld,
	"tcp_self":         workTCPSelf,
	"tcp_simultaneous": workTCPSimultaneous,
	"fast_open":        workFastOpen,
	"mptcp":            workMPTCP,
	"retransmits":      workRetransmits,
	"unreachable":      workUnreachable,
	"datagrams":        workDatagrams,
	"dual_stack":       workDualStack,
	"other_connects":   workOtherConnects,
	"sockets":          workSockets,
	"files":            workFiles,
	"no_files":         workNoFiles,
	"nameless":         workNameless,
	"transfers":        workTransfers,
	"identity":         workIdentity,
	"sleep":            workSleep,
	"two_names":        workTwoNames,
	"calls":            workCalls,
	"own_calls":        workOwnCalls,
	"simulation":       workSimulation,
	"capabilities":     workCapabilities,
	"calls_on_tell":    workCallsOnTell,
	"denied_calls":     workDeniedCalls,
	"reads":            workReads,
	"denied":           workDenied,
	"killed":           workKilled,
	"answered":         workAnswered,
	"odd_results":      workOddResults,
	"exec_checks":      workExecChecks,
	"peeks":            workPeeks,
	"compat":           workCompat,
	"other_time":       workOtherTime,
	"own_time":         workOwnTime,
	"interrupted":      workInterrupted,
	"killed_calls":     workKilledCalls,
	"aio":              workAIO,
	"uring_files":      workUringFiles,
	"uring_paths":      workUringPaths,
	"uring_sockets":    workUringSockets,
	"uring_polled":     workUringPolled,
	"uring_unseen":     workUringUnseen,
	"bench":            workBench,
}

// spawn runs a program under the name of the work and waits for it.
func spawn(program string, args ...string) syscall.WaitStatus {
	pid := must1(syscall.ForkExec(program, append([]string{workCommand()}, args...), &syscall.ProcAttr{Files: []uintptr{0, 1, 2}}))
	var status syscall.WaitStatus
	must1(syscall.Wait4(pid, &status, 0, nil))
	return status
}

// link makes a link to a program by the name of the work, for that is what the process will be called.
func (h *helper) link(program string) string {
	program = must1(filepath.EvalSymlinks(program))
	path := filepath.Join(must1(os.MkdirTemp(h.dir, "")), workCommand())
	must(os.Symlink(program, path))
	return path
}

// N processes that end with 0, N with 3, N by SIGKILL and N by SIGTERM.
func workProcesses(h *helper) {
	shell := h.link("/bin/sh")
	h.named(func() {
		for range h.argument.N {
			spawn(shell, "-c", ":")
			spawn(shell, "-c", "exit 3")
			spawn(shell, "-c", "kill -KILL $$")
			spawn(shell, "-c", "kill -TERM $$")
		}
	})
}

// N children that fail to execute a program, and N that don't.
func workFailedExecs(h *helper) {
	shell := h.link("/bin/sh")
	h.named(func() {
		for range h.argument.N {
			if _, err := syscall.ForkExec(h.dir+"/missing", nil, &syscall.ProcAttr{}); !errors.Is(err, unix.ENOENT) {
				panic(err)
			}
			spawn(shell, "-c", ":")
		}
	})
}

// N processes with many threads, all of which end at once.
func workThreads(h *helper) {
	if os.Getenv("KERNELPIPE_TEST_THREADS") != "" {
		var running sync.WaitGroup
		for range 60 {
			running.Add(1)
			go func() {
				runtime.LockOSThread()
				running.Done()
				must(unix.Nanosleep(&unix.Timespec{Sec: 60}, nil))
			}()
		}
		running.Wait()
		os.Exit(7)
	}
	self := h.link("/proc/self/exe")
	must(os.Setenv("KERNELPIPE_TEST_THREADS", "1"))
	null := must1(os.OpenFile("/dev/null", os.O_RDWR, 0))
	h.named(func() {
		for range h.argument.N {
			pipe := make([]int, 2)
			must(unix.Pipe(pipe))
			must1(unix.Write(pipe[1], []byte("go\n")))
			pid := must1(syscall.ForkExec(self, []string{workCommand(), "-test.run=^TestHelperProcess$"}, &syscall.ProcAttr{
				Env: os.Environ(), Files: []uintptr{uintptr(pipe[0]), null.Fd(), 2},
			}))
			var status syscall.WaitStatus
			must1(syscall.Wait4(pid, &status, 0, nil))
			if status.ExitStatus() != 7 {
				panic(fmt.Sprint(status))
			}
			must(errors.Join(unix.Close(pipe[0]), unix.Close(pipe[1])))
		}
	})
}

// listen returns a listening socket on the loopback interface and its address.
func listen(backlog int) (int, *unix.SockaddrInet4) { return listenAt([4]byte{127, 0, 0, 1}, backlog) }

func listenAt(at [4]byte, backlog int) (int, *unix.SockaddrInet4) {
	fd := must1(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	must(unix.Bind(fd, &unix.SockaddrInet4{Addr: at}))
	must(unix.Listen(fd, backlog))
	address, ok := must1(unix.Getsockname(fd)).(*unix.SockaddrInet4)
	if !ok {
		panic("no IPv4 address")
	}
	return fd, address
}

func stream(flags int) int { return must1(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|flags, 0)) }

func expectError(err, want error) {
	if !errors.Is(err, want) {
		panic(fmt.Sprintf("got %v, want %v", err, want))
	}
}

// connection returns both ends of a new connection.
func connection(listener int, address unix.Sockaddr) (client, server int) {
	client = stream(0)
	must(unix.Connect(client, address))
	server, _, err := unix.Accept(listener)
	must(err)
	return client, server
}

// N connections: connect, accept, 100 bytes there, 50 back, close on both sides.
func workTCP(h *helper) {
	listener, address := listen(128)
	data := make([]byte, 100)
	h.named(func() {
		for range h.argument.N {
			client, server := connection(listener, address)
			must1(unix.Write(client, data))
			must1(unix.Read(server, data))
			must1(unix.Write(server, data[:50]))
			must1(unix.Read(client, data))
			must(unix.Close(client))
			must(unix.Close(server))
		}
	})
}

// N refused connections, blocking; N more on non-blocking sockets, with a second connect to fetch the error.
func workTCPRefused(h *helper) {
	listener, address := listen(1)
	must(unix.Close(listener))
	h.named(func() {
		for range h.argument.N {
			fd := stream(0)
			expectError(unix.Connect(fd, address), unix.ECONNREFUSED)
			must(unix.Close(fd))
			fd = stream(unix.SOCK_NONBLOCK)
			expectError(unix.Connect(fd, address), unix.EINPROGRESS)
			must1(unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 20_000))
			expectError(unix.Connect(fd, address), unix.ECONNREFUSED)
			must(unix.Close(fd))
		}
	})
}

// A listener whose backlog is full: one connect waits and is established by a retransmission, one waits and is
// refused when the listener is gone, and is asked about its error twice; one is given up by close.
func workTCPPending(h *helper) {
	listener, address := listen(0)
	other, otherAddress := listen(0)
	await := func(fd int) {
		must1(unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 20_000))
	}
	h.named(func() {
		first, second := stream(unix.SOCK_NONBLOCK), stream(unix.SOCK_NONBLOCK)
		must(ignore(unix.Connect(first, address), unix.EINPROGRESS))
		await(first)
		expectError(unix.Connect(second, address), unix.EINPROGRESS)
		expectError(unix.Connect(second, address), unix.EALREADY)

		third, fourth, fifth := stream(unix.SOCK_NONBLOCK), stream(unix.SOCK_NONBLOCK), stream(unix.SOCK_NONBLOCK)
		must(ignore(unix.Connect(third, otherAddress), unix.EINPROGRESS))
		await(third)
		expectError(unix.Connect(fourth, otherAddress), unix.EINPROGRESS)
		expectError(unix.Connect(fifth, otherAddress), unix.EINPROGRESS)
		must(unix.Close(fifth))
		must(unix.Close(other))

		accepted, _, err := unix.Accept(listener)
		must(err)
		await(second)
		await(fourth)
		must(unix.Connect(second, address))
		expectError(unix.Connect(second, address), unix.EISCONN)
		expectError(unix.Connect(fourth, otherAddress), unix.ECONNREFUSED)
		for _, fd := range []int{first, second, third, fourth, accepted} {
			must(unix.Close(fd))
		}
		must(unix.Close(listener))
	})
}

func ignore(err error, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// N connects in a network namespace that has no route.
func workTCPNoRoute(h *helper) {
	must(unix.Unshare(unix.CLONE_NEWNET))
	h.named(func() {
		for range h.argument.N {
			fd := stream(0)
			expectError(unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}, Port: 9}), unix.ENETUNREACH)
			must(unix.Close(fd))
		}
	})
}

// isolate puts the thread into a network namespace that has a loopback interface and nothing else.
func isolate() {
	must(unix.Unshare(unix.CLONE_NEWNET))
	control := must1(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	request := must1(unix.NewIfreq("lo"))
	request.SetUint16(unix.IFF_UP)
	must(unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, request))
}

// N connects that do not wait, whose host turns out to be unreachable: an ICMP message says so of what a listener that
// is full leaves unanswered. A second connect fetches the error, and a third one on the same socket finds no route.
// On N more sockets getsockopt fetches the error, they are closed, and others, likely at the same address, find no route.
func workTCPNoHost(h *helper) {
	isolate()
	listener, address := listen(0)
	must(unix.Connect(stream(0), address))
	packets := must1(unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP))
	messages := must1(unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP))
	const ipHeader, tcpStart = 20, 8
	packet := make([]byte, 1500)
	fail := func() int {
		fd := stream(unix.SOCK_NONBLOCK)
		expectError(unix.Connect(fd, address), unix.EINPROGRESS)
		local, ok := must1(unix.Getsockname(fd)).(*unix.SockaddrInet4)
		if !ok {
			panic("no IPv4 address")
		}
		for {
			n, _, err := unix.Recvfrom(packets, packet, 0)
			must(err)
			if n > ipHeader && int(binary.BigEndian.Uint16(packet[ipHeader:])) == local.Port {
				break
			}
		}
		message := append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, packet[:ipHeader+tcpStart]...) // destination, host unreachable
		binary.BigEndian.PutUint16(message[2:], checksum(message))
		must(unix.Sendto(messages, message, 0, &unix.SockaddrInet4{Addr: address.Addr}))
		must1(unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 20_000))
		return fd
	}
	noRoute := &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}, Port: 9}
	h.named(func() {
		for range h.argument.N {
			fd := fail()
			expectError(unix.Connect(fd, address), unix.EHOSTUNREACH)
			expectError(unix.Connect(fd, noRoute), unix.ENETUNREACH)
			must(unix.Close(fd))

			fd = fail()
			if errno := must1(unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)); errno != int(unix.EHOSTUNREACH) {
				panic(errno)
			}
			must(unix.Close(fd))
			fd = stream(0)
			expectError(unix.Connect(fd, noRoute), unix.ENETUNREACH)
			must(unix.Close(fd))
		}
	})
	must(unix.Close(listener))
}

// checksum is that of the Internet's protocols, of an even number of bytes.
func checksum(data []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// One connection takes the only local port of a network namespace, N more find none.
func workTCPNoPort(h *helper) {
	isolate()
	listener := stream(0)
	address := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9}
	must(unix.Bind(listener, address))
	must(unix.Listen(listener, 128))
	must(os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40000"), 0o600))
	h.named(func() {
		first := stream(0)
		must(unix.Connect(first, address))
		for range h.argument.N {
			fd := stream(0)
			expectError(unix.Connect(fd, address), unix.EADDRNOTAVAIL)
			must(unix.Close(fd))
		}
		must(unix.Close(first))
	})
}

// N connections that are reset by the client before they are accepted, and accepted all the same.
func workTCPReset(h *helper) {
	listener, address := listen(128)
	h.named(func() {
		for range h.argument.N {
			client := stream(0)
			must(unix.Connect(client, address))
			must(unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
			must(unix.Close(client))
			server, _, err := unix.Accept(listener)
			must(err)
			must(unix.Close(server))
		}
	})
}

// N connections to a loopback address of its own, which stay open until it is told to close them.
func workTCPHeld(h *helper) {
	listener, address := listenAt(ownLoopback(os.Getpid()), 128)
	var ends []int
	h.named(func() {
		for range h.argument.N {
			client, server := connection(listener, address)
			// A reset closes both at once.
			must(unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
			ends = append(ends, client, server)
		}
		h.wait("open")
		for _, end := range ends {
			must(unix.Close(end))
		}
	})
}

// ownLoopback returns a loopback address that no other process uses.
func ownLoopback(pid int) [4]byte { return [4]byte{127, 1 + byte(pid>>16), byte(pid >> 8), byte(pid)} }

// mmsghdr is struct mmsghdr on a 64-bit system.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

func messages(buffers ...[]byte) []mmsghdr {
	all := make([]mmsghdr, len(buffers))
	for i, buffer := range buffers {
		vector := &unix.Iovec{Base: &buffer[0]}
		vector.SetLen(len(buffer))
		all[i].header.Iov = vector
		all[i].header.SetIovlen(1)
	}
	return all
}

func mmsg(number uintptr, fd int, all []mmsghdr) int {
	n, _, errno := unix.Syscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&all[0])), uintptr(len(all)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		panic(errno)
	}
	return int(n)
}

// Unix datagrams and UDP, through every call that moves bytes, N times.
func workSockets(h *helper) {
	pair := must1(unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0))
	udp, peer := must1(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)), must1(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	must(unix.Bind(udp, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	address := must1(unix.Getsockname(udp))
	file := must1(unix.Open(filepath.Join(h.dir, "file"), unix.O_RDWR|unix.O_CREAT, 0o600))
	must1(unix.Write(file, make([]byte, 500)))
	out := func(n int) []byte { return make([]byte, n) }
	h.named(func() {
		for range h.argument.N {
			must1(unix.Write(pair[0], out(1)))
			must1(unix.Read(pair[1], out(10)))
			must1(unix.Writev(pair[0], [][]byte{out(1), out(1)}))
			must1(unix.Readv(pair[1], [][]byte{out(10)}))
			must(unix.Sendto(pair[0], out(4), 0, nil))
			recvfrom(pair[1], out(10))
			must1(unix.SendmsgN(pair[0], out(8), nil, nil, 0))
			n, _, _, _, err := unix.Recvmsg(pair[1], out(10), nil, 0)
			must(err)
			if n != 8 {
				panic(n)
			}
			if n := mmsg(unix.SYS_SENDMMSG, pair[0], messages(out(16), out(16), out(32))); n != 3 {
				panic(n)
			}
			if n := mmsg(unix.SYS_RECVMMSG, pair[1], messages(out(100), out(100), out(100))); n != 3 {
				panic(n)
			}
			offset := int64(0)
			must1(unix.Sendfile(pair[0], file, &offset, 128))
			must1(unix.Read(pair[1], out(1000)))

			must(unix.Connect(peer, address))
			must1(unix.Write(peer, out(256)))
			recvfrom(udp, out(1000))

			// Nothing happens here: no network event.
			_, err = unix.Read(pair[1], out(1))
			_ = err
		}
	})
}

func recvfrom(fd int, buffer []byte) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)), 0, 0, 0)
	if errno != 0 || n == 0 {
		panic(errno)
	}
}

// The life of N files.
func workFiles(h *helper) {
	long := filepath.Join(h.dir, strings.Repeat("n", 45))
	must(os.WriteFile(long, nil, 0o600))
	h.named(func() {
		for i := range h.argument.N {
			must(unix.Chdir(h.dir))
			name, renamed := fmt.Sprintf("file-%d", i), fmt.Sprintf("renamed-%d", i)
			fd := must1(unix.Open(name, unix.O_RDWR|unix.O_CREAT, 0o600))
			must1(unix.Write(fd, make([]byte, 100)))
			must1(unix.Pwrite(fd, make([]byte, 50), 100))
			must1(unix.Writev(fd, [][]byte{make([]byte, 20), make([]byte, 5)}))
			must(unix.Fsync(fd))
			must(unix.Fdatasync(fd))
			must1(unix.Pread(fd, make([]byte, 1000), 0))
			must1(unix.Pread(fd, make([]byte, 30), 0))
			must(unix.Close(fd))
			must(unix.Rename(name, renamed))
			must(unix.Unlink(renamed))
			must(unix.Close(must1(unix.Open(long, unix.O_RDONLY, 0))))
			expectError(unix.Unlink("missing"), unix.ENOENT)
		}
	})
}

// A byte to each of: files without a name, one of which gets one; a memfd; a removed file; files that are called like one without.
func workNameless(h *helper) {
	write := func(fd int) { must1(unix.Write(fd, []byte{1})) }
	create := func(name string) int { return must1(unix.Open(name, unix.O_RDWR|unix.O_CREAT, 0o600)) }
	h.named(func() {
		must(unix.Chdir(h.dir))
		write(must1(unix.Open(".", unix.O_RDWR|unix.O_TMPFILE, 0o600)))
		linked := must1(unix.Open(".", unix.O_RDWR|unix.O_TMPFILE, 0o600))
		must(unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", linked), unix.AT_FDCWD, "linked", unix.AT_SYMLINK_FOLLOW))
		write(linked)
		write(must1(unix.Open("linked", unix.O_RDWR, 0)))
		write(must1(unix.MemfdCreate("memory", 0)))
		removed := create("removed")
		must(unix.Unlink("removed"))
		write(removed)
		var stat unix.Stat_t
		own := create("own")
		must(unix.Fstat(own, &stat))
		must(unix.Rename("own", fmt.Sprintf("#%d", stat.Ino)))
		write(own)
		write(create("#1"))
		gone := create("#2")
		must(unix.Unlink("#2"))
		write(gone)
	})
}

// What looks like a file and is none, N times.
func workNoFiles(h *helper) {
	event := must1(unix.Eventfd(0, unix.EFD_NONBLOCK))
	pipe := make([]int, 2)
	must(unix.Pipe(pipe))
	eight := make([]byte, 8)
	eight[0] = 1
	h.named(func() {
		for range h.argument.N {
			must1(unix.Write(event, eight))
			must1(unix.Read(event, make([]byte, 8)))
			must1(unix.Write(pipe[1], eight))
			must1(unix.Read(pipe[0], eight))
			_, err := unix.Read(1_000_000, eight)
			expectError(err, unix.EBADF)
		}
	})
}

// Bytes between files, between a file and a pipe, and from a file to a device, N times.
func workTransfers(h *helper) {
	from := must1(unix.Open(filepath.Join(h.dir, "from"), unix.O_RDWR|unix.O_CREAT, 0o600))
	to := must1(unix.Open(filepath.Join(h.dir, "to"), unix.O_RDWR|unix.O_CREAT, 0o600))
	must1(unix.Write(from, make([]byte, 4096)))
	null := must1(unix.Open("/dev/null", unix.O_WRONLY, 0))
	pipe := make([]int, 2)
	must(unix.Pipe(pipe))
	h.named(func() {
		for range h.argument.N {
			in, out := int64(0), int64(0)
			must1(unix.CopyFileRange(from, &in, to, &out, 1000, 0))
			in = 0
			must1(unix.Sendfile(to, from, &in, 500))
			in = 0
			must1(unix.Sendfile(null, from, &in, 70))
			in = 0
			must1(unix.Splice(from, &in, pipe[1], nil, 300, 0))
			out = 0
			must1(unix.Splice(pipe[0], nil, to, &out, 300, 0))
		}
	})
}

func calls(n int) {
	for range n {
		_, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	}
}

// N calls as root and N as another user.
func workIdentity(h *helper) {
	h.named(func() {
		calls(h.argument.N)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(h.argument.UID), uintptr(h.argument.UID), uintptr(h.argument.UID)); errno != 0 {
			panic(errno)
		}
		calls(h.argument.N)
	})
	os.Exit(0) // as another user it can't end in the usual way
}

// N short calls and N long ones.
func workSleep(h *helper) {
	h.named(func() {
		for range h.argument.N {
			calls(1)
			must(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &unix.Timespec{Nsec: 100_000_000}, nil))
		}
	})
}

// N calls under the name of the work, N under a longer one and N under a shorter one.
func workTwoNames(h *helper) {
	h.named(func() {
		calls(h.argument.N)
		rename(workCommand() + "x")
		calls(h.argument.N)
		rename(workCommand()[:2])
		calls(h.argument.N)
	})
}

// N calls.
func workCalls(h *helper) {
	h.named(func() { calls(h.argument.N) })
}

// N calls, and as many again whenever it is told to go on, three times in all.
func workCallsOnTell(h *helper) {
	for range 3 {
		h.named(func() { calls(h.argument.N) })
		h.wait("done")
	}
}

// N calls, and N more that seccomp denies: these return without having been entered.
func workDeniedCalls(h *helper) {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_GETPPID, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	h.named(func() {
		calls(h.argument.N)
		must(unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0))
		calls(h.argument.N)
	})
}

// Says which thread it is, and reads 1, 2, … N bytes from the first file that the test has given it.
func workReads(h *helper) {
	fmt.Println(unix.Gettid())
	h.named(func() {
		for n := range h.argument.N {
			must1(unix.Read(3, make([]byte, n+1)))
		}
	})
}

// How long calls take, for the benchmark: reads "<n>" lines and answers with nanoseconds.
func workBench(h *helper) {
	path := filepath.Join(h.dir, "bench")
	must(os.WriteFile(path, bytes.Repeat([]byte{1}, 4096), 0o600))
	fd := must1(unix.Open(path, unix.O_RDONLY, 0))
	buffer := make([]byte, 64)
	listener, address := listen(128)
	shell := must1(filepath.EvalSymlinks("/bin/sh"))
	rename(workCommand())
	for {
		line, err := h.input.ReadString('\n')
		if err != nil {
			return
		}
		var kind string
		var n int
		must1(fmt.Sscanf(line, "%s %d", &kind, &n))
		start := time.Now()
		switch kind {
		case "file":
			for range n {
				file := must1(unix.Open(path, unix.O_RDONLY, 0))
				must1(unix.Read(file, buffer))
				must(unix.Close(file))
			}
		case "connection":
			for range n {
				client, server := connection(listener, address)
				must1(unix.Write(client, buffer))
				must1(unix.Read(server, buffer))
				// A reset, so that no ports are used up.
				must(unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
				must(unix.Close(client))
				must(unix.Close(server))
			}
		case "process":
			for range n {
				spawn(shell, "-c", ":")
			}
		case "getppid":
			calls(n)
		case "pread":
			at := uintptr(unsafe.Pointer(&buffer[0]))
			for range n {
				_, _, _ = unix.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), at, uintptr(len(buffer)), 0, 0, 0)
			}
		}
		fmt.Println(time.Since(start).Nanoseconds())
	}
}

// A receiver in this process, which makes N calls itself and says how many of them it has seen.
func workOwnCalls(h *helper) {
	r := start(h.t, configure(h.t, `probes: {syscall: {include: [getppid]}}`), &sink{})
	h.named(func() { calls(h.argument.N) })
	must(r.Shutdown(context.Background()))
	own := 0
	for _, e := range r.sink.all() {
		if e.Comm() == workCommand() {
			own++
		}
	}
	fmt.Println("pid", os.Getpid(), "own", own)
}

// A receiver that simulates and says of each batch what it is, until the process is killed.
func workSimulation(h *helper) {
	yaml := fmt.Sprintf("{pin_path: %s, probes: {simulate: {events: %d}}}", h.argument.PinPath, h.argument.Events)
	start(h.t, configure(h.t, yaml), &sink{answer: func(batch event.Batch) error {
		_, err := fmt.Printf("batch %d %d %t\n", batch.Sequence, batch.Len(), batch.Redelivered)
		return err
	}})
	select {}
}

// A receiver that starts with no other capabilities than the given ones, and says what is missing.
func workCapabilities(h *helper) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var set [2]unix.CapUserData
	for _, capability := range h.argument.Capabilities {
		set[capability/32].Effective |= 1 << (capability % 32)
		set[capability/32].Permitted |= 1 << (capability % 32)
	}
	must(unix.Capset(&header, &set[0])) // of this thread only
	r := create(h.t, configure(h.t, `probes: {process: , network: , filesystem: , syscall: , simulate: {events: 10}}`), &sink{})
	fmt.Println(r.Start(context.Background(), r.host))
	must(r.Shutdown(context.Background()))
}
