package event

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

const benchmarkEvents = 1000

// benchmarkBatches has a batch of each size.
func benchmarkBatches() []Batch {
	events, enriched := make([]Event, benchmarkEvents), make([]Enriched, benchmarkEvents)
	kinds := examples()
	for i := range events {
		events[i] = kinds[i%len(kinds)]
		enriched[i] = Enriched{Event: events[i], Context: enrichedExamples()[0].Context}
	}
	return []Batch{
		{Source: 1, Sequence: 1, Size: Size, Data: Bytes(events)},
		{Source: 1, Sequence: 1, Size: EnrichedSize, Data: Bytes(enriched)},
	}
}

func perEvent(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchmarkEvents, "ns/event")
}

func BenchmarkEncode(b *testing.B) {
	for _, encoding := range []Encoding{EncodingFrames, EncodingRecords} {
		for _, batch := range benchmarkBatches() {
			b.Run(fmt.Sprintf("%s/size=%d", encoding, batch.Size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Encode(encoding, batch, Clock{})
				}
				perEvent(b)
			})
		}
	}
}

func BenchmarkEncodeFrame(b *testing.B) {
	for _, batch := range benchmarkBatches() {
		b.Run(fmt.Sprintf("size=%d", batch.Size), func(b *testing.B) {
			events := make([][]byte, batch.Len())
			for i := range events {
				events[i] = batch.Data[i*batch.Size:][:batch.Size]
			}
			b.ReportAllocs()
			for b.Loop() {
				EncodeFrame(1, 1, false, batch.Size, events)
			}
			perEvent(b)
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, encoding := range []Encoding{EncodingFrames, EncodingRecords} {
		for _, batch := range benchmarkBatches() {
			b.Run(fmt.Sprintf("%s/size=%d", encoding, batch.Size), func(b *testing.B) {
				logs := Encode(encoding, batch, Clock{})
				b.ReportAllocs()
				for b.Loop() {
					events := 0
					err := Decode(logs, func(batch Batch) error {
						events += batch.Len()
						return nil
					}, func(plog.LogRecord, error) {})
					if err != nil || events != benchmarkEvents {
						require.NoError(b, err)
						require.Equal(b, benchmarkEvents, events)
					}
				}
				perEvent(b)
			})
		}
	}
}
