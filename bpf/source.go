//go:build linux

package bpf

import (
	"sync/atomic"
	"unsafe"
)

// kernelSource has the layout of struct kp_source.
type kernelSource struct {
	id   uint64
	next uint64
}

// noSource is the slot of a batch whose origin is not known; struct kp_source has one slot less.
const noSource = maxSources

const maxSources = 64

// sources keeps, in kernel memory, how far each source has been settled. It is bounded: where it is full,
// the source unseen for longest is forgotten, and what that one redelivers is then taken for new.
type sources struct {
	slots []kernelSource // in kernel memory
	used  []uint64       // by slot: the turn it was last used in
	turn  uint64
}

// newSources takes the slots as their generated type, which has the same layout.
func newSources[T any](generated []T) sources {
	slots := unsafe.Slice((*kernelSource)(unsafe.Pointer(unsafe.SliceData(generated))), len(generated))
	return sources{slots: slots, used: make([]uint64, len(slots))}
}

// slot returns the slot of a source, a new one if need be.
func (s *sources) slot(id uint64) int {
	if id == 0 {
		return noSource
	}
	s.turn++
	oldest := 0
	for i := range s.slots {
		if s.slots[i].id == id {
			s.used[i] = s.turn
			return i
		}
		if s.better(i, oldest) {
			oldest = i
		}
	}
	slot := &s.slots[oldest]
	// In this order: whenever the process is killed, no id stands beside another's progress.
	atomic.StoreUint64(&slot.id, 0)
	atomic.StoreUint64(&slot.next, 0)
	atomic.StoreUint64(&slot.id, id)
	s.used[oldest] = s.turn
	return oldest
}

// better reports whether slot i is to be given up before slot j.
func (s *sources) better(i, j int) bool {
	if free := s.slots[i].id == 0; free != (s.slots[j].id == 0) {
		return free
	}
	return s.used[i] < s.used[j]
}

// settled returns how many of the elements [sequence, sequence+n) of a slot are settled already.
func (s *sources) settled(slot int, sequence uint64, n int) int {
	if slot == noSource || s.slots[slot].next <= sequence {
		return 0
	}
	return int(min(s.slots[slot].next-sequence, uint64(n)))
}
