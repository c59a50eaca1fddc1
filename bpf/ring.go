//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"os"
	"sync"
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
const ringFormat = 2

// Ring reads the ring buffer. Unlike the reader of a library it leaves the kernel's consumer position where
// it is until Commit, so what was read and not delivered is there again for the next process. One goroutine
// at a time may use it; Wake, Depth, Waiting, Capacity and Books are free.
type Ring struct {
	group    *group
	number   int // of the pins
	books    memory
	mu       sync.Mutex // a refusal is several stores, and nobody reads the books between them
	consumer []byte     // one page, read-write: the consumer position
	producer []byte     // one page with the producer position, then the data twice in a row, read-only
	size     uint64
	element  uint64
	valid    func(record []byte) bool // whether a record of the right size is an event; nil: each is
	mended   error                    // what of the books was not credible when they were opened; nil: all was
	damage   error                    // why Read finds no more records; nil: it does
	read     uint64                   // position up to which records were handed out
	batch    [][]byte
	doorbell int // eventfd for Wake
	poll     int // epoll for the ring buffer and the doorbell
}

// RingBatch is what Read returns.
type RingBatch struct {
	// Records are the elements, in the ring's own memory: valid until Commit.
	Records [][]byte
	// Sequence is the number of the first one since the ring buffer was made.
	Sequence uint64
}

// RingBooks is the account of what left a ring buffer, in events, since it was made.
type RingBooks struct {
	Delivered   uint64 // the next component accepted them
	Refused     uint64 // the next component refused them for good
	Redelivered uint64 // times an event was handed on that had been handed on before
	Foreign     uint64 // records that are no events; what they take is in Delivered too
}

func (b *RingBooks) add(other RingBooks) {
	b.Delivered += other.Delivered
	b.Refused += other.Refused
	b.Redelivered += other.Redelivered
	b.Foreign += other.Foreign
}

func ringSpecs(spec *ebpf.CollectionSpec, size uint32) map[string]*ebpf.MapSpec {
	events := spec.Maps[probesMapEvents].Copy()
	events.MaxEntries = size
	return map[string]*ebpf.MapSpec{probesMapEvents: events, probesMapRingBooks: spec.Maps[probesMapRingBooks]}
}

func openRing(at place, specs map[string]*ebpf.MapSpec, element int) (_ *Ring, err error) {
	group, err := openGroup(at, specs, func(maps map[string]*ebpf.Map) error {
		id, err := newSourceID(maps[probesMapRingBooks])
		if err != nil {
			return err
		}
		books := probesKpRingBooks{Id: id, Format: ringFormat, ElementSize: uint32(element)}
		return maps[probesMapRingBooks].Put(uint32(0), &books)
	})
	if err != nil {
		return nil, err
	}
	ring := &Ring{group: group, element: uint64(element), doorbell: -1, poll: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, group.abandon())
			ring.Close()
		}
	}()
	events := group.maps[probesMapEvents]
	ring.size = uint64(events.MaxEntries())
	if ring.books, err = mapMemory(group.maps[probesMapRingBooks]); err != nil {
		return nil, err
	}
	if books := ring.state(); books.Id == 0 || books.Format != ringFormat || books.ElementSize != uint32(element) {
		return nil, shapeError(at, probesMapRingBooks, fmt.Errorf("format %d with elements of %d bytes, this version has format %d with %d",
			books.Format, books.ElementSize, ringFormat, element))
	}
	page := os.Getpagesize()
	if ring.consumer, err = unix.Mmap(events.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring buffer: %w", err)
	}
	if ring.producer, err = unix.Mmap(events.FD(), int64(page), page+2*int(ring.size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring buffer: %w", err)
	}
	if err := ring.openPoll(); err != nil {
		return nil, err
	}
	if err := ring.checkPositions(); err != nil {
		return nil, err
	}
	ring.read = ring.position(ring.consumer).Load()
	ring.mended = ring.mendBooks()
	return ring, nil
}

// checkPositions fails where nothing tells which records wait: between the positions one must follow another. A program that fills
// one in has written its length before.
func (r *Ring) checkPositions() error {
	committed, produced := r.position(r.consumer).Load(), r.position(r.producer).Load()
	if committed <= produced && produced-committed <= r.size && committed%recordHeader == 0 {
		for at := committed; at < produced; {
			length, takes := r.header(at).size()
			if takes > produced-at {
				return r.noRecord(length, at, produced)
			}
			at += takes
		}
		return nil
	}
	return damaged(r.group.place, probesMapEvents, fmt.Errorf("it was read up to position %d and written up to %d, and %d bytes fit", committed, produced, r.size))
}

