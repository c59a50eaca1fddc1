//go:build linux && kernel

package bpfaggregateconnector

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kernelpipe/kernelpipe/bpf"
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

// A source that there is no room for is refused, to be tried again: its events are not lost, and it is said.
func TestOneSourceTooMany(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	c := create(t, newConfig(), consumertest.NewNop())
	c.set.TelemetrySettings = telemetry.NewTelemetrySettings()
	startIt(t, c)
	events := workload()
	batch := plainBatch(events)
	deliver := func(source uint64) error {
		batch.Source = 0x100 * source
		return c.ConsumeLogs(t.Context(), frame(batch))
	}
	for source := range uint64(bpf.MaxSources) {
		require.NoError(t, deliver(source+1))
	}
	for range 2 {
		err := deliver(bpf.MaxSources + 1)
		require.ErrorIs(t, err, bpf.ErrSources)
		assert.False(t, consumererror.IsPermanent(err), "it is to be tried again")
	}
	batch.Redelivered = true
	require.NoError(t, deliver(1))
	assert.EqualValues(t, bpf.MaxSources*len(events), c.stats.Books().Events)
	assert.EqualValues(t, len(events), c.stats.Books().Redelivered)
	assert.EqualValues(t, 2, value(t, telemetry, "otelcol_kernelpipe_aggregate_sources_refused"))
	assert.EqualValues(t, bpf.MaxSources, value(t, telemetry, "otelcol_kernelpipe_aggregate_sources"))
	require.ErrorContains(t, c.refused.Check(time.Now()), "one source too many: 1024 ring buffers and lanes feed the component already")
}

// value returns the value of a metric that has one point.
func value(t *testing.T, telemetry *componenttest.Telemetry, name string) int64 {
	t.Helper()
	got, err := telemetry.GetMetric(name)
	require.NoError(t, err)
	var points []metricdata.DataPoint[int64]
	switch data := got.Data.(type) {
	case metricdata.Sum[int64]:
		points = data.DataPoints
	case metricdata.Gauge[int64]:
		points = data.DataPoints
	}
	require.Len(t, points, 1)
	return points[0].Value
}
