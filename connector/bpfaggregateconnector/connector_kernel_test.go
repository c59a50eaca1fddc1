//go:build linux && kernel

package bpfaggregateconnector

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadatatest"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

func TestLifecycle(t *testing.T) {
	c := create(t, newConfig(), consumertest.NewNop())
	require.NoError(t, c.Shutdown(t.Context()), "without a start")
	startIt(t, c)
	require.NoError(t, c.Shutdown(t.Context()))
	require.NoError(t, c.Shutdown(t.Context()), "twice")
	require.ErrorContains(t, c.ConsumeLogs(t.Context(), frame(plainBatch(workload()))), "connector bpf_aggregate is not running")
	noEvent := plog.NewLogs()
	noEvent.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	require.ErrorContains(t, c.ConsumeLogs(t.Context(), noEvent), "connector bpf_aggregate is not running")
	startIt(t, c)
	feed(t, c, workload()...)
}

func TestTwoProcesses(t *testing.T) {
	config := newConfig(func(c *Config) { c.PinPath = pinPath(t) })
	first := start(t, config, consumertest.NewNop())
	feed(t, first, workload()...)
	second := create(t, config, consumertest.NewNop())
	require.ErrorContains(t, second.Start(t.Context(), componenttest.NewNopHost()), "is in use by another running process")
	require.NoError(t, second.Shutdown(t.Context()))
	feed(t, first, workload()...)
	assert.EqualValues(t, 2*len(workload()), first.stats.Books().Events)
}

func TestForeignPin(t *testing.T) {
	config := newConfig(func(c *Config) { c.PinPath = pinPath(t) })
	require.NoError(t, os.MkdirAll(filepath.Join(config.PinPath, "connector@bpf_aggregate", "stats-0"), 0o700))
	c := create(t, config, consumertest.NewNop())
	err := c.Start(t.Context(), componenttest.NewNopHost())
	var shape *bpf.ShapeError
	require.ErrorAs(t, err, &shape)
	require.ErrorContains(t, err, "connector bpf_aggregate: ")
	require.NoError(t, c.Shutdown(t.Context()))
}

func TestExportsAtIntervals(t *testing.T) {
	out := &sink{}
	c := start(t, newConfig(func(c *Config) { c.Interval = 10 * time.Millisecond }), out)
	feed(t, c, workload()...)
	exports := 0
	require.Eventually(t, func() bool {
		exports += len(out.take())
		return exports >= 3
	}, 10*time.Second, 10*time.Millisecond)
}

func TestRestart(t *testing.T) {
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			out := &sink{}
			config := newConfig(func(c *Config) { c.PinPath, c.Temporality = pinPath(t), temporality })
			c := start(t, config, out)
			events := mixed(10000, 50, 1)
			batch := enrichedBatch(events)
			batch.Source, batch.Sequence = 0x100, 0
			require.NoError(t, c.ConsumeLogs(t.Context(), frame(batch)))
			require.NoError(t, c.export(t.Context()))
			first := out.take()
			assert.EqualValues(t, len(events), sums(first, "kernel.events"))
			kill(t, c)
			c = start(t, config, out)
			batch.Redelivered = true
			require.NoError(t, c.ConsumeLogs(t.Context(), frame(batch)))
			require.NoError(t, c.export(t.Context()))
			again := out.take()
			if temporality == Delta {
				assert.Zero(t, sums(again, "kernel.events"))
			} else {
				assert.EqualValues(t, len(events), sums(again, "kernel.events"))
				assert.Equal(t, starts(first), starts(again), "start times survive")
			}
			assert.EqualValues(t, len(events), c.stats.Books().Redelivered)
			assert.EqualValues(t, len(events), c.stats.Books().Events)
			batch.Sequence += uint64(len(events)) - 100 // 100 are known, the others are new
			require.NoError(t, c.ConsumeLogs(t.Context(), frame(batch)))
			assert.EqualValues(t, 2*len(events)-100, c.stats.Books().Events)
		})
	}
}

