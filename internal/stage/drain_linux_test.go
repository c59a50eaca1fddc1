package stage

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// FuzzElements holds that whatever is in a queue, what is handed on is events, each with its own number.
func FuzzElements(f *testing.F) {
	letters := make([]event.DeadLetter, 2)
	for i := range letters {
		letters[i].EventSize = uint32(event.Size * (1 + i))
		letters[i].Event.Event = event.Event{Version: event.Version, Category: event.CategoryProcess}
	}
	f.Add(uint8(0), event.Bytes(letters))
	f.Add(uint8(1), event.Bytes(letters))
	f.Add(uint8(2), event.Bytes(letters))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		size := []int{event.Size, event.EnrichedSize, event.DeadLetterSize}[kind%3]
		elements := event.Bytes(make([]event.DeadLetter, 8)) // aligned, as memory of the kernel is
		elements = elements[:copy(elements, data)/size*size]
		good := 0
		for i := range len(elements) / size {
			if _, err := eventIn(elements[i*size : (i+1)*size]); err == nil {
				good++
			}
		}
		d := NewDrain(newFuzzSettings())
		require.NoError(t, d.observe())
		defer d.telemetry.Shutdown()
		d.popped = bpf.InFlight{Data: elements, Source: 7, Sequence: 100}
		next, shown := uint64(100), 0
		require.NoError(t, d.batches(size, func(b event.Batch) error {
			assert.EqualValues(t, 7, b.Source)
			assert.GreaterOrEqual(t, b.Sequence, next)
			next = b.Sequence + uint64(b.Len())
			shown += b.Len()
			for i := range b.Len() {
				assert.NoError(t, b.At(i).Validate())
			}
			return nil
		}))
		assert.Equal(t, good, shown)
	})
}

func newFuzzSettings() DrainSettings {
	return DrainSettings{Telemetry: componenttest.NewNopTelemetrySettings(), Owner: "queue/fuzz", Queue: Queue}
}
