//go:build linux && kernel

package bpfaggregateconnector

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kernelpipe/kernelpipe/internal/statustest"
)

// Pins that are removed under a running connector are missed within seconds: the status and the log say so, and all that is open
// goes on.
func TestPinsRemovedUnderARunningConnector(t *testing.T) {
	pinPath(t) // the directory above those of the cases
	for what, path := range map[string]string{"the directory": "", "the stats": "stats-0", "the books": "stats-0/stats_books"} {
		t.Run(what, func(t *testing.T) {
			out, h, pins, telemetry := &sink{}, &statustest.Host{}, pinPath(t), componenttest.NewTelemetry()
			defer func() { require.NoError(t, telemetry.Shutdown(context.Background())) }()
			c := create(t, newConfig(only("kernel.events"), func(c *Config) { c.PinPath = pins }), out)
			c.set.TelemetrySettings = telemetry.NewTelemetrySettings()
			logs := observed(c)
			require.NoError(t, c.Start(t.Context(), h), "this test needs root and a kernel with BPF")
			feed(t, c, ofGroup(1, "a"))
			removed := filepath.Join(pins, "connector@bpf_aggregate", path)
			require.NoError(t, os.RemoveAll(removed))
			status := nth(t, h, 1)
			assert.Equal(t, componentstatus.StatusRecoverableError, status.Status())
			require.ErrorContains(t, status.Err(), removed+" was removed or moved while it is in use")
			assert.Len(t, logs.FilterMessage("unhealthy").All(), 1)
			assert.EqualValues(t, 1, observe(t, telemetry, "otelcol_kernelpipe_aggregate_pins_removed"))
			feed(t, c, ofGroup(1, "a"))
			require.NoError(t, c.Shutdown(t.Context()))
			assert.EqualValues(t, 2, sums(out.take(), "kernel.events"))
		})
	}
}

// observe returns the one value of a metric of the connector's own.
func observe(t *testing.T, telemetry *componenttest.Telemetry, name string) int64 {
	t.Helper()
	got, err := telemetry.GetMetric(name)
	require.NoError(t, err)
	switch data := got.Data.(type) {
	case metricdata.Gauge[int64]:
		return data.DataPoints[0].Value
	case metricdata.Sum[int64]:
		return data.DataPoints[0].Value
	}
	require.Fail(t, "a metric of another type", name)
	return 0
}

// A counter that somebody has written into the pinned books is never negative in the telemetry.
func TestForgedCountersAreNotNegative(t *testing.T) {
	const events = 12_345
	telemetry, pins := componenttest.NewTelemetry(), pinPath(t)
	defer func() { require.NoError(t, telemetry.Shutdown(context.Background())) }()
	c := create(t, newConfig(only("kernel.events"), func(c *Config) { c.PinPath = pins }), &sink{})
	c.set.TelemetrySettings = telemetry.NewTelemetrySettings()
	startIt(t, c)
	feedMixed(t, c, events, 10)
	require.EqualValues(t, events, observe(t, telemetry, "otelcol_kernelpipe_aggregate_events"))
	books, err := ebpf.LoadPinnedMap(filepath.Join(pins, "connector@bpf_aggregate", "stats-0", "stats_books"), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, books.Close()) }()
	value, err := books.LookupBytes(uint32(0))
	require.NoError(t, err)
	at := bytes.Index(value, binary.NativeEndian.AppendUint64(nil, events))
	require.GreaterOrEqual(t, at, 0)
	binary.NativeEndian.PutUint64(value[at:], math.MaxUint64)
	require.NoError(t, books.Put(uint32(0), value))
	assert.EqualValues(t, math.MaxInt64, observe(t, telemetry, "otelcol_kernelpipe_aggregate_events"))
}
