//go:build linux && kernel

package bpfreceiver

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// Opcodes, flags and offsets, include/uapi/linux/io_uring.h.
const (
	uringFsync           = 3
	uringReadv           = 1
	uringSendmsg         = 9
	uringRecvmsg         = 10
	uringAccept          = 13
	uringLinkTimeout     = 15
	uringConnect         = 16
	uringOpenat          = 18
	uringRead            = 22
	uringWrite           = 23
	uringSend            = 26
	uringRecv            = 27
	uringRenameat        = 35
	uringUnlinkat        = 36
	uringFixedFile       = 1 << 0
	uringLink            = 1 << 2
	uringAsync           = 1 << 4
	uringSkipSuccess     = 1 << 6
	uringSQPoll          = 1 << 1
	uringNeedWakeup      = 1 << 0
	uringEnterGet        = 1 << 0
	uringEnterWakeup     = 1 << 1
	uringAcceptMulti     = 1 << 0
	uringSQEsOffset      = 0x10000000
	uringRegisterFiles   = 2
	uringUnregisterFiles = 3
	uringEntries         = 64
)

// uringRequest is struct io_uring_sqe.
type uringRequest struct {
	opcode, flags  uint8
	priority       uint16
	fd             int32
	offset         uint64 // also: of accept and connect, a second address; of renameat, the new path
	address        uint64
	length         uint32
	operationFlags uint32
	data           uint64
	buffer         uint16
	personality    uint16
	slot           uint32
	_              [2]uint64
}

// uringResult is struct io_uring_cqe.
type uringResult struct {
	data   uint64
	result int32
	flags  uint32
}

// uringParams is struct io_uring_params.
type uringParams struct {
	entries, results, flags, cpu, idle, features, queue uint32
	_                                                   [3]uint32
	submission                                          struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	completion struct {
		head, tail, mask, entries, overflow, results, flags, _ uint32
		_                                                      uint64
	}
}

// uring is an io_uring instance.
type uring struct {
	fd                         int
	params                     uringParams
	rings, requests            []byte
	submitHead, submitTail     *uint32
	submitFlags                *uint32
	array                      []uint32
	completeHead, completeTail *uint32
	results                    []uringResult
}

func newUring(flags uint32) *uring {
	r := &uring{params: uringParams{flags: flags, idle: 1000}}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uringEntries, uintptr(unsafe.Pointer(&r.params)), 0)
	must(errnoOf(0, 0, errno))
	r.fd = int(fd)
	p := &r.params
	size := max(p.submission.array+4*p.entries, p.completion.results+uint32(unsafe.Sizeof(uringResult{}))*p.results)
	r.rings = must1(unix.Mmap(r.fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE))
	r.requests = must1(unix.Mmap(r.fd, uringSQEsOffset, int(p.entries)*int(unsafe.Sizeof(uringRequest{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE))
	at := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[offset])) }
	r.submitHead, r.submitTail, r.submitFlags = at(p.submission.head), at(p.submission.tail), at(p.submission.flags)
	r.completeHead, r.completeTail = at(p.completion.head), at(p.completion.tail)
	r.array = unsafe.Slice(at(p.submission.array), p.entries)
	r.results = unsafe.Slice((*uringResult)(unsafe.Pointer(at(p.completion.results))), p.results)
	return r
}

func (r *uring) close() {
	must(unix.Munmap(r.requests))
	must(unix.Munmap(r.rings))
	must(unix.Close(r.fd))
}

// submit makes requests, all at once, and returns when so many results are there.
func (r *uring) submit(wait int, requests ...uringRequest) []int32 {
	tail := atomic.LoadUint32(r.submitTail)
	sqes := unsafe.Slice((*uringRequest)(unsafe.Pointer(&r.requests[0])), r.params.entries)
	for i, request := range requests {
		at := (tail + uint32(i)) % r.params.entries
		sqes[at], r.array[at] = request, at
	}
	atomic.StoreUint32(r.submitTail, tail+uint32(len(requests)))
	flags := uintptr(uringEnterGet)
	if r.params.flags&uringSQPoll != 0 && atomic.LoadUint32(r.submitFlags)&uringNeedWakeup != 0 {
		flags |= uringEnterWakeup
	}
	taken, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(len(requests)), uintptr(wait), flags, 0, 0)
	must(errnoOf(0, 0, errno))
	if int(taken) != len(requests) {
		panic(taken)
	}
	var results []int32
	head := atomic.LoadUint32(r.completeHead)
	for ; head != atomic.LoadUint32(r.completeTail); head++ {
		results = append(results, r.results[head%r.params.results].result)
	}
	atomic.StoreUint32(r.completeHead, head)
	return results
}

