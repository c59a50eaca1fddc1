package event

import (
	"reflect"
	"unsafe"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// bodyOf returns the bytes of a frame's body where they lie, not to be changed. pdata itself gives out copies only, and a
// copy in memory of its own for each frame costs several times what a component does with the events. Where a ByteSlice is
// not made as expected, or not aligned to 8 bytes as all memory of Go's allocator is, the bytes are a copy after all.
func bodyOf(body pcommon.ByteSlice) []byte {
	if !bodyInPlace || body.Len() == 0 {
		return body.AsRaw()
	}
	b := **(**[]byte)(unsafe.Pointer(&body))
	if uintptr(unsafe.Pointer(unsafe.SliceData(b)))%unsafe.Alignof(Event{}) != 0 {
		return body.AsRaw()
	}
	return b[:len(b):len(b)]
}

// bodyInPlace: a ByteSlice begins with a pointer to its slice.
var bodyInPlace = beginsWithSlice(reflect.TypeFor[pcommon.ByteSlice]())

func beginsWithSlice(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() > 0 && t.Field(0).Type == reflect.TypeFor[*[]byte]()
}
