//go:build linux && kernel

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// overloadConfig exports every event as a log record of its own, past a queue that is soon full.
const overloadConfig = `
receivers:
  bpf: { pin_path: {{.pin_path}}, {{.receiver}} }
processors:
  bpf_filter:
    pin_path: {{.pin_path}}
    encoding: records
    queue: { capacity: 100 }
    retry_on_failure: { max_interval: 200ms }
    health: { loss_window: 2s, max_depth_ratio: 0.5 }
exporters:
  otlp_grpc:
    endpoint: {{.backend}}
    tls: { insecure: true }
    sending_queue: { enabled: false }
    retry_on_failure: { enabled: false }
extensions:
  health_check:
    http: { endpoint: {{.health}}, status: { enabled: true, path: / } }
    component_health: { include_permanent_errors: true, include_recoverable_errors: true, recovery_duration: 0s }
service:
  extensions: [health_check]
  pipelines:
    logs: { receivers: [bpf], processors: [bpf_filter], exporters: [otlp_grpc] }
  telemetry:
    metrics: {{.telemetry}}
`

const healthGate = "--feature-gates=+extension.healthcheck.useComponentStatus"

// TestBackpressure has a backend take nothing while far more happens than fits: the pressure reaches back to the ring
// buffer, where the kernel counts what doesn't fit, and memory does not grow. Everything else arrives when the backend
// is back.
func TestBackpressure(t *testing.T) {
	backend, pin, telemetry, load := newBackend(t), pinPath(t), freeAddress(t), newWorkload(t)
	backend.refuseLogs(func(plog.LogRecord) error { return status.Error(codes.Unavailable, "the backend is down") })
	c := run(t, configure(t, overloadConfig, map[string]any{
		"pin_path": pin, "backend": backend.address, "health": freeAddress(t), "telemetry": prometheusReader(t, telemetry),
		"receiver": fmt.Sprintf("probes: { filesystem: { command: [%s] } }, ring_buffer: { size: 64KiB }", workName),
	}), healthGate)
	load.run(workName)
	lost := func() float64 { return scrape(t, telemetry, "otelcol_kernelpipe_receiver_lost") }
	require.Positive(t, lost(), "the ring buffer was not full, so nothing was tested")
	before := c.resident()
	load.run(workName)
	assert.Less(t, c.resident(), before+64<<20, "the collector grows while nothing moves")
	kernel := scrape(t, telemetry, "otelcol_kernelpipe_stage_memory") + scrape(t, telemetry, "otelcol_kernelpipe_receiver_memory")
	assert.Less(t, kernel, float64(16<<20), "kernel memory")
	assert.Zero(t, len(backend.records()))
	full := lost()

	backend.refuseLogs(nil)
	require.Eventually(t, func() bool {
		return float64(len(backend.records())) == scrape(t, telemetry, "otelcol_kernelpipe_receiver_produced")-full
	}, 30*time.Second, 50*time.Millisecond)
	c.terminate()
	ledger := readBooks(t, pin, 64<<10)
	assert.EqualValues(t, full, ledger.lost)
	assert.Zero(t, ledger.waitingInRing)
	assert.Equal(t, ledger.produced-ledger.lost, ledger.committed)
	assert.Equal(t, ledger.committed, ledger.filter.Received)
	assert.EqualValues(t, len(backend.records()), ledger.filter.Delivered, "each once")
	assert.Equal(t, ledger.filter.Received, ledger.filter.Delivered+ledger.filter.Filtered)
	t.Logf("%d produced, %d lost, %d delivered; %d MiB resident, %.0f KiB in the kernel", ledger.produced, ledger.lost, ledger.filter.Delivered, before>>20, kernel/1024)
}

// TestComponentStatus asks the health check extension, as docs/operations.md says: a queue that is too full and an event
// that is lost make the component unhealthy, until it has passed.
func TestComponentStatus(t *testing.T) {
	backend, pin, health := newBackend(t), pinPath(t), freeAddress(t)
	c := run(t, configure(t, overloadConfig, map[string]any{
		"pin_path": pin, "backend": backend.address, "health": health, "telemetry": "{ level: none }",
		"receiver": "probes: { simulate: { events: 1000000, rate: 2000, seed: 1 } }",
	}), healthGate)
	becomes := func(code int, text string) {
		t.Helper()
		require.Eventually(t, func() bool {
			response, err := http.Get("http://" + health + "/?verbose")
			if err != nil {
				return false
			}
			body, err := io.ReadAll(response.Body)
			err = errors.Join(err, response.Body.Close())
			return err == nil && response.StatusCode == code && strings.Contains(string(body), text)
		}, 30*time.Second, 50*time.Millisecond, "the status does not become %d with %q", code, text)
	}
	becomes(http.StatusOK, "StatusOK")
	backend.refuseLogs(func(plog.LogRecord) error { return status.Error(codes.Unavailable, "the backend is down") })
	becomes(http.StatusInternalServerError, "events wait in a queue for 100")
	backend.refuseLogs(nil)
	becomes(http.StatusOK, "StatusOK")
	backend.refuseLogs(func(plog.LogRecord) error { return status.Error(codes.InvalidArgument, "not wanted") })
	becomes(http.StatusInternalServerError, "went to the dead letter")
	backend.refuseLogs(nil)
	becomes(http.StatusOK, "StatusOK")
	c.terminate()
}

// TestIdle measures what pipelines use that have nothing to do: 0.2 to 0.4 % of a CPU on a busy machine. One that waits
// by looking again and again uses far more than the 2 % that are allowed here.
func TestIdle(t *testing.T) {
	const span = 10 * time.Second
	backend, pin := newBackend(t), pinPath(t)
	values := pipelineValues(pin, backend.address, "process: { command: [nobody-has-this] }")
	values["interval"] = "10s"
	idle := map[string]*collector{
		"probes": run(t, configure(t, pipelineConfig, values)),
		"queue":  run(t, configure(t, replayConfig, values)),
	}
	time.Sleep(3 * time.Second) // for what a start leaves to do
	before := map[string]time.Duration{}
	for name, c := range idle {
		before[name] = c.cpu()
	}
	time.Sleep(span)
	for name, c := range idle {
		used := c.cpu() - before[name]
		assert.Less(t, used, span/50, name)
		t.Logf("%s: %s of CPU in %s", name, used, span)
	}
}

// cpu returns the CPU time that the collector has used so far, with the resolution of 10 ms that proc(5) has.
func (c *collector) cpu() time.Duration {
	c.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	require.NoError(c.t, err)
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	ticks := 0
	for _, field := range fields[11:13] { // utime and stime, USER_HZ is 100 on all architectures
		n, err := strconv.Atoi(field)
		require.NoError(c.t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// resident returns how much memory the collector has, in bytes.
func (c *collector) resident() uint64 {
	c.t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.cmd.Process.Pid))
	require.NoError(c.t, err)
	pages, err := strconv.ParseUint(strings.Fields(string(statm))[1], 10, 64)
	require.NoError(c.t, err)
	return pages * uint64(os.Getpagesize())
}
