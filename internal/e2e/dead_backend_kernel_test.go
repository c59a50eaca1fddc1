//go:build linux && kernel

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDeadBackend: next to a backend that does not answer, the example's collector does not grow, however often it exports. With
// the exporter's default queue it does, with each export.
func TestDeadBackend(t *testing.T) {
	const (
		exports = 15
		grows   = 64 << 20
	)
	pin := pinPath(t)
	t.Setenv("OTLP_ENDPOINT", "http://127.0.0.1:1") // nobody listens there
	c := run(t, "../../examples/otlp-backend.yaml",
		"--set=service::telemetry::metrics::level=none",
		"--set=connectors::bpf_aggregate::interval=20ms",
		"--set=receivers::bpf::probes::simulate::events=200000", "--set=receivers::bpf::pin_path="+pin,
		"--set=processors::bpf_filter::pin_path="+pin, "--set=processors::bpf_enrich::pin_path="+pin,
		"--set=connectors::bpf_aggregate::pin_path="+pin)
	refused := func(times int) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Count(c.log.String(), "metrics were not exported") >= times },
			60*time.Second, 50*time.Millisecond, "the connector hears of each refusal")
	}
	refused(exports)
	before := c.resident()
	refused(2 * exports)
	after := c.resident()
	t.Logf("%d MB, and %d MB %d exports later", before>>20, after>>20, exports)
	assert.Less(t, after, before+grows)
	c.kill()
}
