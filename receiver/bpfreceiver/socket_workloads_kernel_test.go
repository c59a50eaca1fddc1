//go:build linux && kernel

package bpfreceiver

// What the other process does with sockets, each a known number of calls and connections.

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// discards has a socket drop all packets that come for it: a listening socket is a black hole then.
func discards(fd int) {
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	must(unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}))
}

// retransmitted returns the kernel's TcpRetransSegs of this thread's network namespace.
func retransmitted() int {
	var names []string
	for line := range strings.Lines(string(must1(os.ReadFile("/proc/thread-self/net/snmp")))) {
		fields := strings.Fields(line)
		if fields[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "RetransSegs" {
				return must1(strconv.Atoi(fields[i]))
			}
		}
	}
	panic("no RetransSegs")
}

// awaitRetransmitted returns when the kernel has retransmitted n segments or more.
func awaitRetransmitted(n int) {
	for deadline := time.Now().Add(time.Minute); retransmitted() < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			panic(fmt.Sprint(retransmitted(), " segments retransmitted, want ", n))
		}
	}
}

// writable waits until a connect has come to its end.
func writable(fd int) {
	must1(unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 20_000))
}

// reset closes a socket without anything going on behind it.
func reset(fd int) {
	must(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	must(unix.Close(fd))
}

// A SYN, a SYN-ACK, and data in big buffers of small segments are sent again, in a network namespace of its own, by
// sockets with an address of its own. Says how often in the kernel's count.
func workRetransmits(h *helper) {
	isolate()
	at := ownLoopback(os.Getpid())
	h.named(func() {
		deaf, deafAddress := listenAt(at, 16)
		discards(deaf)
		fd := stream(unix.SOCK_NONBLOCK)
		expectError(unix.Connect(fd, deafAddress), unix.EINPROGRESS)
		awaitRetransmitted(1)
		must(unix.Close(fd))

		before := retransmitted()
		listener, address := listenAt(at, 16)
		fd = stream(unix.SOCK_NONBLOCK)
		discards(fd)
		expectError(unix.Connect(fd, address), unix.EINPROGRESS)
		awaitRetransmitted(before + 2) // the SYN, and with it the SYN-ACK
		must(unix.Close(fd))
		must(unix.Close(listener))

		before = retransmitted()
		listener = stream(0)
		must(unix.Bind(listener, &unix.SockaddrInet4{Addr: at}))
		must(unix.SetsockoptInt(listener, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 500))
		must(unix.Listen(listener, 16))
		client, server := connection(listener, must1(unix.Getsockname(listener)))
		discards(server)
		must(unix.SetNonblock(client, true))
		sent := 0
		for {
			n, err := unix.Write(client, make([]byte, 50_000))
			if err != nil {
				expectError(err, unix.EAGAIN)
				break
			}
			sent += n
		}
		awaitRetransmitted(before + 2)
		must(unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
		for buffer := make([]byte, 1<<20); sent > 0; {
			sent -= must1(unix.Read(server, buffer))
		}
		reset(client)
		reset(server)
	})
	fmt.Println("retransmitted", retransmitted())
}

// N sockets that connect to themselves.
func workTCPSelf(h *helper) {
	isolate()
	h.named(func() {
		for range h.argument.N {
			fd := stream(0)
			must(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
			must(unix.Connect(fd, must1(unix.Getsockname(fd))))
			must1(unix.Write(fd, []byte("hello")))
			must1(unix.Read(fd, make([]byte, 10)))
			must(unix.Close(fd))
		}
	})
}

// The flags of TCP that sendTCP takes.
const (
	tcpSYN = 2
	tcpRST = 4
)

// sendTCP sends a packet without data from one IPv4 address to another, through a raw socket.
func sendTCP(raw int, from, to *unix.SockaddrInet4, sequence uint32, flags byte) {
	const header, words = 20, 5
	pseudo := append(append([]byte{}, from.Addr[:]...), to.Addr[:]...)
	pseudo = append(pseudo, 0, unix.IPPROTO_TCP, 0, header)
	packet := make([]byte, header)
	binary.BigEndian.PutUint16(packet, uint16(from.Port))
	binary.BigEndian.PutUint16(packet[2:], uint16(to.Port))
	binary.BigEndian.PutUint32(packet[4:], sequence)
	packet[12], packet[13] = words<<4, flags
	binary.BigEndian.PutUint16(packet[14:], 65_000) // window
	binary.BigEndian.PutUint16(packet[16:], checksum(append(pseudo, packet...)))
	must(unix.Sendto(raw, packet, 0, &unix.SockaddrInet4{Addr: to.Addr}))
}

// tcpState returns a socket's state as the kernel numbers them.
func tcpState(fd int) uint8 {
	return must1(unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)).State
}

// N connects that get a SYN instead of an answer, and then a reset; and N more, which are closed before that.
func workTCPSimultaneous(h *helper) {
	const synRecv = 3
	isolate()
	raw := must1(unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP))
	deaf, address := listen(16)
	discards(deaf)
	begin := func() (fd int, local *unix.SockaddrInet4) {
		fd = stream(unix.SOCK_NONBLOCK)
		expectError(unix.Connect(fd, address), unix.EINPROGRESS)
		local, ok := must1(unix.Getsockname(fd)).(*unix.SockaddrInet4)
		if !ok {
			panic("no IPv4 address")
		}
		sendTCP(raw, address, local, 1000, tcpSYN)
		for tcpState(fd) != synRecv {
			time.Sleep(time.Millisecond)
		}
		return fd, local
	}
	h.named(func() {
		for range h.argument.N {
			fd, local := begin()
			sendTCP(raw, address, local, 1001, tcpRST)
			writable(fd)
			expectError(unix.Connect(fd, address), unix.ECONNRESET)
			must(unix.Close(fd))

			fd, local = begin()
			must(unix.Close(fd))
			sendTCP(raw, address, local, 1001, tcpRST)
		}
	})
}

// TCP Fast Open, in a network namespace of its own: N connections begun by sendto and N by the first write; N sends that
// are refused; and N sends that begin a handshake which nobody answers, on a socket that is closed then.
func workFastOpen(h *helper) {
	isolate()
	must(os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte("3"), 0o600))
	listener, address := listen(16)
	must(unix.SetsockoptInt(listener, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16))
	closed, closedAddress := listen(16)
	must(unix.Close(closed))
	deaf, deafAddress := listenAt([4]byte{127, 0, 0, 2}, 16) // another host, of which no cookie is known
	discards(deaf)
	hello := []byte("hello")
	talk := func(client int) {
		server, _, err := unix.Accept(listener)
		must(err)
		must1(unix.Read(server, make([]byte, 100)))
		must1(unix.Write(server, hello))
		must1(unix.Read(client, make([]byte, 100)))
		must(unix.Close(client))
		must(unix.Close(server))
	}
	h.named(func() {
		for range h.argument.N {
			fd := stream(0)
			must(unix.Sendto(fd, hello, unix.MSG_FASTOPEN, address))
			talk(fd)

			fd = stream(0)
			must(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1))
			must(unix.Connect(fd, address))
			must1(unix.Write(fd, hello))
			talk(fd)

			fd = stream(0)
			expectError(unix.Sendto(fd, hello, unix.MSG_FASTOPEN, closedAddress), unix.ECONNREFUSED)
			must(unix.Close(fd))

			fd = stream(unix.SOCK_NONBLOCK)
			expectError(unix.Sendto(fd, hello, unix.MSG_FASTOPEN, deafAddress), unix.EINPROGRESS)
			must(unix.Close(fd))
		}
	})
}

