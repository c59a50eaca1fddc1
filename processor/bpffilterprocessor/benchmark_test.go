package bpffilterprocessor

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

// BenchmarkWork is the filter's part of the event path: ns per event.
func BenchmarkWork(b *testing.B) {
	rules := createDefaultConfig().(*Config)
	rules.Priority = []PriorityRule{
		{Match: match.Config{Category: []string{"network"}, ErrorsOnly: true}, Set: "high"},
		{Match: match.Config{Command: []string{"postgres"}}, Set: "medium"},
	}
	for name, config := range map[string]*Config{"default": createDefaultConfig().(*Config), "two_rules": rules} {
		b.Run(name, func(b *testing.B) {
			f, err := newFilter(config)
			require.NoError(b, err)
			events := make([]event.Event, 1024)
			for i := range events {
				events[i] = newEvent(func(e *event.Event) { e.Category = event.Category(1 + i%4); e.Process.TGID = uint32(50 + i) })
			}
			batch, out := batchOf(events...), make([]byte, len(events)*event.Size)
			b.ReportAllocs()
			kept, i := 0, 0
			for b.Loop() {
				n := i & 1023
				if f.work(batch, n, out[n*event.Size:(n+1)*event.Size]) {
					kept++
				}
				i++
			}
		})
	}
}