// do makes requests and wants exactly these results, one for each, in any order.
func (r *uring) do(want int32, requests ...uringRequest) {
	for _, result := range r.submit(len(requests), requests...) {
		if result != want {
			panic(unix.Errno(-result).Error())
		}
	}
}

// many returns n requests like this one, each behind the one before in its file.
func many(n int, request uringRequest) []uringRequest {
	requests := make([]uringRequest, n)
	for i := range requests {
		requests[i] = request
		requests[i].offset += uint64(i) * uint64(request.length)
	}
	return requests
}

func addressOf[T any](value *T) uint64 { return uint64(uintptr(unsafe.Pointer(value))) }

func sendmsg(to *unix.RawSockaddrInet4, data []byte) *unix.Msghdr {
	message := &unix.Msghdr{Iov: &unix.Iovec{Base: &data[0], Len: uint64(len(data))}, Iovlen: 1}
	if to != nil {
		message.Name, message.Namelen = (*byte)(unsafe.Pointer(to)), unix.SizeofSockaddrInet4
	}
	return message
}

func rawAddress(address *unix.SockaddrInet4) *unix.RawSockaddrInet4 {
	raw := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: address.Addr}
	port := (*[2]byte)(unsafe.Pointer(&raw.Port))
	port[0], port[1] = byte(address.Port>>8), byte(address.Port)
	return raw
}

// 50 writes of 4,096 bytes, 50 reads of as many, 5 reads of 7 bytes by workers of the kernel, 5 of 3 by a registered
// descriptor, 10 past the end, 2 that the file is not open for and of which the second is not begun, and 1 fsync. What is no
// event: a bad descriptor, and 5 reads of a pipe.
func workUringFiles(h *helper) {
	path := filepath.Join(h.dir, "uring-file")
	file := must1(unix.Open(path, unix.O_RDWR|unix.O_CREAT, 0o600))
	writeOnly := must1(unix.Open(path, unix.O_WRONLY, 0))
	pipe := make([]int, 2)
	must(unix.Pipe(pipe))
	must1(unix.Write(pipe[1], make([]byte, 100)))
	buffer := make([]byte, 4096)
	request := func(opcode uint8, fd int, length uint32, offset uint64) uringRequest {
		return uringRequest{opcode: opcode, fd: int32(fd), address: addressOf(&buffer[0]), length: length, offset: offset}
	}
	h.named(func() {
		r := newUring(0)
		r.do(4096, many(50, request(uringWrite, file, 4096, 0))...)
		r.do(4096, many(25, request(uringRead, file, 4096, 0))...)
		vector := unix.Iovec{Base: &buffer[0], Len: 4096}
		for i := range 25 {
			r.do(4096, uringRequest{opcode: uringReadv, fd: int32(file), address: addressOf(&vector), length: 1, offset: uint64(i) * 4096})
		}
		byWorker := request(uringRead, file, 7, 0)
		byWorker.flags = uringAsync
		r.do(7, many(5, byWorker)...)
		fds := int32(file)
		must(errnoOf(unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), uringRegisterFiles, uintptr(unsafe.Pointer(&fds)), 1, 0, 0)))
		registered := request(uringRead, 0, 3, 0)
		registered.flags = uringFixedFile
		r.do(3, many(5, registered)...)
		r.do(0, many(10, request(uringRead, file, 4096, 50*4096))...)
		r.do(0, uringRequest{opcode: uringFsync, fd: int32(file)})
		failing := request(uringRead, writeOnly, 4096, 0)
		failing.flags = uringLink
		if results := r.submit(2, failing, request(uringRead, file, 4096, 0)); !slices.Equal(results, []int32{-int32(unix.EBADF), -int32(unix.ECANCELED)}) {
			panic(fmt.Sprint(results))
		}
		r.do(-int32(unix.EBADF), request(uringRead, 1_000_000, 4096, 0))
		r.do(1, many(5, request(uringRead, pipe[0], 1, 0))...)
		r.close()
	})
}

