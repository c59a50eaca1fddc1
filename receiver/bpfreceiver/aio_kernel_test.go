//go:build linux && kernel

package bpfreceiver

import (
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// iocb is struct iocb, include/uapi/linux/aio_abi.h.
type iocb struct {
	_      uint64    // aio_data
	_      [2]uint32 // aio_key, aio_rw_flags
	opcode uint16
	_      int16 // aio_reqprio
	fd     uint32
	buffer *byte
	length uint64
	offset int64
	_      [2]uint64
}

// ioEvent is struct io_event there.
type ioEvent struct {
	data, object   uint64
	result, second int64
}

// 50 writes of 4,096 bytes, 50 reads of as many, and one fdatasync; 10 reads past the end, a bad descriptor behind a good one,
// 5 reads of a pipe, and 300 reads of 1 byte in one call. The results of the last 3 reads are not fetched, and their
// control blocks are used again.
func workAIO(h *helper) {
	const fdatasync, read, write = 3, 0, 1
	var context uintptr
	must(errnoOf(unix.Syscall(unix.SYS_IO_SETUP, 1024, uintptr(unsafe.Pointer(&context)), 0)))
	file := must1(unix.Open(filepath.Join(h.dir, "aio-file"), unix.O_RDWR|unix.O_CREAT, 0o600))
	pipe := make([]int, 2)
	must(unix.Pipe(pipe))
	must1(unix.Write(pipe[1], make([]byte, 100)))
	buffer := make([]byte, 4096)
	blocks := make([]iocb, 300)
	results := make([]ioEvent, 300)
	submit := func(n, want int, block func(i int) iocb) {
		pointers := make([]*iocb, n)
		for i := range pointers {
			blocks[i] = block(i)
			if blocks[i].length > 0 {
				blocks[i].buffer = &buffer[0]
			}
			pointers[i] = &blocks[i]
		}
		taken, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, context, uintptr(n), uintptr(unsafe.Pointer(&pointers[0])))
		if errno != 0 || int(taken) != want {
			panic(errno)
		}
	}
	fetch := func(n int) {
		got, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, context, uintptr(n), uintptr(n), uintptr(unsafe.Pointer(&results[0])), 0, 0)
		if errno != 0 || int(got) != n {
			panic(errno)
		}
	}
	all := func(opcode uint16, fd int, length uint64, offset int64) func(int) iocb {
		return func(i int) iocb {
			return iocb{opcode: opcode, fd: uint32(fd), length: length, offset: offset + int64(i)*int64(length)}
		}
	}
	h.named(func() {
		submit(50, 50, all(write, file, 4096, 0))
		fetch(50)
		submit(50, 50, all(read, file, 4096, 0))
		fetch(20)
		fetch(30)
		submit(1, 1, all(fdatasync, file, 0, 0))
		fetch(1)
		submit(10, 10, all(read, file, 4096, 50*4096))
		fetch(10)
		submit(2, 1, func(i int) iocb { return iocb{opcode: read, fd: uint32(file) + uint32(i)*1_000_000, length: 7} })
		fetch(1)
		submit(5, 5, all(read, pipe[0], 1, 0))
		fetch(5)
		submit(300, 300, all(read, file, 1, 0))
		fetch(300)
		submit(3, 3, all(read, file, 1, 0))
		// Their results wait in the kernel: a program may take them from there.
		submit(3, 3, all(read, file, 1, 0))
	})
}

func errnoOf(_, _ uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// Each operation is an event when its result is fetched.
func TestAsynchronousIO(t *testing.T) {
	r := start(t, configure(t, `probes: {filesystem: {operation: [read, write, fsync], command: [$COMMAND]}}`), &sink{})
	work(t, "aio", argument{})
	// 44 for which one call has no room, and 3 that were never fetched.
	assert.EqualValues(t, 44+3, r.metric(t, "missed", "cause")["aio"])
	r.stop(t)
	events := r.sink.all()
	checkTally(t, tally{
		"filesystem.write": {events: 50, bytes: 50 * 4096}, "filesystem.fsync": {events: 1},
		"filesystem.read": {events: 50 + 10 + 1 + 256, bytes: 50*4096 + 7 + 256},
	}, events)
	for i := range events {
		assert.Equal(t, "aio-file", events[i].Name())
		assert.NotZero(t, events[i].Duration)
		assert.Zero(t, events[i].Flags)
		assert.Equal(t, event.CategoryFilesystem, events[i].Category)
	}
}