// starts returns the start times in an export, by attributes.
func starts(exports []pmetric.Metrics) map[string]pcommon.Timestamp {
	got := map[string]pcommon.Timestamp{}
	for _, p := range sumPoints(exports) {
		name, _ := p.Attributes().Get(dimensionExecutable)
		got[name.Str()] = p.StartTimestamp()
	}
	return got
}

// sumPoints returns the points of kernel.events.
func sumPoints(exports []pmetric.Metrics) (points []pmetric.NumberDataPoint) {
	for _, export := range exports {
		for _, m := range export.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
			if m.Name() == "kernel.events" {
				for _, p := range m.Sum().DataPoints().All() {
					points = append(points, p)
				}
			}
		}
	}
	return points
}

// TestConcurrency: several lanes deliver while metrics are exported.
func TestConcurrency(t *testing.T) {
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			const lanes, batches, size = 4, 50, 700
			out := &sink{}
			c := start(t, newConfig(only("kernel.events", "kernel.event.latency"), func(c *Config) {
				c.Temporality, c.CardinalityLimit = temporality, 100
			}), out)
			var group sync.WaitGroup
			for lane := range lanes {
				group.Go(func() {
					for i := range batches {
						batch := enrichedBatch(mixed(size, 300, uint64(lane*batches+i)))
						batch.Source, batch.Sequence = uint64(0x100+lane), uint64(i*size)
						assert.NoError(t, c.ConsumeLogs(context.Background(), frame(batch)))
						batch.Redelivered = true
						assert.NoError(t, c.ConsumeLogs(context.Background(), frame(batch)))
					}
				})
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					default:
						assert.NoError(t, c.export(context.Background()))
					}
				}
			}()
			group.Wait()
			close(stop)
			<-stopped
			require.NoError(t, c.export(t.Context()))
			b := newBackend(out)
			began, latencies := map[string]pcommon.Timestamp{}, int64(0)
			for _, export := range out.take() {
				b.note([]pmetric.Metrics{export})
				for name, start := range b.starts {
					require.GreaterOrEqual(t, start, began[name], name)
					began[name] = start
				}
				if temporality == Cumulative {
					latencies = 0
				}
				latencies += sums([]pmetric.Metrics{export}, "kernel.event.latency")
			}
			assert.NotEmpty(t, began)
			assert.EqualValues(t, lanes*batches*size, b.total())
			assert.EqualValues(t, lanes*batches*size, latencies)
			assert.EqualValues(t, lanes*batches*size, c.stats.Books().Redelivered)
		})
	}
}

func TestCumulativeRefused(t *testing.T) {
	out := &sink{}
	c := start(t, newConfig(), out)
	feed(t, c, workload()...)
	out.refuse(errors.New("busy"))
	require.ErrorContains(t, c.export(t.Context()), "busy")
	feed(t, c, workload()...)
	out.refuse(nil)
	require.NoError(t, c.export(t.Context()))
	assert.EqualValues(t, 2*len(workload()), sums(out.take(), "kernel.events"))
}

// TestDeltaRefused: what is refused is sent again as it was, by the next process too.
func TestDeltaRefused(t *testing.T) {
	out := &sink{}
	config := newConfig(only("kernel.events", "kernel.event.duration"), func(c *Config) { c.PinPath, c.Temporality = pinPath(t), Delta })
	c := start(t, config, out)
	feed(t, c, workload()...)
	out.refuse(errors.New("busy"))
	require.ErrorContains(t, c.export(t.Context()), "busy")
	sealed, ok := c.stats.Sealed()
	require.True(t, ok)
	feed(t, c, workload()...)
	require.ErrorContains(t, c.export(t.Context()), "busy")
	kill(t, c)

	c = start(t, config, out)
	feed(t, c, workload()[:3]...)
	require.ErrorContains(t, c.export(t.Context()), "busy")
	out.refuse(nil)
	require.NoError(t, c.export(t.Context()))
	got := out.take()
	require.Len(t, got, 2)
	assert.EqualValues(t, len(workload()), sums(got[:1], "kernel.events"))
	assert.EqualValues(t, len(workload())+3, sums(got[1:], "kernel.events"))
	assert.NotEmpty(t, sumPoints(got[:1]))
	for _, p := range sumPoints(got[:1]) {
		assert.Equal(t, sealed.Start.UnixNano(), p.StartTimestamp().AsTime().UnixNano())
		assert.Equal(t, sealed.End.UnixNano(), p.Timestamp().AsTime().UnixNano())
	}
}