// mendBooks takes back the refusal that a process noted and did not live to commit. It returns an error where it has to
// mend more than that, so that no total falls and nothing is taken for new that was handed on.
func (r *Ring) mendBooks() error {
	books, committed, produced := r.state(), r.read/r.stride(), r.position(r.producer).Load()
	before := *books
	books.Delivered = min(books.Delivered, committed)
	books.Refused = min(books.Refused, committed-books.Delivered)
	books.HandedOn = min(books.HandedOn, produced)
	if books.Delivered == before.Delivered && books.HandedOn == before.HandedOn {
		return nil
	}
	return damaged(r.group.place, probesMapRingBooks, fmt.Errorf("it has %d events delivered of %d and handed on up to position %d of %d; it goes on with %d and %d",
		before.Delivered, committed, before.HandedOn, produced, books.Delivered, books.HandedOn))
}

// openPoll prepares Wait. The ring buffer is watched edge-triggered: what counts is that a program rings, not
// that there is data, for with a steady trickle there always is.
func (r *Ring) openPoll() (err error) {
	if r.doorbell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	if r.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, watch := range []struct {
		fd     int
		events uint32
	}{{r.group.maps[probesMapEvents].FD(), unix.EPOLLIN | unix.EPOLLET}, {r.doorbell, unix.EPOLLIN}} {
		event := unix.EpollEvent{Events: watch.events, Fd: int32(watch.fd)}
		if err := unix.EpollCtl(r.poll, unix.EPOLL_CTL_ADD, watch.fd, &event); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	return nil
}

func (r *Ring) state() *probesKpRingBooks { return as[probesKpRingBooks](r.books) }

func (r *Ring) position(page []byte) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(page)))
}

// stride is what one element takes in the ring.
func (r *Ring) stride() uint64 { return (r.element + recordHeader + 7) &^ 7 }

// ID identifies the ring buffer as a source, for as long as it is pinned.
func (r *Ring) ID() uint64 { return r.state().Id }

// header is the first word of a record.
type header uint32

// header reads that of the record at a position.
func (r *Ring) header(at uint64) header {
	data := r.producer[os.Getpagesize():]
	return header((*atomic.Uint32)(unsafe.Pointer(&data[at&(r.size-1)])).Load())
}

// size returns the length of the record's data, and what it takes in the ring.
func (h header) size() (length, takes uint64) {
	length = uint64(h &^ (recordBusy | recordDiscard))
	return length, (length + recordHeader + 7) &^ 7
}

func (r *Ring) noRecord(length, at, end uint64) error {
	return damaged(r.group.place, probesMapEvents, fmt.Errorf("a record of %d bytes at position %d, of %d that are written", length, at, end))
}

