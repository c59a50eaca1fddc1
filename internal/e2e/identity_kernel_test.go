//go:build linux && kernel

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTwoConnectors: the metrics of several connectors that lead to one exporter stay apart, in Prometheus, which has neither
// resource nor scope, as well as over OTLP.
func TestTwoConnectors(t *testing.T) {
	const events = 10_000
	backend, prometheus := newBackend(t), freeAddress(t)
	values := pipelineValues(pinPath(t), backend.address, fmt.Sprintf("simulate: { events: %d, seed: 1 }", events))
	values["prometheus"] = prometheus
	c := run(t, configure(t, twoConnectorsConfig, values))
	require.Eventually(t, func() bool { return backend.sum("kernel.events", nil) >= 3*events }, 60*time.Second, 50*time.Millisecond)
	for _, attributes := range []map[string]any{{"otelcol.component.id": "bpf_aggregate/a"}, {"otelcol.component.id": "bpf_aggregate/b"}} {
		assert.EqualValues(t, events, backend.sum("kernel.events", attributes), attributes)
		assert.EqualValues(t, events, backend.count("kernel.event.latency", attributes), attributes)
	}
	assert.Eventually(t, func() bool { return scrape(t, prometheus, "kernel_events_total") == 3*events }, 60*time.Second, 100*time.Millisecond,
		"Prometheus has the events of each connector once")
	c.terminate()
}

const twoConnectorsConfig = `
receivers:
  bpf: { pin_path: {{.pin_path}}, probes: { {{.probes}} } }
connectors:
  bpf_aggregate: { pin_path: {{.pin_path}}, interval: 100ms }
  bpf_aggregate/a: { pin_path: {{.pin_path}}, interval: 100ms }
  bpf_aggregate/b: { pin_path: {{.pin_path}}, interval: 100ms }
exporters:
  otlp_grpc: { endpoint: {{.backend}}, tls: { insecure: true }, sending_queue: { enabled: false } }
  prometheus: { endpoint: {{.prometheus}} }
service:
  pipelines:
    logs/events: { receivers: [bpf], exporters: [bpf_aggregate, bpf_aggregate/a, bpf_aggregate/b] }
    metrics: { receivers: [bpf_aggregate, bpf_aggregate/a, bpf_aggregate/b], exporters: [otlp_grpc, prometheus] }
  telemetry:
    metrics: { level: none }
`