// TestExpiry: a series that is idle goes, its totals stay in the books, and when it comes back it has a new start.
func TestExpiry(t *testing.T) {
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			out := &sink{}
			clock := time.Unix(4_000_000_000, 0)
			c := create(t, newConfig(only("kernel.events", "kernel.io", "kernel.event.rate"), func(c *Config) {
				c.Temporality = temporality
			}), out)
			c.config.ExpireAfter = 50 * time.Millisecond
			c.now = func() time.Time { return clock }
			startIt(t, c)
			tick := func() (events int64, series int) {
				clock = clock.Add(10 * time.Second)
				require.NoError(t, c.export(t.Context()))
				got := out.take()
				return sums(got, "kernel.events"), len(starts(got))
			}
			a := example(event.CategoryNetwork, event.NetworkSend, "a")
			b := example(event.CategoryNetwork, event.NetworkSend, "b")
			feed(t, c, a, a, b)
			events, series := tick()
			assert.EqualValues(t, 3, events)
			assert.Equal(t, 2, series)

			time.Sleep(60 * time.Millisecond)
			feed(t, c, b)
			out.refuse(errors.New("busy"))
			require.Error(t, c.export(t.Context()))
			assert.EqualValues(t, 2, c.registries[0].active.Load(), "nothing expires before it is exported")
			out.refuse(nil)
			tick()
			assert.EqualValues(t, 1, c.registries[0].active.Load())
			assert.EqualValues(t, 1, c.registries[0].expired.Load())
			for _, view := range c.exporter.views {
				if view != nil && view.history != nil {
					assert.Len(t, view.history.series, 1, "the category goes on")
				}
			}
			books := c.stats.ViewBooks(c.views[0].number)
			assert.EqualValues(t, 4, books.Events)
			assert.EqualValues(t, 40, books.Bytes)
			var kept uint64
			require.NoError(t, c.stats.Each(func(_ bpf.SeriesID, entry *bpf.Entry) bool {
				if entry.Series.View == c.views[0].number {
					kept += entry.Totals.Events
				}
				return true
			}))
			assert.Equal(t, books.Events, kept+books.RetiredEvents)

			feed(t, c, a)
			clock = clock.Add(10 * time.Second)
			require.NoError(t, c.export(t.Context()))
			got := out.take()
			if temporality == Cumulative {
				assert.EqualValues(t, 2+1, sums(got, "kernel.events"), "b has 2, and a begins anew")
				assert.Greater(t, starts(got)["a"], starts(got)["b"])
			} else {
				assert.EqualValues(t, 1, sums(got, "kernel.events"))
			}
		})
	}
}