// Opens, renames and unlinks a file, and fails to.
func workUringPaths(h *helper) {
	path := func(name string) uint64 { return addressOf(must1(unix.BytePtrFromString(filepath.Join(h.dir, name)))) }
	const here = unix.AT_FDCWD
	h.named(func() {
		r := newUring(0)
		results := r.submit(1, uringRequest{opcode: uringOpenat, fd: here, address: path("a"), operationFlags: unix.O_CREAT | unix.O_RDWR, length: 0o600})
		if len(results) != 1 || results[0] < 0 {
			panic(fmt.Sprint(results))
		}
		r.do(0, uringRequest{opcode: uringRenameat, fd: here, address: path("a"), offset: path("b"), length: uint32(0xffffff9c)})
		r.do(0, uringRequest{opcode: uringUnlinkat, fd: here, address: path("b")})
		r.do(-int32(unix.ENOENT), uringRequest{opcode: uringUnlinkat, fd: here, address: path("b")})
		r.do(-int32(unix.ENOENT), uringRequest{opcode: uringOpenat, fd: here, address: path("b")})
		r.close()
	})
}

// Results that no tracepoint tells of: 5 sends that succeed and were to say nothing then, whose memory 5 others use, and
// two connections that one accept returns. It and a receive still wait when their ring goes, and another when the process does.
func workUringUnseen(h *helper) {
	pair := must1(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	data := make([]byte, 100)
	listener, address := listen(16)
	h.named(func() {
		r := newUring(0)
		send := uringRequest{opcode: uringSend, fd: int32(pair[0]), address: addressOf(&data[0]), length: 100}
		quiet := send
		quiet.flags = uringSkipSuccess
		r.submit(0, many(5, quiet)...)
		r.do(100, many(5, send)...)
		r.submit(0, uringRequest{opcode: uringAccept, fd: int32(listener), priority: uringAcceptMulti})
		for range 2 {
			must(unix.Connect(stream(0), address))
			if results := r.submit(1); len(results) != 1 || results[0] < 0 {
				panic(fmt.Sprint(results))
			}
		}
		receive := uringRequest{opcode: uringRecv, fd: int32(pair[0]), address: addressOf(&data[0]), length: 100}
		r.submit(0, receive)
		r.close()
		newUring(0).submit(0, receive)
	})
}

// 5 writes that a thread of the kernel takes by itself.
func workUringPolled(h *helper) {
	file := must1(unix.Open(filepath.Join(h.dir, "uring-file"), unix.O_RDWR|unix.O_CREAT, 0o600))
	buffer := make([]byte, 4096)
	r := newUring(uringSQPoll)
	r.do(4096, many(5, uringRequest{opcode: uringWrite, fd: int32(file), address: addressOf(&buffer[0]), length: 4096})...)
	r.close()
}

// Datagrams between two sockets that are not connected, 20 sent and received; of them one that is only looked at first, and
// one that is cut. A receive that would block, and one that a time limit ends. Then a connection of TCP that sends 10 times 100 bytes, and one back; a refused
// one; and two whose other end has no descriptor.
func workUringSockets(h *helper) {
	buffer, data := make([]byte, 100), make([]byte, 100)
	pair := must1(unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0))
	bound := func() (int, *unix.SockaddrInet4) {
		fd := must1(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
		must(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
		return fd, must1(unix.Getsockname(fd)).(*unix.SockaddrInet4)
	}
	one, _ := bound()
	two, toTwo := bound()
	listener, address := listen(16)
	refuser, refused := listen(1)
	must(unix.Close(refuser))
	h.named(func() {
		r := newUring(0)
		request := func(opcode uint8, fd int, flags uint32) uringRequest {
			from := &buffer[0]
			if opcode == uringSend || opcode == uringWrite {
				from = &data[0]
			}
			return uringRequest{opcode: opcode, fd: int32(fd), address: addressOf(from), length: 100, operationFlags: flags}
		}
		for range 10 {
			r.do(100, request(uringSend, pair[0], 0))
			r.do(100, request(uringRecv, pair[1], 0))
		}
		for range 10 { // in this order, the receive waits
			if results := r.submit(0, request(uringRecv, pair[1], 0)); len(results) != 0 {
				panic(fmt.Sprint(results))
			}
			if results := r.submit(2, request(uringSend, pair[0], 0)); !slices.Equal(results, []int32{100, 100}) {
				panic(fmt.Sprint(results))
			}
		}
		r.do(-int32(unix.EAGAIN), request(uringRecv, pair[1], unix.MSG_DONTWAIT))
		r.do(100, request(uringSend, pair[0], 0))
		r.do(100, request(uringRecv, pair[1], unix.MSG_PEEK))
		cut := request(uringRecv, pair[1], unix.MSG_TRUNC)
		cut.length = 30
		r.do(100, cut)
		limited := request(uringRecv, pair[1], 0)
		limited.flags = uringLink
		limit := unix.Timespec{Nsec: 1_000_000}
		results := r.submit(2, limited, uringRequest{opcode: uringLinkTimeout, fd: -1, address: addressOf(&limit), length: 1})
		if !slices.Contains(results, -int32(unix.ECANCELED)) {
			panic(fmt.Sprint(results))
		}
		message := sendmsg(rawAddress(toTwo), data)
		r.do(100, uringRequest{opcode: uringSendmsg, fd: int32(one), address: addressOf(message), length: 1})
		from := sendmsg(&unix.RawSockaddrInet4{}, buffer)
		r.do(100, uringRequest{opcode: uringRecvmsg, fd: int32(two), address: addressOf(from), length: 1})

		client := stream(0)
		r.do(0, uringRequest{opcode: uringConnect, fd: int32(client), address: addressOf(rawAddress(address)), offset: unix.SizeofSockaddrInet4})
		results = r.submit(1, uringRequest{opcode: uringAccept, fd: int32(listener)})
		if len(results) != 1 || results[0] < 0 {
			panic(fmt.Sprint(results))
		}
		server := int(results[0])
		for range 10 {
			r.do(100, request(uringWrite, client, 0))
			r.do(100, request(uringRead, server, 0))
		}
		must(unix.Close(client))
		must(unix.Close(server))
		r.do(-int32(unix.ECONNREFUSED), uringRequest{opcode: uringConnect, fd: int32(stream(0)), address: addressOf(rawAddress(refused)), offset: unix.SizeofSockaddrInet4})

		fds := []int32{-1, -1}
		must(errnoOf(unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), uringRegisterFiles, uintptr(unsafe.Pointer(&fds[0])), 2, 0, 0)))
		client = stream(0)
		must(unix.Connect(client, address))
		r.do(0, uringRequest{opcode: uringAccept, fd: int32(listener), slot: 1 + 1})
		must(errnoOf(unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), uringUnregisterFiles, 0, 0, 0, 0))) // closes that end
		must(unix.Close(client))
		r.close()
	})
}

