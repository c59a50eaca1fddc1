//go:build linux && kernel

package bpfaggregateconnector

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
)

// Six pipelines of 16 lanes each feed one connector, and every batch comes again: nothing is counted twice.
func TestManySources(t *testing.T) {
	c := start(t, newConfig(), consumertest.NewNop())
	const sources, rounds = 96, 3
	events := workload()
	for round := range rounds {
		for _, again := range []bool{false, true} {
			for source := range uint64(sources) {
				batch := plainBatch(events)
				batch.Source, batch.Sequence = 0x100*(1+source/16)+source%16, uint64(round*len(events))
				batch.Redelivered = again
				require.NoError(t, c.ConsumeLogs(t.Context(), frame(batch)))
			}
		}
	}
	books := c.stats.Books()
	assert.EqualValues(t, sources*rounds*len(events), books.Events)
	assert.EqualValues(t, sources*rounds*len(events), books.Redelivered)
}
