//go:build linux && kernel

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pipelineConfig is a pipeline as the README has it, with a backend.
const pipelineConfig = `
receivers:
  bpf:
    pin_path: {{.pin_path}}
    ring_buffer: { size: {{.ring}} }
    probes: { {{.probes}} }
    {{.more}}
processors:
  bpf_filter: { pin_path: {{.pin_path}}, queue: { capacity: {{.capacity}} } }
  bpf_enrich: { pin_path: {{.pin_path}}, queue: { capacity: {{.capacity}} } }
connectors:
  bpf_aggregate: { pin_path: {{.pin_path}}, interval: {{.interval}} }
exporters:
  otlp_grpc:
    endpoint: {{.backend}}
    tls: { insecure: true }
    sending_queue: { enabled: false }
    retry_on_failure: { enabled: false }
    timeout: 2s
service:
  pipelines:
    logs/events: { receivers: [bpf], processors: [bpf_filter, bpf_enrich], exporters: [bpf_aggregate] }
    metrics: { receivers: [bpf_aggregate], exporters: [otlp_grpc] }
  telemetry:
    metrics: {{.telemetry}}
`

const ringSize = 8 << 20

func pipelineValues(pin, backend, probes string) map[string]any {
	return map[string]any{"pin_path": pin, "ring": "8MiB", "capacity": 10_000, "backend": backend, "probes": probes, "more": "", "interval": "1s",
		"telemetry": "{ level: none }"}
}

// TestWorkload holds the metrics that arrive at a backend against what a workload is known to do.
func TestWorkload(t *testing.T) {
	backend, pin, load := newBackend(t), pinPath(t), newWorkload(t)
	c := run(t, configure(t, pipelineConfig, pipelineValues(pin, backend.address, "syscall: , network: , filesystem: , process: ")))
	load.run(idleName)
	load.run(workName)
	time.Sleep(100 * time.Millisecond) // the last connections close after the workload has ended
	c.terminate()

	series := func(category, operation, name, failure string) map[string]any {
		attributes := map[string]any{
			"kernel.event.category": category, "kernel.event.operation": operation, "process.executable.name": name,
		}
		if failure != "" {
			attributes["error.type"] = failure
		}
		return attributes
	}
	events := func(category, operation, name, failure string) int {
		return int(backend.sum("kernel.events", series(category, operation, name, failure)))
	}
	assert.Equal(t, execs, events("process", "exec", execName, ""), "execs")
	assert.Equal(t, execs, events("process", "exit", execName, ""), "exits")
	assert.Equal(t, connections, events("network", "connect", workName, ""), "connections")
	assert.Equal(t, connections, events("network", "accept", workName, ""), "accepted connections")
	assert.Equal(t, 2*connections, events("network", "close", workName, ""), "closed connections, both ends")
	assert.Equal(t, writes, events("filesystem", "write", workName, ""), "writes")
	assert.Equal(t, writes*writeSize, int(backend.sum("kernel.io", series("filesystem", "write", workName, ""))), "bytes written")
	assert.EqualValues(t, writes, backend.count("kernel.event.duration", series("filesystem", "write", workName, "")), "durations of writes")
	// The Go runtime looks for files too, before any program of ours runs: as many as in the idle program.
	assert.Equal(t, failedOpens, events("filesystem", "open", workName, "ENOENT")-events("filesystem", "open", idleName, "ENOENT"), "failed opens")

	ledger := readBooks(t, pin, ringSize)
	ledger.requireBalance(t)
	assert.Zero(t, ledger.lost, "lost")
	total := 0.0
	for _, p := range backend.matching("kernel.events", nil) {
		total += p.value
	}
	assert.EqualValues(t, ledger.aggregated, total, "all events are in the last export")
}

// TestMillion sends a million simulated events through the whole pipeline.
func TestMillion(t *testing.T) {
	const events = 1_000_000
	backend, pin := newBackend(t), pinPath(t)
	c := run(t, configure(t, pipelineConfig, pipelineValues(pin, backend.address, fmt.Sprintf("simulate: { events: %d, seed: 1 }", events))))
	require.Eventually(t, func() bool { return backend.sum("kernel.events", nil) == events }, 60*time.Second, 50*time.Millisecond)
	c.terminate()
	ledger := readBooks(t, pin, ringSize)
	ledger.requireBalance(t)
	assert.EqualValues(t, events, ledger.produced)
	assert.Zero(t, ledger.redelivered)
}
