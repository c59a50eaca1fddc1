//go:build linux && kernel

package benchmarks

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/open-telemetry/opentelemetry-collector-contrib/connector/signaltometricsconnector"
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/filterprocessor"
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/transformprocessor"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/connector/connectortest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/processor/bpffilterprocessor"
)

// The events of a batch, and how many of them the filters keep: each way has to count just these.
const (
	jobEvents   = 1024
	jobPrograms = 100
	jobKept     = jobEvents - jobEvents/8
)

// BenchmarkJob makes three metrics of the same events, by category, operation, executable and error: how many there are,
// bytes moved, and a histogram of durations; one event of eight is filtered out. kernelpipe does it with bpf_filter, its
// queue in the kernel, and bpf_aggregate, and nothing is lost when the process is killed. Contrib's filter, transform and
// signal_to_metrics processors do it in memory. What the job costs is processor time, so run it with -cpu 1: then the time
// is that of all threads.
func BenchmarkJob(b *testing.B) {
	batch := event.Batch{Size: event.Size, Data: event.Bytes(jobBatch())}
	b.Run("kernelpipe", func(b *testing.B) {
		logs := event.Encode(event.EncodingFrames, batch, event.Clock{})
		runJob(b, startKernelpipe(b), func() plog.Logs { return logs })
	})
	b.Run("contrib", func(b *testing.B) {
		clock, err := event.NewClock()
		require.NoError(b, err)
		runJob(b, startContrib(b), func() plog.Logs { // these components change what they are given
			b.StopTimer()
			defer b.StartTimer()
			return event.Encode(event.EncodingRecords, batch, clock)
		})
	})
}

// job is a way to do it.
type job struct {
	consumer.Logs
	finish  func()        // waits for what is under way, and stops
	counted func() uint64 // then: events in the metrics
}

func runJob(b *testing.B, j job, logs func() plog.Logs) {
	b.ReportAllocs()
	batches := 0
	for b.Loop() {
		if err := j.ConsumeLogs(b.Context(), logs()); err != nil {
			b.Fatal(err)
		}
		batches++
	}
	b.StartTimer()
	j.finish()
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(batches)/jobEvents, "ns/event")
	require.EqualValues(b, batches*jobKept, j.counted())
}

func jobBatch() []event.Event {
	r := rand.New(rand.NewPCG(1, 1))
	events := make([]event.Event, jobEvents)
	for i := range events {
		e := &events[i]
		*e = event.Event{
			Version: event.Version, Category: event.CategoryFilesystem, Operation: event.FilesystemWrite, Time: uint64(i + 1),
			Duration: uint64(r.ExpFloat64() * float64(uint64(1)<<r.IntN(20)) * 1000), Bytes: 1 + r.Uint64N(1<<20),
			Process: event.Process{TGID: 1000, TID: 1000, UID: 1000, GID: 1000, Start: 1},
		}
		e.Result = int64(e.Bytes)
		event.SetText(e.Process.Comm[:], fmt.Sprintf("program-%d", r.IntN(jobPrograms)))
		e.SetName("data.db")
		if i%8 == 0 {
			e.Process.TGID = 50 // the default of bpf_filter drops filesystem events of these
		}
	}
	return events
}

func startKernelpipe(b *testing.B) job {
	path := filepath.Join("/sys/fs/bpf", "kernelpipe-benchmark-job")
	require.NoError(b, os.RemoveAll(path))
	b.Cleanup(func() { require.NoError(b, os.RemoveAll(path)) })
	metrics := &counter{}
	aggregate := newConnector(b, bpfaggregateconnector.NewFactory(), `
pin_path: `+path+`
interval: 1h
metrics: { kernel.event.latency: { enabled: false }, kernel.event.rate: { enabled: false } }
`, metrics)
	filter := newProcessor(b, bpffilterprocessor.NewFactory(), "pin_path: "+path, aggregate)
	return job{Logs: filter, counted: metrics.get, finish: func() {
		require.NoError(b, filter.Shutdown(context.Background())) // it delivers all first
		require.NoError(b, aggregate.Shutdown(context.Background()))
	}}
}

func startContrib(b *testing.B) job {
	const attributes = `
  attributes:
    - key: kernel.event.category
    - key: kernel.event.operation
    - key: process.executable.name
    - { key: error.type, optional: true }
`
	metrics := &counter{}
	aggregate := newConnector(b, signaltometricsconnector.NewFactory(), `
logs:
- name: kernel.events
  sum: { value: "1", monotonic: true }`+attributes+`
- name: kernel.io
  conditions: [ 'log.attributes["kernel.event.bytes"] != nil' ]
  sum: { value: 'log.attributes["kernel.event.bytes"]', monotonic: true }`+attributes+`
- name: kernel.event.duration
  conditions: [ 'log.attributes["kernel.event.duration"] != nil' ]
  exponential_histogram: { count: "1", value: 'log.attributes["kernel.event.duration"]', max_size: 160 }`+attributes, metrics)
	transform := newProcessor(b, transformprocessor.NewFactory(), `
log_statements:
- 'set(log.attributes["process.executable.name"], log.attributes["thread.name"]) where log.attributes["process.executable.name"] == nil'
`, aggregate)
	filter := newProcessor(b, filterprocessor.NewFactory(), `
logs:
  log_record:
  - '(log.attributes["kernel.event.category"] == "filesystem" or log.attributes["kernel.event.category"] == "syscall") and log.attributes["process.pid"] <= 99'
`, transform)
	return job{Logs: filter, counted: metrics.get, finish: func() {
		for _, c := range []component.Component{filter, transform, aggregate} {
			require.NoError(b, c.Shutdown(context.Background()))
		}
	}}
}

// counter counts the events in the metrics that come in.
type counter struct{ events uint64 }

func (*counter) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (c *counter) ConsumeMetrics(_ context.Context, metrics pmetric.Metrics) error {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() == "kernel.events" {
					for _, point := range metric.Sum().DataPoints().All() {
						c.events += uint64(point.IntValue())
					}
				}
			}
		}
	}
	return nil
}

func (c *counter) get() uint64 { return c.events }

func newProcessor(b *testing.B, factory processor.Factory, config string, next consumer.Logs) processor.Logs {
	p, err := factory.CreateLogs(b.Context(), processortest.NewNopSettings(factory.Type()), configure(b, factory, config), next)
	require.NoError(b, err)
	require.NoError(b, p.Start(b.Context(), componenttest.NewNopHost()), "this benchmark needs root and a kernel with BPF")
	return p
}

func newConnector(b *testing.B, factory connector.Factory, config string, next consumer.Metrics) connector.Logs {
	c, err := factory.CreateLogsToMetrics(b.Context(), connectortest.NewNopSettings(factory.Type()), configure(b, factory, config), next)
	require.NoError(b, err)
	require.NoError(b, c.Start(b.Context(), componenttest.NewNopHost()), "this benchmark needs root and a kernel with BPF")
	return c
}

func configure(b *testing.B, factory component.Factory, text string) component.Config {
	retrieved, err := confmap.NewRetrievedFromYAML([]byte(text))
	require.NoError(b, err)
	conf, err := retrieved.AsConf()
	require.NoError(b, err)
	config := factory.CreateDefaultConfig()
	require.NoError(b, conf.Unmarshal(config))
	return config
}
