//go:build linux && kernel

package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// TestManySources: 96 lanes feed one connector, beside an exporter that refuses every other batch, so that the connector has
// many of them more than once. It counts each event once.
func TestManySources(t *testing.T) {
	const pipelines, lanes, events = 6, 16, 40_000
	backend, pin := newBackend(t), pinPath(t)
	var sent atomic.Int64
	backend.refuseLogs(func(plog.LogRecord) error {
		if sent.Add(1)%2 != 0 {
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	})
	var filters, flows strings.Builder
	for i := range pipelines {
		fmt.Fprintf(&filters, "  bpf_filter/%d: { pin_path: %s, queue: { lanes: %d }, retry_on_failure: { initial_interval: 1ms, max_interval: 1ms } }\n", i, pin, lanes)
		fmt.Fprintf(&flows, "    logs/%d: { receivers: [bpf], processors: [bpf_filter/%d], exporters: [bpf_aggregate, otlp_grpc/refusing] }\n", i, i)
	}
	values := pipelineValues(pin, backend.address, fmt.Sprintf("simulate: { events: %d, seed: 1 }", events))
	values["filters"], values["flows"] = filters.String(), flows.String()
	c := run(t, configure(t, manySourcesConfig, values))
	require.Eventually(t, func() bool { return backend.sum("kernel.events", nil) >= pipelines*events }, 60*time.Second, 50*time.Millisecond)
	c.terminate()
	assert.EqualValues(t, pipelines*events, backend.sum("kernel.events", nil))

	dir, err := bpf.OpenDirectory(pin, "connector/bpf_aggregate")
	require.NoError(t, err)
	defer func() { assert.NoError(t, dir.Close()) }()
	stats, err := bpf.OpenStats(dir, "stats", 1)
	require.NoError(t, err)
	defer stats.Close()
	assert.EqualValues(t, pipelines*events, stats.Books().Events)
	assert.Equal(t, pipelines*lanes, stats.Sources())
	t.Log(stats.Books().Redelivered, "events came again")
	assert.Greater(t, stats.Books().Redelivered, uint64(events), "the connector has had batches more than once")
}

const manySourcesConfig = `
receivers:
  bpf: { pin_path: {{.pin_path}}, probes: { {{.probes}} } }
processors:
{{.filters}}
connectors:
  bpf_aggregate: { pin_path: {{.pin_path}}, interval: 200ms }
exporters:
  otlp_grpc: { endpoint: {{.backend}}, tls: { insecure: true }, sending_queue: { enabled: false } }
  otlp_grpc/refusing: { endpoint: {{.backend}}, compression: none, tls: { insecure: true }, sending_queue: { enabled: false }, retry_on_failure: { enabled: false } }
service:
  pipelines:
{{.flows}}
    metrics: { receivers: [bpf_aggregate], exporters: [otlp_grpc] }
  telemetry:
    metrics: { level: none }
`
