//go:build linux && kernel

package bpfreceiver

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Pins that are removed under a running receiver are missed within seconds: the status and the log say so, and all that is open
// goes on.
func TestPinsRemovedUnderARunningReceiver(t *testing.T) {
	for what, path := range map[string]string{"the directory": "", "the ring buffer": "ring-0", "its books": "ring-0/ring_books", "the counters": "probes/counters"} {
		t.Run(what, func(t *testing.T) {
			const n = 100
			pins := pinPath(t)
			r := start(t, configure(t, countCalls+"\npin_path: "+pins+"\n"), &sink{})
			work(t, "calls", argument{N: n})
			removed := filepath.Join(pins, "receiver@bpf", path)
			require.NoError(t, os.RemoveAll(removed))
			r.status(t, componentstatus.StatusRecoverableError)
			eventually(t, func() bool { return len(r.warnings()) > 0 })
			assert.Contains(t, r.warnings()[0], removed+" was removed or moved while it is in use")
			got, err := r.telemetry.GetMetric("otelcol_kernelpipe_receiver_pins_removed")
			require.NoError(t, err)
			assert.EqualValues(t, 1, got.Data.(metricdata.Gauge[int64]).DataPoints[0].Value)
			work(t, "calls", argument{N: n})
			total := r.stop(t)
			assert.Equal(t, total.produced, total.delivered)
			assert.GreaterOrEqual(t, total.delivered, 2*n)
		})
	}
}
