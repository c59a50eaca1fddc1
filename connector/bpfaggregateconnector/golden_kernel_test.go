//go:build linux && kernel

package bpfaggregateconnector

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/pmetrictest"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

// workload is a few events of each category but syscall, whose numbers differ by architecture. Their time is far
// in the future, so that their latency is 0.
func workload() []event.Event {
	failed := func(errno int64) func(*event.Event) { return func(e *event.Event) { e.Result = -errno } }
	lasts := func(d time.Duration) func(*event.Event) { return func(e *event.Event) { e.Duration = uint64(d) } }
	events := []event.Event{
		example(event.CategoryNetwork, event.NetworkConnect, "curl", lasts(3*time.Millisecond)),
		example(event.CategoryNetwork, event.NetworkConnect, "curl", lasts(70*time.Millisecond), failed(111)),
		example(event.CategoryNetwork, event.NetworkConnect, "nc", lasts(5*time.Millisecond), failed(111)),
		example(event.CategoryFilesystem, event.FilesystemFsync, "postgres", lasts(8*time.Millisecond)),
		example(event.CategoryFilesystem, event.FilesystemFsync, "postgres", lasts(time.Second)),
		example(event.CategoryFilesystem, event.FilesystemOpen, "postgres", failed(2)),
		example(event.CategoryProcess, event.ProcessExec, "sh", lasts(0), func(e *event.Event) { e.Bytes = 0 }),
		example(event.CategoryProcess, event.ProcessExit, "sh", lasts(0), func(e *event.Event) { e.Bytes, e.Result = 0, 137 }),
	}
	for i := range events {
		events[i].Time = event.MaxTime
	}
	return events
}

// custom replaces the default metrics by others.
func custom(metrics map[string]MetricConfig) func(*Config) {
	return func(config *Config) {
		config.Metrics = map[string]MetricConfig{}
		for name, metric := range metrics {
			filled := newMetric()
			filled.Kind, filled.Dimensions, filled.Match, filled.Description = metric.Kind, metric.Dimensions, metric.Match, metric.Description
			if len(metric.Quantiles) > 0 {
				filled.Quantiles = metric.Quantiles
			}
			if metric.Histogram.MaxSize > 0 {
				filled.Histogram = metric.Histogram
			}
			config.Metrics[name] = filled
		}
	}
}

