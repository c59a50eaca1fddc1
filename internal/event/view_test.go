package event

import (
	"bytes"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestView(t *testing.T) {
	events := []Event{connect(), {Time: 2, Category: CategorySyscall, Version: Version}}
	b := Bytes(events)
	require.Len(t, b, 2*Size)

	view, err := View(b)
	require.NoError(t, err)
	assert.Equal(t, events, view)
	view[1].Priority = PriorityLow
	assert.Equal(t, PriorityLow, events[1].Priority, "a view is no copy")

	shifted := make([]byte, len(b)+1)
	copy(shifted[1:], b)
	view, err = View(shifted[1:])
	require.NoError(t, err)
	assert.Equal(t, events, view)
	assert.Zero(t, uintptr(unsafe.Pointer(&view[0]))%8)

	enriched, err := ViewEnriched(b)
	require.NoError(t, err)
	assert.Equal(t, events[0], enriched[0].Event)

	for _, length := range []int{1, Size - 1, Size + 1} {
		_, err = View(b[:length])
		assert.ErrorContains(t, err, "no whole number of events of 128 bytes")
	}
	_, err = ViewEnriched(b[:Size])
	assert.ErrorContains(t, err, "256")

	view, err = View(nil)
	require.NoError(t, err)
	assert.Empty(t, view)
	assert.Empty(t, Bytes[Event](nil))
}

func FuzzView(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add(Bytes([]Enriched{{Event: connect()}}), 1)
	f.Fuzz(func(t *testing.T, data []byte, shift int) {
		data = data[min(len(data), shift&7):]
		view, err := View(data)
		assert.Equal(t, len(data)%Size != 0, err != nil)
		if err == nil {
			assert.True(t, bytes.Equal(data, Bytes(view)))
		}
		enriched, err := ViewEnriched(data)
		assert.Equal(t, len(data)%EnrichedSize != 0, err != nil)
		if err == nil {
			assert.True(t, bytes.Equal(data, Bytes(enriched)))
		}
	})
}
