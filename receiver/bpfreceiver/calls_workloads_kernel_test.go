//go:build linux && kernel

package bpfreceiver

// System calls whose result or arguments are not what they seem, made by the other process.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/syscalls"
	"github.com/kernelpipe/kernelpipe/internal/testprogram"
)

// deny has seccomp do action with these calls of this thread, and of the programs that it executes. With flags
// SECCOMP_FILTER_FLAG_NEW_LISTENER it returns the listener.
func deny(action uint32, flags uintptr, numbers ...uintptr) uintptr {
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number
	for _, number := range numbers {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(number), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		panic(errno)
	}
	return fd
}

// handle has a handler that does nothing take a signal, with these flags of sigaction(2).
func handle(signal unix.Signal, flags uintptr) {
	const onStack, hasRestorer = 0x08000000, 0x04000000
	code := map[string][]byte{
		"amd64": {0xc3, 0xb8, 15, 0, 0, 0, 0x0f, 0x05}, // ret; the restorer: mov eax, rt_sigreturn; syscall
		"arm64": {0xc0, 0x03, 0x5f, 0xd6},              // ret
	}[runtime.GOARCH]
	page := must1(unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS))
	copy(page, code)
	at := uintptr(unsafe.Pointer(&page[0]))
	action := [4]uintptr{at, flags | onStack} // struct sigaction of the kernel: handler, flags, restorer, mask
	if runtime.GOARCH == "amd64" {
		action[1] |= hasRestorer
		action[2] = at + 1
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); errno != 0 {
		panic(errno)
	}
}

// N times each of these calls, which seccomp denies by Action.
func workDenied(h *helper) {
	handle(unix.SIGSYS, 0)
	pair := must1(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	file := must1(unix.Open(filepath.Join(h.dir, "file"), unix.O_RDWR|unix.O_CREAT, 0o600))
	listener, _ := listen(1)
	data := make([]byte, 100)
	vector := unix.Iovec{Base: &data[0]}
	vector.SetLen(len(data))
	at, name := uintptr(unsafe.Pointer(&data[0])), uintptr(unsafe.Pointer(&[]byte("/kp-gone\x00")[0]))
	here := ^uintptr(99) // AT_FDCWD
	calls := [][4]uintptr{
		{unix.SYS_OPENAT, here, name, 0},
		{unix.SYS_SENDTO, uintptr(pair[0]), at, 100},
		{unix.SYS_PWRITE64, uintptr(file), at, 100},
		{unix.SYS_WRITEV, uintptr(file), uintptr(unsafe.Pointer(&vector)), 1},
		{unix.SYS_ACCEPT, uintptr(listener), 0, 0},
		{unix.SYS_GETPPID, 0, 0, 0},
		{unix.SYS_UNLINKAT, here, name, 0},
		{unix.SYS_EXECVE, name, 0, 0},
	}
	var numbers []uintptr
	for _, call := range calls {
		numbers = append(numbers, call[0])
	}
	deny(h.argument.Action, 0, numbers...)
	h.named(func() {
		for range h.argument.N {
			for _, call := range calls {
				_, _, _ = unix.RawSyscall6(call[0], call[1], call[2], call[3], 0, 0, 0)
			}
		}
	})
}

// N processes that seccomp kills as they remove a file.
func workKilled(h *helper) {
	program := filepath.Join(h.dir, workCommand())
	must(testprogram.Write(program, testprogram.Brief))
	for _, name := range []string{"unlink", "unlinkat"} {
		if number, ok := syscalls.Number(name); ok {
			deny(unix.SECCOMP_RET_KILL_PROCESS, 0, uintptr(number))
		}
	}
	h.named(func() {
		for range h.argument.N {
			if status := spawn(program); status.Signal() != unix.SIGSYS {
				panic(fmt.Sprint(status))
			}
		}
	})
}

// seccompNotification and seccompAnswer are the beginnings of struct seccomp_notif and seccomp_notif_resp, which are longer.
type seccompNotification struct {
	id  uint64
	pid uint32
	_   [80]byte
}

type seccompAnswer struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

// N calls that a supervisor answers with the call's own number, and N that it fails with EBUSY.
func workAnswered(h *helper) {
	const newListener = 8
	listener := deny(unix.SECCOMP_RET_USER_NOTIF, newListener, unix.SYS_GETPPID)
	go func() {
		for i := range 2 * h.argument.N {
			var notification seccompNotification
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, listener, 0xc0502100, uintptr(unsafe.Pointer(&notification))); errno != 0 {
				return
			}
			answer := seccompAnswer{id: notification.id, value: unix.SYS_GETPPID}
			if i >= h.argument.N {
				answer = seccompAnswer{id: notification.id, err: -int32(unix.EBUSY)}
			}
			_, _, _ = unix.Syscall(unix.SYS_IOCTL, listener, 0xc0182101, uintptr(unsafe.Pointer(&answer)))
		}
	}()
	h.named(func() {
		for range 2 * h.argument.N {
			_, _, _ = unix.Syscall(unix.SYS_GETPPID, 0, 0, 0)
		}
	})
}

// N successful calls with a result below 0.
func workOddResults(h *helper) {
	memory := must1(unix.Open("/proc/self/mem", unix.O_RDONLY, 0))
	h.named(func() {
		for range h.argument.N {
			offset := ^uintptr(0xa00000 - 1)
			at, _, _ := unix.RawSyscall(unix.SYS_LSEEK, uintptr(memory), offset, unix.SEEK_SET)
			if at != offset {
				panic(at)
			}
		}
	})
}

const execCheck = 0x10000 // AT_EXECVE_CHECK, since 6.14

