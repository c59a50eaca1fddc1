//go:build linux

package bpf

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// memory is an array map of one value type, mapped into this process: what programs write is seen here at
// once, and the other way round.
type memory struct {
	bytes []byte
}

// mapMemory maps the whole of an array map that has BPF_F_MMAPABLE.
func mapMemory(m *ebpf.Map) (memory, error) {
	stride := (int(m.ValueSize()) + 7) &^ 7 // array_map_alloc in kernel/bpf/arraymap.c
	bytes, err := unix.Mmap(m.FD(), 0, stride*int(m.MaxEntries()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return memory{}, fmt.Errorf("map memory of BPF %s map: %w", m.Type(), err)
	}
	return memory{bytes}, nil
}

func (m memory) unmap() {
	if m.bytes != nil {
		_ = unix.Munmap(m.bytes) // it is a mapping of ours, so it can't fail
	}
}

// as returns the memory as one T. The maps' values and T have one layout: T is generated from their BTF.
func as[T any](m memory) *T {
	return (*T)(unsafe.Pointer(unsafe.SliceData(m.bytes[:unsafe.Sizeof(*new(T))])))
}

// asSlice returns the memory as a slice of T.
func asSlice[T any](m memory) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(m.bytes))), len(m.bytes)/int(unsafe.Sizeof(*new(T))))
}

// memoryOf adds up what maps cost in kernel memory, in bytes, as the kernel states it (memlock in fdinfo). From 5.11 to 6.3
// that is an estimate from the sizes of key and value, which is 0 for a ring buffer: it takes its size at least.
func memoryOf(maps ...*ebpf.Map) uint64 {
	var total uint64
	for _, m := range maps {
		if m == nil {
			continue
		}
		var bytes uint64
		if info, err := m.Info(); err == nil {
			bytes, _ = info.Memlock() // not there: 0
		}
		if m.Type() == ebpf.RingBuf {
			bytes = max(bytes, uint64(m.MaxEntries()))
		}
		total += bytes
	}
	return total
}
