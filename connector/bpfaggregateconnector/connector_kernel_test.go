//go:build linux && kernel

package bpfaggregateconnector

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

func TestRestart(t *testing.T) {
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			out := &sink{}
			config := newConfig(func(c *Config) { c.PinPath, c.Temporality = pinPath(t), temporality })
			c := start(t, config, out)
			events := mixed(10000, 50, 1)
			batch := enrichedBatch(events)
			batch.Source, batch.Sequence = 0x100, 0
			require.NoError(t, c.ConsumeLogs(t.Context(), frame(batch)))
			require.NoError(t, c.export(t.Context()))
			assert.EqualValues(t, len(events), sums(out.take(), "kernel.events"))
			kill(t, c)
			c = start(t, config, out)
			batch.Redelivered = true
			require.NoError(t, c.ConsumeLogs(t.Context(), frame(batch)))
			require.NoError(t, c.export(t.Context()))
			again := out.take()
			if temporality == Delta {
				assert.Zero(t, sums(again, "kernel.events"))
			} else {
				assert.EqualValues(t, len(events), sums(again, "kernel.events"))
			}
			assert.EqualValues(t, len(events), c.stats.Books().Redelivered)
			assert.EqualValues(t, len(events), c.stats.Books().Events)
			feed(t, c, example(event.CategoryProcess, event.ProcessExec, "x"))
		})
	}
}
