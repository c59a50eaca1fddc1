package event

import (
	"fmt"
	"unsafe"
)

// View returns the events that are packed in b, without a copy: what is written to them is written to b.
// Only where b is not aligned to 8 bytes, as memory of the kernel, of Go's allocator and of pdata is, the
// events are a copy. A length that is no multiple of Size is an error.
func View(b []byte) ([]Event, error) { return view[Event](b) }

// ViewEnriched is View for enriched events: b is packed with events of EnrichedSize bytes.
func ViewEnriched(b []byte) ([]Enriched, error) { return view[Enriched](b) }

// Bytes returns the memory of events, packed, without a copy.
func Bytes[T Event | Enriched | DeadLetter](events []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(events))), len(events)*int(unsafe.Sizeof(one)))
}

func view[T Event | Enriched | DeadLetter](b []byte) ([]T, error) {
	var one T
	size := int(unsafe.Sizeof(one))
	if len(b)%size != 0 {
		return nil, fmt.Errorf("%d bytes are no whole number of events of %d bytes", len(b), size)
	}
	if len(b) == 0 {
		return nil, nil
	}
	start := unsafe.Pointer(unsafe.SliceData(b))
	if uintptr(start)%unsafe.Alignof(one) != 0 {
		events := make([]T, len(b)/size)
		copy(Bytes(events), b)
		return events, nil
	}
	return unsafe.Slice((*T)(start), len(b)/size), nil
}
