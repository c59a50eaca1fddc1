//go:build linux && kernel

package bpfaggregateconnector

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// Events that claim more bytes than there can be are refused and counted, and what is added up stays at its end: no sum
// becomes negative or goes back.
func TestForgedBytesMakeNoSumGoBack(t *testing.T) {
	out, telemetry := &sink{}, componenttest.NewTelemetry()
	c := create(t, newConfig(only("kernel.io", "kernel.event.duration")), out)
	c.set.TelemetrySettings = telemetry.NewTelemetrySettings()
	startIt(t, c)
	forged := func(bytes, duration uint64) event.Event {
		return example(event.CategoryFilesystem, event.FilesystemRead, "forged", func(e *event.Event) { e.Bytes, e.Duration = bytes, duration })
	}
	last, lastSum := int64(0), 0.0
	step := func() {
		t.Helper()
		require.NoError(t, c.export(t.Context()))
		exports := out.take()
		bytes, sum := sums(exports, "kernel.io"), durations(exports)
		assert.GreaterOrEqual(t, bytes, last)
		assert.GreaterOrEqual(t, sum, lastSum)
		last, lastSum = bytes, sum
	}
	feed(t, c, forged(1000, 1000))
	step()
	feed(t, c, forged(1<<63, 0))
	step()
	feed(t, c, forged(0, math.MaxUint64))
	step()
	for range 20 {
		run := make([]event.Event, 5000)
		for i := range run {
			run[i] = forged(event.MaxBytes, event.MaxDuration)
		}
		feed(t, c, run...)
		step()
	}
	assert.EqualValues(t, math.MaxInt64, last)
	lost := map[string]uint64{}
	for _, counter := range c.losses() {
		if n := counter.Read(); n > 0 {
			lost[counter.Unit] += n
		}
	}
	saturated := c.stats.Books().Saturated
	assert.NotZero(t, saturated)
	assert.Equal(t, map[string]uint64{"": 2, "additions": saturated}, lost, "health says so")
	dropped, err := telemetry.GetMetric("otelcol_kernelpipe_aggregate_dropped")
	require.NoError(t, err)
	assert.EqualValues(t, 2, dropped.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
}

// An event from the future is counted, its latency is 0, and its series is none that expires later. One whose time can't be is
// refused and counted.
func TestForgedTimes(t *testing.T) {
	out, telemetry := &sink{}, componenttest.NewTelemetry()
	c := create(t, newConfig(only("kernel.events", "kernel.event.latency")), out)
	c.set.TelemetrySettings = telemetry.NewTelemetrySettings()
	startIt(t, c)
	for _, time := range []uint64{event.MaxTime, 1 << 60, math.MaxInt64, math.MaxUint64} {
		feed(t, c, example(event.CategoryFilesystem, event.FilesystemRead, "future", func(e *event.Event) { e.Time = time }))
	}
	for _, r := range c.registries {
		for _, entry := range r.entries {
			assert.LessOrEqual(t, entry.last, event.Clock{}.Now())
		}
	}
	require.NoError(t, c.export(t.Context()))
	exports := out.take()
	assert.EqualValues(t, 2, sums(exports, "kernel.events"))
	assert.EqualValues(t, 2, sums(exports, "kernel.event.latency"))
	assert.Zero(t, durations(exports))
	assert.EqualValues(t, 2, observe(t, telemetry, "otelcol_kernelpipe_aggregate_dropped"))
}

// durations returns the sum of all durations.
func durations(exports []pmetric.Metrics) (sum float64) {
	for _, export := range exports {
		for _, resource := range export.ResourceMetrics().All() {
			for _, m := range resource.ScopeMetrics().At(0).Metrics().All() {
				if m.Type() == pmetric.MetricTypeExponentialHistogram {
					for _, p := range m.ExponentialHistogram().DataPoints().All() {
						sum += p.Sum()
					}
				}
			}
		}
	}
	return sum
}