// requireUring skips where the kernel does not say which result of io_uring is of which request.
func requireUring(t *testing.T) {
	t.Helper()
	kernel, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	if !bpf.TracesUring(kernel) {
		t.Skip("before Linux 6.3, or without io_uring")
	}
}

// Each request is an event when it has its result.
func TestUringFiles(t *testing.T) {
	requireUring(t)
	events := trace(t, `probes: {network: {command: [$COMMAND]}, filesystem: {operation: [read, write, fsync], command: [$COMMAND]}}`, "uring_files", argument{})
	checkTally(t, tally{
		"filesystem.write": {events: 50, bytes: 50 * 4096}, "filesystem.fsync": {events: 1}, "filesystem.read EBADF": {events: 1},
		"filesystem.read": {events: 50 + 5 + 5 + 10, bytes: 50*4096 + 5*7 + 5*3},
	}, events)
	for i := range events {
		assert.Equal(t, "uring-file", events[i].Name())
		assert.Equal(t, workCommand(), events[i].Comm())
		assert.NotZero(t, events[i].Duration)
		assert.Zero(t, events[i].Flags)
	}
}

func TestUringPaths(t *testing.T) {
	requireUring(t)
	events := trace(t, `probes: {filesystem: {operation: [open, unlink, rename], command: [$COMMAND]}}`, "uring_paths", argument{})
	checkTally(t, tally{
		"filesystem.open": {events: 1}, "filesystem.rename": {events: 1}, "filesystem.unlink": {events: 1},
		"filesystem.unlink ENOENT": {events: 1}, "filesystem.open ENOENT": {events: 1},
	}, events)
	for i := range events {
		assert.True(t, strings.HasPrefix(events[i].Name(), "/"), events[i].Name())
	}
}

