//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Record headers in the ring buffer: a length with two flag bits, and an offset that is the kernel's own
// (struct bpf_ringbuf_hdr in kernel/bpf/ringbuf.c).
const (
	recordHeader  = 8
	recordBusy    = 1 << 31
	recordDiscard = 1 << 30
)

// ringFormat is KP_RING_FORMAT.
const ringFormat = 1

// Ring reads the ring buffer. Unlike the reader of a library it leaves the kernel's consumer position where
// it is until Commit, so what was read and not delivered is there again for the next process. One goroutine
// at a time may use it; Wake and Depth are free.
type Ring struct {
	group    *group
	books    memory
	consumer []byte // one page, read-write: the consumer position
	producer []byte // one page with the producer position, then the data twice in a row, read-only
	size     uint64
	element  uint64
	read     uint64 // position up to which records were handed out
	batch    [][]byte
	doorbell int // eventfd for Wake
}

// RingBatch is what Read returns.
type RingBatch struct {
	// Records are the elements, in the ring's own memory: valid until Commit.
	Records [][]byte
	// Sequence is the number of the first one since the ring buffer was made.
	Sequence uint64
}

func ringSpecs(spec *ebpf.CollectionSpec, size uint32) map[string]*ebpf.MapSpec {
	events := spec.Maps[probesMapEvents].Copy()
	events.MaxEntries = size
	return map[string]*ebpf.MapSpec{probesMapEvents: events, probesMapRingBooks: spec.Maps[probesMapRingBooks]}
}

func openRing(path string, specs map[string]*ebpf.MapSpec, element int) (_ *Ring, err error) {
	group, err := openGroup(path, specs, func(maps map[string]*ebpf.Map) error {
		books := probesKpRingBooks{Id: newID(), Format: ringFormat, ElementSize: uint32(element)}
		return maps[probesMapRingBooks].Put(uint32(0), &books)
	})
	if err != nil {
		return nil, err
	}
	ring := &Ring{group: group, element: uint64(element), doorbell: -1}
	defer func() {
		if err != nil {
			ring.Close()
		}
	}()
	events := group.maps[probesMapEvents]
	ring.size = uint64(events.MaxEntries())
	if ring.books, err = mapMemory(group.maps[probesMapRingBooks]); err != nil {
		return nil, err
	}
	if books := ring.state(); books.Id == 0 || books.Format != ringFormat || books.ElementSize != uint32(element) {
		return nil, &ShapeError{Path: path + "/" + probesMapRingBooks, Err: fmt.Errorf("format %d with elements of %d bytes, this version has format %d with %d",
			books.Format, books.ElementSize, ringFormat, element)}
	}
	page := os.Getpagesize()
	if ring.consumer, err = unix.Mmap(events.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring buffer: %w", err)
	}
	if ring.producer, err = unix.Mmap(events.FD(), int64(page), page+2*int(ring.size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring buffer: %w", err)
	}
	if ring.doorbell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	ring.read = ring.position(ring.consumer).Load()
	return ring, nil
}

func (r *Ring) state() *probesKpRingBooks { return as[probesKpRingBooks](r.books) }

func (r *Ring) position(page []byte) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(page)))
}

// stride is what one element takes in the ring.
func (r *Ring) stride() uint64 { return (r.element + recordHeader + 7) &^ 7 }

// ID identifies the ring buffer as a source, for as long as it is pinned.
func (r *Ring) ID() uint64 { return r.state().Id }

// Read returns up to max records from where the last Read or, after Rewind, the last Commit ended. It does not wait; an empty
// batch means that there is nothing. The batch is reused by the next Read.
func (r *Ring) Read(max int) RingBatch {
	data := r.producer[os.Getpagesize():]
	end := r.position(r.producer).Load()
	r.batch = r.batch[:0]
	batch := RingBatch{Sequence: r.read / r.stride()}
	for r.read < end && len(r.batch) < max {
		at := r.read & (r.size - 1)
		header := (*atomic.Uint32)(unsafe.Pointer(&data[at])).Load()
		if header&recordBusy != 0 {
			break // a program is filling it in at this moment
		}
		length := uint64(header &^ recordDiscard)
		if header&recordDiscard != 0 || length != r.element {
			if len(r.batch) > 0 {
				break // a batch has no holes, for its numbers count on
			}
			// Only our programs write here and they write events; another's record is counted and passed over.
			r.state().Foreign++
			r.read += (length + recordHeader + 7) &^ 7
			r.position(r.consumer).Store(r.read)
			batch.Sequence = r.read / r.stride()
			continue
		}
		r.batch = append(r.batch, data[at+recordHeader:][:length:length])
		r.read += r.stride()
	}
	batch.Records = r.batch
	return batch
}

// Commit says that all that was read is delivered: the kernel may write over it.
func (r *Ring) Commit() { r.position(r.consumer).Store(r.read) }

// Rewind makes the next Read start again at what is not committed.
func (r *Ring) Rewind() { r.read = r.position(r.consumer).Load() }

// CountRedelivered notes that n events were handed on a second time.
func (r *Ring) CountRedelivered(n int) { atomic.AddUint64(&r.state().Redelivered, uint64(n)) }

// Wait returns when the mark of waiting bytes is passed, when Wake was called, or after timeout. It
// returns at once when there is something to read.
func (r *Ring) Wait(timeout time.Duration) error {
	fds := []unix.PollFd{
		{Fd: int32(r.group.maps[probesMapEvents].FD()), Events: unix.POLLIN},
		{Fd: int32(r.doorbell), Events: unix.POLLIN},
	}
	if _, err := unix.Poll(fds, int(timeout.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for ring buffer: %w", err)
	}
	if fds[1].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(r.doorbell, count[:]) // non-blocking; whoever rang, it has been heard
	}
	return nil
}

// Wake ends a Wait, the one under way or the next.
func (r *Ring) Wake() {
	_, _ = unix.Write(r.doorbell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only where 2^64-2 rings wait already
}

// Depth returns the bytes that wait to be committed, and Capacity how many fit.
func (r *Ring) Depth() uint64 {
	return r.position(r.producer).Load() - r.position(r.consumer).Load()
}

// Capacity returns the size of the ring buffer in bytes.
func (r *Ring) Capacity() uint64 { return r.size }

// Delivered returns how many events were committed since the ring buffer was made.
func (r *Ring) Delivered() uint64 { return r.position(r.consumer).Load() / r.stride() }

// Redelivered returns how many events were handed on more than once.
func (r *Ring) Redelivered() uint64 { return atomic.LoadUint64(&r.state().Redelivered) }

// Foreign returns how many records were passed over because they are no events.
func (r *Ring) Foreign() uint64 { return atomic.LoadUint64(&r.state().Foreign) }

// Close lets go of the ring buffer. If it is pinned it lives on with all that was not committed.
func (r *Ring) Close() {
	r.books.unmap()
	for _, mapping := range [][]byte{r.consumer, r.producer} {
		if mapping != nil {
			_ = unix.Munmap(mapping) // a mapping of ours, so it can't fail
		}
	}
	if r.doorbell >= 0 {
		_ = unix.Close(r.doorbell)
	}
	r.group.Close()
}
