//go:build linux && kernel

package bpfenrichprocessor

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kernelpipe/kernelpipe/internal/statustest"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadata"
)

// Pins of the process table that are removed under a running processor are missed within seconds: the status and the log say so,
// and all that is open goes on.
func TestPinsOfTheTableRemoved(t *testing.T) {
	pins := pinPath(t)
	for what, path := range map[string]string{"the directory": "", "the entries": "entries-0", "its links": "links-1"} {
		t.Run(what, func(t *testing.T) {
			telemetry := componenttest.NewTelemetry()
			defer func() { require.NoError(t, telemetry.Shutdown(context.Background())) }()
			core, logs := observer.New(zap.InfoLevel)
			set := processortest.NewNopSettings(metadata.Type)
			set.TelemetrySettings = telemetry.NewTelemetrySettings()
			set.Logger = zap.New(core)
			config, out, host := newConfig(), &sink{}, &statustest.Host{}
			config.PinPath = filepath.Join(pins, filepath.Base(t.Name()))
			created, err := NewFactory().CreateLogs(t.Context(), set, config, out)
			require.NoError(t, err)
			p := created.(*enrichProcessor)
			require.NoError(t, p.Start(t.Context(), host))
			removed := filepath.Join(p.tableDir.Path(), path)
			require.NoError(t, os.RemoveAll(removed))
			require.Eventually(t, func() bool { return len(host.Events()) > 0 }, 30*time.Second, 10*time.Millisecond)
			status := host.Events()[0]
			assert.Equal(t, componentstatus.StatusRecoverableError, status.Status())
			require.ErrorContains(t, status.Err(), removed+" was removed or moved while it is in use")
			assert.Len(t, logs.FilterMessage("unhealthy").All(), 1)
			got, err := telemetry.GetMetric("otelcol_kernelpipe_stage_pins_removed")
			require.NoError(t, err)
			assert.EqualValues(t, 1, got.Data.(metricdata.Gauge[int64]).DataPoints[0].Value)
			require.NoError(t, p.ConsumeLogs(t.Context(), frame(own(0x100, 0, 10))))
			assert.EqualValues(t, 10, settle(t, p).Delivered)
			require.NoError(t, p.Shutdown(t.Context()))
		})
	}
}