func TestGolden(t *testing.T) {
	all := dimensionNames()
	wide := workload()
	wide = append(wide, example(event.CategoryNetwork, event.NetworkSend, "bad\xff\xfename", func(e *event.Event) {
		*e.Network() = event.Network{Family: familyIPv4, Protocol: protocolTCP, LocalPort: 40000, RemotePort: 443,
			LocalAddress: [16]byte{127, 0, 0, 1}, RemoteAddress: [16]byte{192, 0, 2, 7}}
	}))
	enriched := make([]event.Enriched, len(wide))
	for i := range wide {
		enriched[i].Event = wide[i]
		c := &enriched[i].Context
		c.Known = event.KnownExecutable | event.KnownContainer
		event.SetText(c.Executable[:], "program")
		event.SetText(c.User[:], "www-data")
		c.ContainerID[0] = byte(1 + i%2)
		c.PodUID[0] = 0xab
	}
	for _, test := range []struct {
		name   string
		config func(*Config)
		steps  []event.Batch // after each there is an export
		expire time.Duration // and before each a pause of that length
	}{
		{"default", func(*Config) {}, []event.Batch{plainBatch(workload()), plainBatch(workload()[:3]), plainBatch(nil)}, 0},
		{"everything", func(c *Config) {
			for name, metric := range c.Metrics {
				metric.Enabled = true
				c.Metrics[name] = metric
			}
			c.ResourceAttributes.HostName.Enabled = false
		}, []event.Batch{plainBatch(workload()), plainBatch(workload()[1:5])}, 0},
		{"histograms", custom(map[string]MetricConfig{
			"explicit":  {Kind: Duration, Dimensions: []string{dimensionCategory}, Histogram: HistogramConfig{MaxSize: 160, MaxScale: 3, Boundaries: []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond}}},
			"small":     {Kind: Duration, Dimensions: []string{dimensionCategory}, Histogram: HistogramConfig{MaxSize: 4, MaxScale: 3}},
			"coarse":    {Kind: Duration, Dimensions: []string{dimensionCategory}, Histogram: HistogramConfig{MaxSize: 160, MaxScale: 0}},
			"latencies": {Kind: Latency, Histogram: HistogramConfig{MaxSize: 160, MaxScale: 3, Boundaries: []time.Duration{time.Millisecond}}},
		}), []event.Batch{plainBatch(workload()), plainBatch(workload())}, 0},
		{"conditions", custom(map[string]MetricConfig{
			"failed.connects": {Kind: Events, Description: "Connects that failed.", Dimensions: []string{dimensionExecutable, dimensionError},
				Match: match.Config{Operation: []string{"connect"}, ErrorsOnly: true}},
			"fsync.latency": {Kind: Duration, Dimensions: []string{"container.id"}, Match: match.Config{Operation: []string{"fsync"}}},
			"exits":         {Kind: Events, Dimensions: []string{dimensionError}, Match: match.Config{Category: []string{"process"}, Operation: []string{"exit"}}},
			"slow.share":    {Kind: Quantiles, Quantiles: []float64{0.5, 1}, Match: match.Config{MinDuration: time.Millisecond}},
		}), []event.Batch{enrichedBatch(enriched)}, 0},
		{"dimensions", custom(map[string]MetricConfig{
			"wide":    {Kind: Events, Dimensions: all},
			"process": {Kind: Bytes, Dimensions: []string{dimensionPID, dimensionExecutable}},
		}), []event.Batch{enrichedBatch(enriched)}, 0},
		{"limit", func(c *Config) {
			only("kernel.events", "kernel.event.duration")(c)
			c.CardinalityLimit = 4
		}, []event.Batch{plainBatch(workload()), plainBatch(workload()[4:])}, 0},
		// The second export has all series still, and then those that had no event are gone; in the third some are back.
		{"expiry", only("kernel.events", "kernel.event.duration"), []event.Batch{
			plainBatch(workload()), plainBatch(workload()[:1]), plainBatch(workload()[:2])}, 50 * time.Millisecond},
	} {
		for _, temporality := range []Temporality{Cumulative, Delta} {
			t.Run(test.name+"/"+string(temporality), func(t *testing.T) {
				out := &sink{}
				clock := time.Unix(4_000_000_000, 0)
				c := create(t, newConfig(test.config, func(c *Config) { c.Temporality = temporality }), out)
				c.now = func() time.Time { return clock }
				c.config.ExpireAfter = test.expire
				startIt(t, c)
				for i, batch := range test.steps {
					time.Sleep(test.expire)
					clock = clock.Add(5 * time.Second)
					require.NoError(t, c.ConsumeLogs(t.Context(), frame(batch)))
					clock = clock.Add(5 * time.Second)
					require.NoError(t, c.export(t.Context()))
					got := out.take()
					if len(got) == 0 {
						require.Empty(t, batch.Data)
						continue
					}
					require.Len(t, got, 1)
					path := filepath.Join("testdata", "golden", fmt.Sprintf("%s_%s_%d.yaml", test.name, temporality, i+1))
					if temporality == Delta && i == 0 { // from when the stats were made, by the clock of the machine
						clearStart(t, got[0])
					}
					if *update {
						require.NoError(t, golden.WriteMetricsToFile(path, got[0], golden.SkipMetricTimestampNormalization()))
					}
					want, err := golden.ReadMetrics(path)
					require.NoError(t, err)
					require.NoError(t, pmetrictest.CompareMetrics(want, got[0],
						pmetrictest.IgnoreResourceMetricsOrder(), pmetrictest.IgnoreMetricsOrder(), pmetrictest.IgnoreMetricDataPointsOrder()))
				}
			})
		}
	}
}

func plainBatch(events []event.Event) event.Batch {
	return event.Batch{Size: event.Size, Data: event.Bytes(events)}
}

// clearStart takes the start off all points that are no gauge's, which must have one before now.
func clearStart(t *testing.T, metrics pmetric.Metrics) {
	t.Helper()
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, m := range resource.ScopeMetrics().At(0).Metrics().All() {
			for _, p := range pointsOf(m) {
				if m.Type() != pmetric.MetricTypeGauge {
					require.WithinDuration(t, time.Now(), p.StartTimestamp().AsTime(), time.Minute)
					p.SetStartTimestamp(0)
				}
			}
		}
	}
}