// TestMillionDimensionSets: the limit holds, no total is lost, and memory stays where it is.
func TestMillionDimensionSets(t *testing.T) {
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			const sets, size, limit = 1_000_000, 10_000, 2000
			out := &sink{}
			config := newConfig(custom(map[string]MetricConfig{
				"events":    {Kind: Events, Dimensions: []string{dimensionPID, dimensionExecutable}},
				"bytes":     {Kind: Bytes, Dimensions: []string{dimensionPID, dimensionExecutable}},
				"durations": {Kind: Duration, Dimensions: []string{dimensionPID, dimensionExecutable}},
				"total":     {Kind: Events},
				"rates":     {Kind: Rate, Dimensions: []string{dimensionPID, dimensionExecutable}},
				"quantiles": {Kind: Quantiles, Dimensions: []string{dimensionPID, dimensionExecutable}},
			}), func(c *Config) { c.Temporality, c.CardinalityLimit = temporality, limit })
			c := start(t, config, out)
			memory := c.stats.Memory()
			events := make([]event.Event, size)
			sent := map[string]int64{}
			var resident int
			export := func() {
				var books bpf.ViewBooks // of what the last exports had and is no more
				if temporality == Cumulative {
					books = c.stats.ViewBooks(c.registries[0].view.number)
				}
				require.NoError(t, c.export(t.Context()))
				got := out.take()
				points := map[string]int{}
				for _, export := range got {
					for _, resource := range export.ResourceMetrics().All() {
						for _, m := range resource.ScopeMetrics().At(0).Metrics().All() {
							points[m.Name()] += len(pointsOf(m))
						}
					}
				}
				for name := range config.Metrics {
					assert.LessOrEqual(t, points[name], limit, name)
				}
				for _, name := range []string{"events", "bytes", "durations", "total"} {
					if temporality == Cumulative {
						sent[name] = 0
					}
					sent[name] += sums(got, name)
				}
				if temporality == Cumulative {
					sent["events"] += int64(books.RetiredEvents)
					sent["bytes"] += int64(books.RetiredBytes)
					sent["durations"] += int64(books.RetiredEvents)
				}
			}
			for first := 0; first < sets; first += size {
				for i := range events {
					events[i] = example(event.CategoryNetwork, event.NetworkSend, "a", func(e *event.Event) { e.Process.TGID = uint32(1 + first + i) })
				}
				feed(t, c, events...)
				if first%(sets/5) == 0 {
					export()
				}
				if first == 0 { // all that is allocated once is there: what comes now would come for ever
					resident = residentMemory(t)
				}
			}
			export()
			grown := residentMemory(t) - resident
			t.Logf("resident memory grew by %d KiB", grown>>10)
			assert.Less(t, grown, 64<<20, "bytes; the keys of all sets alone would be %d MiB", sets*unsafe.Sizeof(bpf.Series{})>>20)
			assert.Equal(t, map[string]int64{"events": sets, "bytes": 10 * sets, "durations": sets, "total": sets}, sent)
			assert.Equal(t, memory, c.stats.Memory())
			for _, r := range c.registries {
				assert.LessOrEqual(t, len(r.entries), limit)
				if limit := r.view.limit; limit > 2 { // not that of total
					assert.LessOrEqual(t, r.active.Load(), int64(limit))
					assert.GreaterOrEqual(t, r.active.Load(), int64(limit)*3/4)
					assert.EqualValues(t, sets, r.overflowed.Load()+uint64(r.used)+r.expired.Load())
				}
			}
		})
	}
}

// residentMemory returns how much memory the process has, in bytes, once the garbage is collected.
func residentMemory(t testing.TB) int {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	fields := strings.Fields(string(text))
	require.Greater(t, len(fields), 1)
	pages, err := strconv.Atoi(fields[1])
	require.NoError(t, err)
	return pages * os.Getpagesize()
}

func TestLowerLimit(t *testing.T) {
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			out := &sink{}
			config := newConfig(only("kernel.events", "kernel.event.duration"), func(c *Config) { c.PinPath, c.Temporality = pinPath(t), temporality })
			c := start(t, config, out)
			events := mixed(5000, 200, 1)
			require.NoError(t, c.ConsumeLogs(t.Context(), frame(enrichedBatch(events))))
			out.refuse(errors.New("busy"))
			require.Error(t, c.export(t.Context())) // so that delta has a sealed interval
			require.NoError(t, c.ConsumeLogs(t.Context(), frame(enrichedBatch(events))))
			out.refuse(nil)
			kill(t, c)

			config.CardinalityLimit = 20
			c = start(t, config, out)
			require.NoError(t, c.ConsumeLogs(t.Context(), frame(enrichedBatch(mixed(100, 300, 2)))))
			require.NoError(t, c.export(t.Context()))
			got := out.take()
			assert.EqualValues(t, 2*len(events)+100, sums(got, "kernel.events"))
			if temporality == Delta {
				assert.Len(t, sumPoints(got[:1]), 200, "of the sealed interval, which stays as it is")
				got = got[1:]
			}
			assert.Len(t, sumPoints(got), 20)
			books := c.stats.ViewBooks(c.views[0].number)
			assert.EqualValues(t, 2*len(events)+100, books.Events)
		})
	}
}

