package event

import "unsafe"

// Batch is a run of events that travel together, all of one size.
type Batch struct {
	// Source identifies the ring buffer or queue lane that the events came from; 0: none.
	Source uint64
	// Sequence is the number of the first event at the source, so the batch is [Sequence, Sequence+Len()).
	// With it a receiver can tell what it already has. Without meaning where Source is 0.
	Sequence uint64
	// Redelivered says that the batch or a part of it may have been delivered before.
	Redelivered bool
	// Size is the size of one event in bytes: Size or EnrichedSize.
	Size int
	// Data holds the packed events.
	Data []byte
}

// Len returns the number of events.
func (b Batch) Len() int {
	if b.Size == 0 {
		return 0
	}
	return len(b.Data) / b.Size
}

// Enriched reports whether the events carry a Context.
func (b Batch) Enriched() bool { return b.Size == EnrichedSize }

// At returns the event at index i, without a copy; of an enriched one its first half. It panics where
// there is none. Data must be aligned to 8 bytes, as memory of the kernel, of Go's allocator and of pdata is.
func (b Batch) At(i int) *Event {
	data := b.Data[i*b.Size:][:Size]
	return (*Event)(unsafe.Pointer(unsafe.SliceData(data)))
}

func (b Batch) enriched(i int) *Enriched {
	data := b.Data[i*EnrichedSize:][:EnrichedSize]
	return (*Enriched)(unsafe.Pointer(unsafe.SliceData(data)))
}
