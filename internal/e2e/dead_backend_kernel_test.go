//go:build linux && kernel

package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDeadBackend: next to a backend that does not answer, the example's collector does not grow, however often it exports. With
// the exporter's default queue it does, by each export.
func TestDeadBackend(t *testing.T) {
	const (
		span  = 15 * time.Second
		grows = 48 << 20
	)
	pin := pinPath(t)
	t.Setenv("OTLP_ENDPOINT", "http://127.0.0.1:1") // nobody listens there
	arguments := []string{
		"--set=service::telemetry::metrics::level=none",
		"--set=connectors::bpf_aggregate::interval=20ms",
		"--set=receivers::bpf::probes::simulate::events=200000", "--set=receivers::bpf::pin_path=" + pin,
		"--set=processors::bpf_filter::pin_path=" + pin, "--set=processors::bpf_enrich::pin_path=" + pin,
		"--set=connectors::bpf_aggregate::pin_path=" + pin,
	}
	c := run(t, "../../examples/otlp-backend.yaml", arguments...)
	var ledger books
	require.Eventually(t, func() bool {
		ledger = readBooks(t, pin, 16<<20)
		return ledger.aggregated > 100_000
	}, 60*time.Second, 100*time.Millisecond)
	time.Sleep(3 * time.Second) // what the events take is there
	before := c.resident()
	time.Sleep(span)
	after := c.resident()
	t.Logf("%d MB, and %d MB %s later", before>>20, after>>20, span)
	assert.Less(t, after, before+grows)
	c.kill()
}