// For each pair of a server and a client, of which one or both have MPTCP, N connections as workTCP makes them, and N more
// that the client does not wait for; then N that are refused.
func workMPTCP(h *helper) {
	socket := func(protocol, flags int) int {
		return must1(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|flags, protocol))
	}
	data := make([]byte, 100)
	pairs := [][2]int{{unix.IPPROTO_MPTCP, 0}, {0, unix.IPPROTO_MPTCP}, {unix.IPPROTO_MPTCP, unix.IPPROTO_MPTCP}}
	h.named(func() {
		for _, pair := range pairs {
			listener := socket(pair[0], 0)
			must(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
			must(unix.Listen(listener, 16))
			address := must1(unix.Getsockname(listener))
			for i := range 2 * h.argument.N {
				client := socket(pair[1], 0)
				if i%2 == 0 {
					must(unix.Connect(client, address))
				} else {
					must(unix.SetNonblock(client, true))
					expectError(unix.Connect(client, address), unix.EINPROGRESS)
					writable(client)
					must(unix.SetNonblock(client, false))
				}
				server, _, err := unix.Accept(listener)
				must(err)
				must1(unix.Write(client, data))
				must1(unix.Read(server, data))
				must1(unix.Write(server, data[:50]))
				must1(unix.Read(client, data))
				must(unix.Close(client))
				must1(unix.Read(server, data)) // the end
				must(unix.Close(server))
			}
			must(unix.Close(listener))
		}
		listener, address := listen(1)
		must(unix.Close(listener))
		for range h.argument.N {
			client := socket(unix.IPPROTO_MPTCP, 0)
			expectError(unix.Connect(client, address), unix.ECONNREFUSED)
			must(unix.Close(client))
		}
	})
	h.wait("closed") // the kernel closes behind the calls
}