func TestUringSockets(t *testing.T) {
	requireUring(t)
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "uring_sockets", argument{})
	checkTally(t, tally{
		"network.send": {events: 20 + 1 + 1 + 10, bytes: 32 * 100}, "network.receive": {events: 20 + 1 + 1 + 10, bytes: 31*100 + 30},
		"network.receive ECANCELED": {events: 1},
		"network.connect":           {events: 2}, "network.connect ECONNREFUSED": {events: 1}, "network.accept": {events: 2}, "network.close": {events: 4},
	}, events)
	datagrams := 0
	for i := range events {
		e, network := &events[i], events[i].Network()
		assert.Equal(t, workCommand(), e.Comm())
		assert.Zero(t, e.Flags)
		if network.Family == unix.AF_INET {
			assert.NotZero(t, network.RemotePort, e.OperationName())
			assert.Equal(t, [4]byte{127, 0, 0, 1}, [4]byte(network.RemoteAddress[:4]))
		}
		if network.Protocol == unix.IPPROTO_UDP {
			datagrams++
		}
	}
	assert.Equal(t, 2, datagrams)
}

// A thread of the kernel that takes requests goes by the name of the process.
func TestUringPolled(t *testing.T) {
	requireUring(t)
	p := begin(t, "uring_polled", argument{})
	r := start(t, configure(t, fmt.Sprintf(`probes: {filesystem: {operation: [write], pid: {min: %[1]d, max: %[1]d}}}`, p.pid())), &sink{})
	p.tell()
	p.end()
	r.stop(t)
	events := slices.DeleteFunc(r.sink.all(), func(e event.Event) bool { return e.Name() != "uring-file" })
	checkTally(t, tally{"filesystem.write": {events: 5, bytes: 5 * 4096}}, events)
	for i := range events {
		assert.NotContains(t, events[i].Comm(), "iou-")
	}
}

func TestUringUnseen(t *testing.T) {
	requireUring(t)
	r := start(t, configure(t, `probes: {network: {operation: [send, receive, accept], command: [$COMMAND]}}`), &sink{})
	work(t, "uring_unseen", argument{})
	assert.EqualValues(t, 5+2, r.metric(t, "missed", "cause")["io_uring"])
	r.stop(t)
	checkTally(t, tally{"network.send": {events: 5, bytes: 500}}, r.sink.all())
}

// What is not wanted is not reported, and not missed.
func TestUringFiltered(t *testing.T) {
	requireUring(t)
	for _, test := range []struct {
		yaml string
		want tally
	}{
		{`{operation: [read], command: [$COMMAND], errors_only: true}`, tally{"filesystem.read EBADF": {events: 1}}},
		{`{operation: [fsync], command: [$COMMAND]}`, tally{"filesystem.fsync": {events: 1}}},
		{`{operation: [read, write], command: [$COMMAND], min_duration: 1h}`, tally{}},
		{`{operation: [read, write], command: [another]}`, tally{}},
	} {
		r := start(t, configure(t, "probes: {filesystem: "+test.yaml+"}"), &sink{})
		work(t, "uring_files", argument{})
		assert.Zero(t, r.metric(t, "missed", "cause")["io_uring"], test.yaml)
		r.stop(t)
		checkTally(t, test.want, r.sink.all())
	}
}