// Read returns up to max records from where the last Read or, after Rewind, the last Commit ended. It does not
// wait; an empty batch means that there is nothing. The batch is reused by the next Read.
func (r *Ring) Read(max int) RingBatch {
	data := r.producer[os.Getpagesize():]
	end := r.position(r.producer).Load()
	r.batch = r.batch[:0]
	batch := RingBatch{Sequence: r.read / r.stride()}
	for r.read < end && len(r.batch) < max {
		at := r.read & (r.size - 1)
		header := r.header(r.read)
		if header&recordBusy != 0 {
			break // a program is filling it in at this moment
		}
		length, takes := header.size()
		if takes > end-r.read {
			r.damage = r.noRecord(length, r.read, end)
			break
		}
		if header&recordDiscard != 0 || length != r.element || r.valid != nil && !r.valid(data[at+recordHeader:][:length:length]) {
			if len(r.batch) > 0 {
				break // a batch has no holes, for its numbers count on
			}
			// Only our programs write here and they write events; another's record is counted and passed over.
			r.state().Foreign++
			r.read += takes
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

// HandOn notes that all that was read is about to be handed on, and returns how many of these events had been
// handed on before: without success, or by a process that died. Only of them can the next component know.
func (r *Ring) HandOn() (before int) {
	books := r.state()
	committed, handedOn := r.position(r.consumer).Load(), atomic.LoadUint64(&books.HandedOn)
	if again := min(handedOn, r.read); again > committed {
		before = int((again - committed) / r.stride())
		atomic.AddUint64(&books.Redelivered, uint64(before))
	}
	atomic.StoreUint64(&books.HandedOn, max(handedOn, r.read))
	return before
}

// Commit says that all that was read is delivered: the kernel may write over it.
func (r *Ring) Commit() { r.position(r.consumer).Store(r.read) }

// Refuse says that all that was read was refused for good: the kernel may write over it.
func (r *Ring) Refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteRefusal()
	r.Commit()
}

// noteRefusal is the part of Refuse before the commit. What is delivered is noted first: with it the next process finds
// out whether the refusal was committed.
func (r *Ring) noteRefusal() {
	books, committed := r.state(), r.position(r.consumer).Load()
	atomic.StoreUint64(&books.Delivered, committed/r.stride()-books.Refused)
	atomic.AddUint64(&books.Refused, (r.read-committed)/r.stride())
}

// Rewind makes the next Read start again at what is not committed.
func (r *Ring) Rewind() { r.read = r.position(r.consumer).Load() }

// Wait returns when an eighth of the ring buffer waits to be committed, when Wake was called, or after timeout
// (at least 1 ms). It may return early. It fails with a DamageError where Read has found what is no record.
func (r *Ring) Wait(timeout time.Duration) error {
	if r.damage != nil {
		return r.damage
	}
	waits := &r.state().ReaderWaits
	atomic.StoreUint32(waits, 1)
	defer atomic.StoreUint32(waits, 0)
	if r.Depth() >= r.wakeupMark() { // passed before the flag was up, so that no program rings
		return nil
	}
	var events [2]unix.EpollEvent
	n, err := unix.EpollWait(r.poll, events[:], int(max(timeout, time.Millisecond).Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for ring buffer: %w", err)
	}
	for _, event := range events[:max(n, 0)] {
		if event.Fd == int32(r.doorbell) {
			var count [8]byte
			_, _ = unix.Read(r.doorbell, count[:]) // non-blocking; whoever rang, it has been heard
		}
	}
	return nil
}

// wakeupMark is how many bytes wait when a program wakes the reader.
func (r *Ring) wakeupMark() uint64 { return r.size / 8 }

// Wake ends a Wait, the one under way or the next.
func (r *Ring) Wake() {
	_, _ = unix.Write(r.doorbell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only where 2^64-2 rings wait already
}

// Depth returns the bytes that wait to be committed, and Capacity how many fit.
func (r *Ring) Depth() uint64 {
	committed := r.position(r.consumer).Load() // first: the producer only gets further ahead of it, by more than fits at times
	return min(r.position(r.producer).Load()-committed, r.size)
}

// Capacity returns the size of the ring buffer in bytes.
func (r *Ring) Capacity() uint64 { return r.size }

// Waiting returns how many events wait to be committed.
func (r *Ring) Waiting() uint64 { return r.Depth() / r.stride() }

// Books returns the account.
func (r *Ring) Books() RingBooks {
	r.mu.Lock()
	defer r.mu.Unlock()
	books := r.state()
	refused := atomic.LoadUint64(&books.Refused)
	return RingBooks{
		Delivered:   beyond(r.position(r.consumer).Load()/r.stride(), refused),
		Refused:     refused,
		Redelivered: atomic.LoadUint64(&books.Redelivered),
		Foreign:     atomic.LoadUint64(&books.Foreign),
	}
}

// left is the account of the ring buffers that this one has replaced.
func (r *Ring) left() RingBooks {
	books := r.state()
	left := &books.Left[atomic.LoadUint32(&books.LeftSlot)%2]
	return RingBooks{Delivered: left.Delivered, Refused: left.Refused, Redelivered: left.Redelivered, Foreign: left.Foreign}
}

// inherit takes over the account of a ring buffer that is drained and about to be removed. One store does it, so that it is
// counted once, whenever the process dies.
func (r *Ring) inherit(older *Ring) {
	total := r.left()
	total.add(older.left())
	total.add(older.Books())
	books := r.state()
	slot := (books.LeftSlot + 1) % 2
	left := &books.Left[slot]
	left.Replaced = uint64(older.number) + 1
	left.Delivered, left.Refused, left.Redelivered, left.Foreign = total.Delivered, total.Refused, total.Redelivered, total.Foreign
	atomic.StoreUint32(&books.LeftSlot, slot)
}

// replacedBy returns the number of the first ring buffer that the one that is pinned there has not replaced.
func replacedBy(at place, spec *ebpf.CollectionSpec) (uint64, error) {
	m, err := at.loadMap(probesMapRingBooks)
	if err != nil {
		return 0, shapeError(at, probesMapRingBooks, err)
	}
	defer func() { _ = m.Close() }() // a descriptor; nothing to do about a failure
	if err := spec.Maps[probesMapRingBooks].Compatible(m); err != nil {
		return 0, shapeError(at, probesMapRingBooks, err)
	}
	var books probesKpRingBooks
	if err := m.Lookup(uint32(0), &books); err != nil {
		return 0, fmt.Errorf("read %s: %w", at.path(probesMapRingBooks), err)
	}
	return books.Left[books.LeftSlot%2].Replaced, nil
}

// Close lets go of the ring buffer. If it is pinned it lives on with all that was not committed.
func (r *Ring) Close() {
	r.books.unmap()
	for _, mapping := range [][]byte{r.consumer, r.producer} {
		if mapping != nil {
			_ = unix.Munmap(mapping) // a mapping of ours, so it can't fail
		}
	}
	for _, fd := range []int{r.poll, r.doorbell} {
		if fd >= 0 {
			_ = unix.Close(fd) // nothing to do about a failure
		}
	}
	r.group.Close()
}