// Connects that fail at once, of TCP and UDP, to IPv4, to IPv4 mapped into IPv6, and to IPv6; and a UDP socket that is
// disconnected, which is no connect. N times.
func workUnreachable(h *helper) {
	must(unix.Unshare(unix.CLONE_NEWNET))
	h.named(func() {
		for range h.argument.N {
			for i, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
				for j, to := range unreachable() {
					domain := unix.AF_INET6
					if _, ok := to.(*unix.SockaddrInet4); ok {
						domain = unix.AF_INET
					}
					fd := must1(unix.Socket(domain, kind, 0))
					if err := unix.Connect(fd, to); err == nil {
						panic(fmt.Sprint(i, j))
					}
					must(unix.Close(fd))
				}
			}
			fd := must1(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
			disconnect(fd)
			must(unix.Close(fd))
		}
	})
}

func unreachable() []unix.Sockaddr {
	mapped := [16]byte{10: 0xff, 11: 0xff, 12: 192, 14: 2, 15: 2}
	return []unix.Sockaddr{
		&unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}, Port: 1001},
		&unix.SockaddrInet6{Addr: mapped, Port: 1002},
		&unix.SockaddrInet6{Addr: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 3}, Port: 1003},
	}
}

func disconnect(fd int) {
	address := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&address)), unsafe.Sizeof(address)); errno != 0 {
		panic(errno)
	}
}

// Datagrams between sockets that are not connected, by every call that names an address, N times; then once more in
// two that go to different sockets by one call.
func workDatagrams(h *helper) {
	isolate()
	bound := func(domain int, address unix.Sockaddr) int {
		fd := must1(unix.Socket(domain, unix.SOCK_DGRAM, 0))
		must(unix.Bind(fd, address))
		return fd
	}
	// 127.0.0.1:1001 and [::]:1002, which is that of IPv4 too.
	one := bound(unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 1001})
	two := bound(unix.AF_INET6, &unix.SockaddrInet6{Port: 1002})
	toOne := &unix.SockaddrInet6{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}, Port: 1001}
	toTwo := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 1002}
	data := make([]byte, 100)
	h.named(func() {
		for range h.argument.N {
			must(unix.Sendto(one, data, 0, toTwo))
			_, _, err := unix.Recvfrom(two, data, 0)
			must(err)
			must(unix.Sendto(two, data, 0, toOne))
			_, _, err = unix.Recvfrom(one, data, 0)
			must(err)
			must1(unix.SendmsgN(one, data, nil, toTwo, 0))
			_, _, _, _, err = unix.Recvmsg(two, data, nil, 0)
			must(err)
			must1(unix.SendmsgN(two, data, nil, toOne, 0))
			_, _, _, _, err = unix.Recvmsg(one, data, nil, 0)
			must(err)
			named := addressed(messages(data, data), toTwo.Port, toTwo.Port)
			if n := mmsg(unix.SYS_SENDMMSG, one, named); n != 2 {
				panic(n)
			}
			if n := mmsg(unix.SYS_RECVMMSG, two, addressed(messages(data, data), 0, 0)); n != 2 {
				panic(n)
			}
			must(unix.Sendto(one, data, 0, toTwo))
			recvfrom(two, data) // which does not ask where from
		}
		named := addressed(messages(data, data), 1001, 1002)
		if n := mmsg(unix.SYS_SENDMMSG, one, named); n != 2 {
			panic(n)
		}
	})
}