// observed gives a connector a log that can be read.
func observed(c *aggregateConnector) *observer.ObservedLogs {
	core, logs := observer.New(zap.InfoLevel)
	c.set.Logger = zap.New(core)
	return logs
}

func TestReconfiguration(t *testing.T) {
	out := &sink{}
	config := newConfig(func(c *Config) { c.PinPath = pinPath(t) })
	c := start(t, config, out)
	feed(t, c, workload()...)
	kill(t, c)

	// Rate and latency stay; the others are now broken down in another way, under another name too.
	config = newConfig(func(c *Config) { c.PinPath = config.PinPath })
	for _, name := range []string{"kernel.events", "kernel.io", "kernel.event.duration"} {
		metric := config.Metrics[name]
		metric.Dimensions = []string{dimensionCategory}
		config.Metrics["my."+name] = metric
		delete(config.Metrics, name)
	}
	c = create(t, config, out)
	logs := observed(c)
	startIt(t, c)
	require.Equal(t, 1, logs.Len())
	entry := logs.All()[0]
	assert.Equal(t, zap.WarnLevel, entry.Level)
	assert.Equal(t, map[string]any{"metrics": "kernel.event.duration,kernel.events,kernel.io", "series": int64(7), "events": uint64(len(workload()))}, entry.ContextMap())
	feed(t, c, workload()...)
	require.NoError(t, c.export(t.Context()))
	got := out.take()
	assert.EqualValues(t, len(workload()), sums(got, "my.kernel.events"))
	assert.EqualValues(t, 2*len(workload()), sums(got, "kernel.event.latency"))
}

// TestTemporalityChange: what was not counted as one is counted as the other, and what was sealed as delta is sent as such.
func TestTemporalityChange(t *testing.T) {
	out := &sink{}
	config := newConfig(only("kernel.events", "kernel.event.duration"), func(c *Config) { c.PinPath, c.Temporality = pinPath(t), Delta })
	c := start(t, config, out)
	feed(t, c, workload()...)
	out.refuse(errors.New("busy"))
	require.Error(t, c.export(t.Context()))
	feed(t, c, workload()[:3]...)
	kill(t, c)

	config.Temporality = Cumulative
	c = start(t, config, out)
	feed(t, c, workload()...)
	out.refuse(nil)
	require.NoError(t, c.export(t.Context()))
	got := out.take()
	require.Len(t, got, 2)
	deltas := newLedger()
	for _, metrics := range got {
		deltas.store(metrics)
	}
	assert.EqualValues(t, len(workload()), deltas.sum("kernel.events"))
	assert.EqualValues(t, 3+len(workload()), sums(got[1:], "kernel.events"))
	require.NoError(t, c.export(t.Context()))
	assert.EqualValues(t, 3+len(workload()), sums(out.take(), "kernel.events"))
	kill(t, c)

	config.Temporality = Delta
	c = start(t, config, out)
	feed(t, c, workload()...)
	require.NoError(t, c.export(t.Context()))
	assert.EqualValues(t, 3+2*len(workload()), sums(out.take(), "kernel.events"))
	feed(t, c, workload()...)
	require.NoError(t, c.export(t.Context()))
	assert.EqualValues(t, len(workload()), sums(out.take(), "kernel.events"))
}