// N questions whether a program may be executed, and N whether a file may be that is none. Then one that is.
func workExecChecks(h *helper) {
	program := h.link("/bin/true")
	file := filepath.Join(h.dir, "file")
	must(os.WriteFile(file, []byte("x"), 0o600))
	execveat := func(path string, flags int) error {
		name := append([]byte(path), 0)
		arguments := [2]*byte{&name[0]}
		_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, ^uintptr(99), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&arguments)),
			uintptr(unsafe.Pointer(&arguments[1])), uintptr(flags), 0)
		if errno != 0 {
			return errno
		}
		return nil
	}
	rename(workCommand())
	for range h.argument.N {
		must(execveat(program, execCheck))
		expectError(execveat(file, execCheck), unix.EACCES)
	}
	must(execveat(program, 0))
}

// 100 bytes through a stream and 100 in a datagram, each looked at in every way before it is read; a datagram cut on
// reading, one by one and with others; bytes of a TCP connection that are thrown away; and a message of the error queue.
func workPeeks(h *helper) {
	pair := must1(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	udp, sender := must1(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)), must1(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	must(unix.Bind(udp, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(unix.Connect(sender, must1(unix.Getsockname(udp))))
	gone, address := listen(1)
	client, server := connection(gone, address)
	refused := must1(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	must(unix.SetsockoptInt(refused, unix.SOL_IP, unix.IP_RECVERR, 1))
	must(unix.Connect(refused, address)) // there is no UDP socket at this port
	buffer := make([]byte, 1000)
	receive := func(fd, length, flags, want int) {
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buffer[0])), uintptr(length), uintptr(flags), 0, 0)
		if errno != 0 || int(n) != want {
			panic(fmt.Sprint(n, errno))
		}
	}
	receiveMessage := func(fd, flags, want int, buffers ...[]byte) {
		all := messages(buffers...)
		vectors := make([]unix.Iovec, len(all))
		for i := range all {
			vectors[i] = *all[i].header.Iov
		}
		header := unix.Msghdr{Iov: &vectors[0]}
		header.SetIovlen(len(vectors))
		n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&header)), uintptr(flags))
		if errno != 0 || int(n) != want {
			panic(fmt.Sprint(n, errno))
		}
	}
	receiveMessages := func(flags, want int, buffers ...[]byte) {
		all := messages(buffers...)
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(udp), uintptr(unsafe.Pointer(&all[0])), uintptr(len(all)), uintptr(flags), 0, 0)
		if errno != 0 || int(n) != want {
			panic(fmt.Sprint(n, errno))
		}
	}
	send := func(n int) {
		for range n {
			must1(unix.Write(sender, buffer[:100]))
		}
	}
	must1(unix.Write(pair[0], buffer[:100]))
	h.named(func() {
		receive(pair[1], 1000, unix.MSG_PEEK, 100)
		receiveMessage(pair[1], unix.MSG_PEEK, 100, buffer)
		receive(pair[1], 1000, 0, 100)
	})
	send(4)
	h.named(func() {
		receive(udp, 10, unix.MSG_PEEK|unix.MSG_TRUNC, 100)
		receiveMessage(udp, unix.MSG_PEEK, 100, buffer)
		receiveMessages(unix.MSG_PEEK, 1, buffer)
		receiveMessage(udp, 0, 100, buffer)
		receive(udp, 10, unix.MSG_TRUNC, 100)
		receiveMessage(udp, unix.MSG_TRUNC, 100, buffer[:20], buffer[:3])
		receive(udp, 1000, unix.MSG_TRUNC, 100)
	})
	send(2)
	h.named(func() { receiveMessages(unix.MSG_TRUNC, 2, buffer[:30], buffer[:200]) })
	must1(unix.Write(client, buffer[:100]))
	h.named(func() { receive(server, 60, unix.MSG_TRUNC, 60) })
	must1(unix.Write(refused, buffer[:100]))
	must1(unix.Poll([]unix.PollFd{{Fd: int32(refused)}}, 20_000))
	h.named(func() { receiveMessage(refused, unix.MSG_ERRQUEUE, 100, buffer) })
}

// The calls of testprogram.Compat.
func workCompat(h *helper) {
	program := filepath.Join(h.dir, workCommand())
	must(testprogram.Write(program, testprogram.Compat))
	h.named(func() {
		if status := spawn(program); !status.Exited() || status.ExitStatus() != 0 {
			panic(fmt.Sprint(status))
		}
	})
}

// Runs own_time in a time namespace whose boot was N seconds earlier.
func workOtherTime(h *helper) {
	must(os.Setenv(helperWorkload, "own_time"))
	must(testprogram.InTimeNamespace(h.argument.N, func() error {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestHelperProcess$")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("go\n"), os.Stdout, os.Stderr
		return cmd.Run()
	}))
}

// A receiver in this process, which says whether an event has the time at which it was caused.
func workOwnTime(h *helper) {
	r := start(h.t, configure(h.t, `probes: {process: {operation: [exec], command: [$COMMAND]}}`), &sink{})
	before := time.Now()
	spawn(h.link("/bin/true"))
	after := time.Now()
	must(r.Shutdown(context.Background()))
	clock := must1(event.NewClock())
	for _, e := range r.sink.all() {
		at := clock.Unix(e.Time).AsTime()
		fmt.Println("in time", !at.Before(before.Add(-time.Millisecond)) && !at.After(after.Add(time.Millisecond)))
	}
}

// callNumber returns the number of a system call in decimal, of one that this architecture lacks "none".
func callNumber(name string) string {
	if number, ok := syscalls.Number(name); ok {
		return strconv.Itoa(number)
	}
	return "none"
}