// addressed has messages name ports of 127.0.0.1, with room for the address of IPv6 that a call may return.
func addressed(all []mmsghdr, ports ...int) []mmsghdr {
	for i := range all {
		name := new(unix.RawSockaddrInet6)
		address := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		address.Family, address.Addr = unix.AF_INET, [4]byte{127, 0, 0, 1}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&address.Port))[:], uint16(ports[i]))
		all[i].header.Name = (*byte)(unsafe.Pointer(name))
		all[i].header.Namelen = unix.SizeofSockaddrInet4
		if ports[i] == 0 {
			all[i].header.Namelen = unix.SizeofSockaddrInet6
		}
	}
	return all
}

// Connections to a socket of IPv6 that takes those of IPv4 too: N from a socket of IPv4, N from one of IPv6 by the mapped
// address, and N of IPv6.
func workDualStack(h *helper) {
	isolate()
	listener := must1(unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0))
	must(unix.SetsockoptInt(listener, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0))
	must(unix.Bind(listener, &unix.SockaddrInet6{Port: 1001}))
	must(unix.Listen(listener, 16))
	data := make([]byte, 10)
	talk := func(domain int, to unix.Sockaddr) {
		client := must1(unix.Socket(domain, unix.SOCK_STREAM, 0))
		must(unix.Connect(client, to))
		server, _, err := unix.Accept(listener)
		must(err)
		must1(unix.Write(client, data))
		must1(unix.Read(server, data))
		reset(client)
		must(unix.Close(server))
	}
	h.named(func() {
		for range h.argument.N {
			talk(unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 1001})
			talk(unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}, Port: 1001})
			talk(unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte{15: 1}, Port: 1001})
		}
	})
}

// vsockTimeout is a time in which a connect to nobody ends.
var vsockTimeout = unix.Timeval{Usec: 100_000}

// vsockToNobody begins a connect of a vsock to a port of the local machine where nobody answers, and does not wait for it.
func vsockToNobody() (int, *unix.SockaddrVM, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, nil, err
	}
	const connectTimeout = 6 // SO_VM_SOCKETS_CONNECT_TIMEOUT
	must(unix.SetsockoptTimeval(fd, unix.AF_VSOCK, connectTimeout, &vsockTimeout))
	nobody := &unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL, Port: 9999}
	return fd, nobody, unix.Connect(fd, nobody)
}

// N connects of vsocks that do not wait, whose error getsockopt fetches.
func workOtherConnects(h *helper) {
	h.named(func() {
		for range h.argument.N {
			fd, _, err := vsockToNobody()
			expectError(err, unix.EINPROGRESS)
			must1(unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)) // it goes on, most likely
			writable(fd)
			must1(unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR))
			must1(unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR))
			must(unix.Close(fd))
		}
		for range h.argument.N { // nobody asks for the outcome, before it is there and after
			fd, _, err := vsockToNobody()
			expectError(err, unix.EINPROGRESS)
			must(unix.Close(fd))
		}
		fd, _, err := vsockToNobody()
		expectError(err, unix.EINPROGRESS)
		writable(fd)
		must(unix.Close(fd))
	})
}