// TestQuantilesOfEvents takes durations all the way, and compares with the sorted ones.
func TestQuantilesOfEvents(t *testing.T) {
	for name, durations := range distributions(10_000) {
		if name == "with_zeros" {
			continue // an event whose duration is 0 has none
		}
		out := &sink{}
		c := start(t, newConfig(custom(map[string]MetricConfig{"q": {Kind: Quantiles, Quantiles: []float64{0.5, 0.9, 0.99}}, "d": {Kind: Duration}})), out)
		for _, ns := range durations {
			require.NotZero(t, ns)
		}
		events := make([]event.Event, len(durations))
		for i := range events {
			events[i] = example(event.CategoryNetwork, event.NetworkSend, "a", func(e *event.Event) { e.Duration = durations[i] })
		}
		feed(t, c, events...)
		require.NoError(t, c.export(t.Context()))
		totals := totalsOf(durations)
		for _, m := range out.take()[0].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
			if m.Name() == "d" {
				want := pmetric.NewExponentialHistogramDataPoint()
				fillExponential(want, totals, HistogramConfig{MaxSize: 160, MaxScale: 3})
				got := m.ExponentialHistogram().DataPoints().At(0)
				assert.Equal(t, want.Positive().BucketCounts().AsRaw(), got.Positive().BucketCounts().AsRaw(), name)
				sum := min(want.Sum(), math.MaxInt64/1e9) // it goes no further, so that it never falls
				assert.Equal(t, []float64{sum, want.Min(), want.Max()}, []float64{got.Sum(), got.Min(), got.Max()}, name)
				continue
			}
			assert.Equal(t, 3, m.Gauge().DataPoints().Len())
			for _, p := range m.Gauge().DataPoints().All() {
				q, _ := p.Attributes().Get(attributeQuantile)
				assert.InEpsilon(t, quantile(q.Double(), 0, &totals.Bucket), p.DoubleValue(), 1e-12, name)
			}
		}
	}
}

func TestForeignRecords(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	out := &sink{}
	c := create(t, newConfig(only("kernel.events"), func(c *Config) { c.CardinalityLimit = 3 }), out)
	c.set.TelemetrySettings = telemetry.NewTelemetrySettings()
	startIt(t, c)

	logs := plog.NewLogs()
	records := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	records.AppendEmpty().Body().SetStr("hello")
	frame(plainBatch(workload())).ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).CopyTo(records.AppendEmpty())
	bad := workload()[:2]
	bad[1].Version = 77
	frame(plainBatch(bad)).ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).CopyTo(records.AppendEmpty())
	require.NoError(t, c.ConsumeLogs(t.Context(), logs))
	require.NoError(t, c.ConsumeLogs(t.Context(), event.Encode(event.EncodingRecords, plainBatch(workload()), event.Clock{})))
	out.refuse(errors.New("busy"))
	require.Error(t, c.export(t.Context()))
	out.refuse(nil)
	require.NoError(t, c.export(t.Context()))
	assert.EqualValues(t, 2*len(workload()), sums(out.take(), "kernel.events"))

	id := attribute.String("connector", "bpf_aggregate")
	name := attribute.String("metric", "kernel.events")
	point := func(value int64, attributes ...attribute.KeyValue) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Attributes: attribute.NewSet(append(attributes, id)...), Value: value}
	}
	one := func(value int64, attributes ...attribute.KeyValue) []metricdata.DataPoint[int64] {
		return []metricdata.DataPoint[int64]{point(value, attributes...)}
	}
	ignore := metricdatatest.IgnoreTimestamp()
	metadatatest.AssertEqualKernelpipeAggregateForeign(t, telemetry, []metricdata.DataPoint[int64]{
		point(1, attribute.String("reason", "foreign")), point(1, attribute.String("reason", "event"))}, ignore)
	metadatatest.AssertEqualKernelpipeAggregateDropped(t, telemetry, one(2, attribute.String("reason", "event")), ignore)
	metadatatest.AssertEqualKernelpipeAggregateEvents(t, telemetry, one(16), ignore)
	metadatatest.AssertEqualKernelpipeAggregateRedelivered(t, telemetry, one(0), ignore)
	metadatatest.AssertEqualKernelpipeAggregateExportFailures(t, telemetry, one(1), ignore)
	metadatatest.AssertEqualKernelpipeAggregateSeries(t, telemetry, one(3, name), ignore)
	metadatatest.AssertEqualKernelpipeAggregateExpired(t, telemetry, one(0, name), ignore)
	metadatatest.AssertEqualKernelpipeAggregateOverflowed(t, telemetry, one(12, name), ignore)
	metadatatest.AssertEqualKernelpipeAggregateLost(t, telemetry, one(0, name), ignore)
	metadatatest.AssertEqualKernelpipeAggregateUncertain(t, telemetry, one(0, name), ignore)
	metadatatest.AssertEqualKernelpipeAggregateUncertainBytes(t, telemetry, one(0, name), ignore)
	metadatatest.AssertEqualKernelpipeAggregateMemory(t, telemetry, one(int64(c.stats.Memory())), ignore)
}

