//go:build linux

package bpf

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// MaxSources is how many sources, lanes of queues and ring buffers, may feed one queue or stats map; KP_SOURCES.
const MaxSources = 1024

// noSource is the slot of a batch whose origin is not known; struct kp_source has one slot less.
const noSource = MaxSources

// ErrSources says that a batch comes from one source more than a component can keep apart. Nothing of it is settled.
var ErrSources = fmt.Errorf("this batch is of one source too many: %d ring buffers and lanes feed the component already, all that it can keep apart. "+
	"It is to be tried again, and nothing of it is lost: let fewer pipelines or lanes lead to the component, "+
	"or remove what is pinned of components that feed it no longer", MaxSources)

// kernelSource has the layout of struct kp_source.
type kernelSource struct {
	id   uint64
	next uint64
}

// sources keeps, in kernel memory, how far each source has been settled. Each slot belongs to one source until that can
// deliver nothing any more: without its slot, what it delivers again would be taken for new. One goroutine at a time may
// use it; inUse is free.
type sources struct {
	slots []kernelSource // in kernel memory
	index map[uint64]int // of slots, by id
	used  atomic.Int64   // len(index)
	swept time.Time      // when slots of sources that are gone were last looked for
}

// newSources takes the slots as their generated type, which has the same layout.
func newSources[T any](generated []T) *sources {
	s := &sources{slots: unsafe.Slice((*kernelSource)(unsafe.Pointer(unsafe.SliceData(generated))), len(generated)), index: map[uint64]int{}}
	for i := range s.slots {
		id := s.slots[i].id
		if id == 0 {
			continue
		}
		// No version writes an id twice. If somebody else did, the slot that knows of more is the one to trust, and the other is free.
		other, twice := s.index[id]
		if twice && s.slots[other].next >= s.slots[i].next {
			atomic.StoreUint64(&s.slots[i].id, 0)
			continue
		}
		if twice {
			atomic.StoreUint64(&s.slots[other].id, 0)
		}
		s.index[id] = i
	}
	s.used.Store(int64(len(s.index)))
	return s
}

// inUse returns how many sources have a slot.
func (s *sources) inUse() int { return int(s.used.Load()) }

// slot returns the slot of a source, a new one if need be.
func (s *sources) slot(id uint64) (int, error) {
	if id == 0 {
		return noSource, nil
	}
	if slot, ok := s.index[id]; ok && s.slots[slot].id == id {
		return slot, nil
	}
	slot := s.free()
	if slot < 0 {
		if err := s.sweep(); err != nil {
			return 0, fmt.Errorf("%w, and which of the others are gone is not known: %w", ErrSources, err)
		}
		if slot = s.free(); slot < 0 {
			return 0, ErrSources
		}
	}
	// In this order: whenever the process is killed, no id stands beside another's progress.
	atomic.StoreUint64(&s.slots[slot].next, 0)
	atomic.StoreUint64(&s.slots[slot].id, id)
	s.index[id] = slot
	s.used.Store(int64(len(s.index)))
	return slot, nil
}

// free returns a slot that belongs to no source, -1 if there is none.
func (s *sources) free() int {
	if len(s.index) == len(s.slots) {
		return -1
	}
	for i := range s.slots {
		if s.slots[i].id == 0 {
			return i
		}
	}
	return -1
}

// sweepInterval is how often slots of sources that are gone are looked for, at most.
const sweepInterval = time.Second

// sweep gives up the slots of sources whose maps are gone: with its map, and so its books, a source has lost all that it
// could deliver again.
func (s *sources) sweep() error {
	if time.Since(s.swept) < sweepInterval {
		return nil
	}
	boot, err := bootBits()
	if err != nil {
		return err
	}
	there, err := allMaps()
	if err != nil {
		return err
	}
	for i := range s.slots {
		slot := &s.slots[i]
		if slot.id>>40 != boot || there[uint32(slot.id>>8)] {
			continue // of another machine, or an earlier boot: nothing tells whether it is gone
		}
		delete(s.index, slot.id)
		atomic.StoreUint64(&slot.id, 0)
	}
	s.used.Store(int64(len(s.index)))
	s.swept = time.Now()
	return nil
}

// settled returns how many of the elements [sequence, sequence+n) of a slot are settled already.
func (s *sources) settled(slot int, sequence uint64, n int) int {
	if slot == noSource || s.slots[slot].next <= sequence {
		return 0
	}
	return int(min(s.slots[slot].next-sequence, uint64(n)))
}

// newSourceID returns the id of the source, or the first of 256 sources, whose books are in a map; struct kp_source.
func newSourceID(books *ebpf.Map) (uint64, error) {
	boot, err := bootBits()
	if err != nil {
		return 0, err
	}
	id, err := idOf(books)
	return boot<<40 | uint64(id)<<8, err
}

// bootBits returns 24 bits of the id of this boot.
func bootBits() (uint64, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return 0, fmt.Errorf("id of this boot: %w", err)
	}
	hash := sha256.Sum256(id)
	return uint64(binary.BigEndian.Uint32(hash[:])) >> 8, nil
}

// allMaps returns the ids of all BPF maps of this machine.
func allMaps() (map[uint32]bool, error) {
	var objects mapsObjects
	if err := loadMapsObjects(&objects, nil); err != nil {
		return nil, fmt.Errorf("list BPF maps: %w", err)
	}
	defer func() { _ = objects.Close() }()
	iterator, err := link.AttachIter(link.IterOptions{Program: objects.ListMaps})
	if err != nil {
		return nil, fmt.Errorf("list BPF maps: %w", err)
	}
	defer func() { _ = iterator.Close() }()
	reader, err := iterator.Open()
	if err != nil {
		return nil, fmt.Errorf("list BPF maps: %w", err)
	}
	defer func() { _ = reader.Close() }()
	list, err := io.ReadAll(reader)
	if err != nil {
		return nil, fmt.Errorf("list BPF maps: %w", err)
	}
	there := make(map[uint32]bool, len(list)/4)
	for ; len(list) >= 4; list = list[4:] {
		there[binary.NativeEndian.Uint32(list)] = true
	}
	return there, nil
}
