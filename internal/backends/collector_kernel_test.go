//go:build linux && kernel

package backends

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the tests run: `make` builds it.
const built = "../../_build/"

const (
	interval  = time.Second
	simulated = 100_000
	// histogramError is how far off a quantile of an exponential histogram may be, relatively: a bucket of scale 3.
	histogramError = 0.0906 // 2^(1/8) - 1
	// explicitError is the same for the explicit buckets that are configured below.
	explicitError = 1
)

const collectorConfig = `
receivers:
  bpf:
    pin_path: {{.pin_path}}
    probes: { simulate: { events: {{.simulated}}, seed: 1 } }
  otlp: { protocols: { http: { endpoint: {{.otlp}} } } }
processors:
  bpf_filter: { pin_path: {{.pin_path}} }
  bpf_enrich: { pin_path: {{.pin_path}} }
  transform: # as the connector's README says
    metric_statements:
      - set(datapoint.attributes["process.pid"], resource.attributes["process.pid"]) where resource.attributes["process.pid"] != nil
connectors:
  bpf_aggregate:
    pin_path: {{.pin_path}}
    interval: {{.interval}}
    metrics:
      kernel.event.rate: { window: {{.interval}} }
      kernel.event.duration_quantile:
        enabled: true
        window: 2m
        dimensions: [kernel.event.category, kernel.event.operation, process.executable.name]
      process.io:
        kind: bytes
        match: { command: [{{.program}}] }
        dimensions: [process.pid]
      explicit.duration:
        kind: duration
        dimensions: [kernel.event.category, kernel.event.operation, process.executable.name]
        histogram:
          boundaries: [1us, 2us, 4us, 8us, 16us, 32us, 64us, 128us, 256us, 512us, 1ms, 2ms, 4ms, 8ms, 16ms, 32ms, 64ms, 128ms, 256ms, 512ms, 1s]
  bpf_aggregate/second: { pin_path: {{.pin_path}}, interval: {{.interval}} } # of the same events, apart from the first
exporters:
  otlp_http: { metrics_endpoint: "{{.push}}", sending_queue: { num_consumers: 1 } } # one after the other, so in order
  prometheus: { endpoint: {{.scraped}} }
extensions:
  health_check: { endpoint: {{.health}} }
service:
  extensions: [health_check]
  pipelines:
    logs/events: { receivers: [bpf, otlp], processors: [bpf_filter, bpf_enrich], exporters: [bpf_aggregate, bpf_aggregate/second] }
    metrics: { receivers: [bpf_aggregate, bpf_aggregate/second], processors: [transform], exporters: [otlp_http, prometheus] }
  telemetry: { metrics: { level: none } }
`

// startCollector starts the collector, which pushes to the URL and can be scraped at the address. It returns the address
// of its OTLP receiver.
func startCollector(t *testing.T, pushTo, scraped string) (otlp string) {
	t.Helper()
	otlp = freeAddress(t)
	health := freeAddress(t)
	start(t, "http://"+health, built+"otelcol-kernelpipe", "--config", write(t, "collector.yaml", collectorConfig, map[string]any{
		"pin_path": pinPath(t), "simulated": simulated, "otlp": otlp, "interval": interval, "push": pushTo, "scraped": scraped, "health": health,
		"program": program,
	}))
	return otlp
}

// pinPath returns a directory of the test's own in bpffs, which is gone after the test.
func pinPath(t *testing.T) string {
	t.Helper()
	path := filepath.Join("/sys/fs/bpf", "kernelpipe-backends-"+strings.ReplaceAll(t.Name(), "/", "-"))
	require.NoError(t, os.RemoveAll(path))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(path)) })
	return path
}

// write writes a file, a template over values, and returns its path.
func write(t *testing.T, name, text string, values map[string]any) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), name))
	require.NoError(t, err)
	defer func() { assert.NoError(t, file.Close()) }()
	require.NoError(t, template.Must(template.New(name).Option("missingkey=error").Parse(text)).Execute(file, values))
	return file.Name()
}