// TestRemovedSeries: somebody removes a series from the pinned map. What comes for it until that is seen is counted as
// lost; then it begins anew.
func TestRemovedSeries(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	out := &sink{}
	config := newConfig(only("kernel.events"), func(c *Config) { c.PinPath = pinPath(t) })
	c := create(t, config, out)
	c.set.TelemetrySettings = telemetry.NewTelemetrySettings()
	startIt(t, c)
	sent := example(event.CategoryNetwork, event.NetworkSend, "a")
	opened := example(event.CategoryFilesystem, event.FilesystemOpen, "a")
	feed(t, c, sent, opened)

	stats, err := ebpf.LoadPinnedMap(filepath.Join(config.PinPath, "connector@bpf_aggregate", "stats-0", "stats"), nil)
	require.NoError(t, err)
	defer func() { assert.NoError(t, stats.Close()) }()
	require.NoError(t, c.stats.Each(func(id bpf.SeriesID, entry *bpf.Entry) bool {
		if event.Category(entry.Series.Category) == event.CategoryNetwork {
			require.NoError(t, stats.Delete(&id))
		}
		return true
	}))
	feed(t, c, sent, sent, opened)
	feed(t, c, sent, sent, sent, opened)
	require.NoError(t, c.export(t.Context()))
	assert.EqualValues(t, 3+3, sums(out.take(), "kernel.events"))
	metadatatest.AssertEqualKernelpipeAggregateLost(t, telemetry, []metricdata.DataPoint[int64]{{
		Attributes: attribute.NewSet(attribute.String("connector", "bpf_aggregate"), attribute.String("metric", "kernel.events")), Value: 2,
	}}, metricdatatest.IgnoreTimestamp())
}

// hanging is a metrics pipeline that accepts nothing until the context ends.
type hanging struct{}

func (hanging) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (hanging) ConsumeMetrics(ctx context.Context, _ pmetric.Metrics) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestShutdownWithDeadBackend(t *testing.T) {
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			config := newConfig(func(c *Config) { c.Temporality, c.PinPath = temporality, pinPath(t) })
			c := create(t, config, hanging{})
			c.config.Interval = time.Millisecond
			require.NoError(t, c.Start(t.Context(), componenttest.NewNopHost()))
			feed(t, c, workload()...)
			c.config.ShutdownTimeout = 100 * time.Millisecond
			require.NoError(t, c.Shutdown(context.Background()), "what was not exported is pinned")
			out := &sink{}
			config.Interval = time.Hour
			c = start(t, config, out)
			require.NoError(t, c.export(t.Context()))
			assert.EqualValues(t, len(workload()), sums(out.take(), "kernel.events"))

			config.PinPath = ""
			c = create(t, config, hanging{})
			require.NoError(t, c.Start(t.Context(), componenttest.NewNopHost()))
			feed(t, c, workload()...)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			require.ErrorContains(t, c.Shutdown(ctx), "the last metrics were not exported and are lost, as there is no pin_path")
		})
	}
}

func TestResource(t *testing.T) {
	out := &sink{}
	c := start(t, newConfig(only("kernel.events"), func(c *Config) { c.ResourceAttributes.HostName.Enabled = true }), out)
	feed(t, c, workload()...)
	require.NoError(t, c.export(t.Context()))
	name, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"host.name": name}, out.take()[0].ResourceMetrics().At(0).Resource().Attributes().AsRaw())
}
