package bpfqueueexporter

import "github.com/kernelpipe/kernelpipe/internal/event"

// The queue has room for the larger of the two formats, so that it takes events from anywhere in a pipeline.
const elementSize = event.EnrichedSize

// widen copies an event into an element. What is not enriched gets an empty context, by which the receiver
// knows it.
func widen(batch event.Batch, i int, out []byte) bool {
	clear(out[copy(out, batch.Data[i*batch.Size:(i+1)*batch.Size]):])
	return true
}
