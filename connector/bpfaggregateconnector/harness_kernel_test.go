//go:build linux && kernel

package bpfaggregateconnector

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/connector/connectortest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadata"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// pinPath returns a directory of the test's own in bpffs, which is gone after the test.
func pinPath(t testing.TB) string {
	t.Helper()
	path := filepath.Join("/sys/fs/bpf", "kernelpipe-aggregate-"+strings.ReplaceAll(t.Name(), "/", "-"))
	require.NoError(t, os.RemoveAll(path))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(path)) })
	return path
}

// newConfig is the default configuration, pinned nowhere, with no host and no exports but those a test asks for.
func newConfig(change ...func(*Config)) *Config {
	config := createDefaultConfig().(*Config)
	config.PinPath, config.Interval, config.ExpireAfter = "", time.Hour, 0
	config.ResourceAttributes.HostName.Enabled = false
	for _, c := range change {
		c(config)
	}
	return config
}

// only leaves the named metrics of those there are by default.
func only(names ...string) func(*Config) {
	return func(config *Config) {
		for name, metric := range config.Metrics {
			metric.Enabled = false
			for _, n := range names {
				metric.Enabled = metric.Enabled || n == name
			}
			config.Metrics[name] = metric
		}
	}
}

// sink is a metrics pipeline: it keeps what it is given, or refuses it. Two points that say they are one, and one that ends
// before it starts, it always refuses.
type sink struct {
	mutex sync.Mutex
	err   error
	got   []pmetric.Metrics
}

func (s *sink) Capabilities() consumer.Capabilities { return consumer.Capabilities{MutatesData: true} }

func (s *sink) ConsumeMetrics(_ context.Context, metrics pmetric.Metrics) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.err != nil {
		return s.err
	}
	if err := check(metrics); err != nil {
		return err
	}
	s.got = append(s.got, metrics)
	return nil
}

// check fails if two points of a metric have the same attributes and resource, or one has no time between start and end.
func check(metrics pmetric.Metrics) error {
	seen := map[string]bool{}
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, m := range resource.ScopeMetrics().At(0).Metrics().All() {
			for _, p := range pointsOf(m) {
				point := fmt.Sprint(m.Name(), p.Attributes().AsRaw(), resource.Resource().Attributes().AsRaw())
				if seen[point] {
					return fmt.Errorf("two points are one: %s", point)
				}
				if start := p.StartTimestamp(); start >= p.Timestamp() {
					return fmt.Errorf("it starts %s after its end: %s", time.Duration(start-p.Timestamp()), point)
				}
				seen[point] = true
			}
		}
	}
	return nil
}

// point is what points of all types have.
type point interface {
	Attributes() pcommon.Map
	StartTimestamp() pcommon.Timestamp
	SetStartTimestamp(pcommon.Timestamp)
	Timestamp() pcommon.Timestamp
}

func pointsOf(m pmetric.Metric) []point {
	switch m.Type() {
	case pmetric.MetricTypeSum:
		return collect(m.Sum().DataPoints().All())
	case pmetric.MetricTypeGauge:
		return collect(m.Gauge().DataPoints().All())
	case pmetric.MetricTypeHistogram:
		return collect(m.Histogram().DataPoints().All())
	case pmetric.MetricTypeExponentialHistogram:
		return collect(m.ExponentialHistogram().DataPoints().All())
	default:
		panic(m.Type().String() + " is none of ours")
	}
}

func collect[P point](points iter.Seq2[int, P]) (all []point) {
	for _, p := range points {
		all = append(all, p)
	}
	return all
}

func (s *sink) refuse(err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.err = err
}

// take returns what has come in since the last call.
func (s *sink) take() []pmetric.Metrics {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	got := s.got
	s.got = nil
	return got
}

func create(t testing.TB, config *Config, next consumer.Metrics) *aggregateConnector {
	t.Helper()
	require.NoError(t, config.Validate())
	set := connectortest.NewNopSettings(metadata.Type)
	set.ID = component.NewID(metadata.Type) // the same after a restart
	c, err := NewFactory().CreateLogsToMetrics(t.Context(), set, config, next)
	require.NoError(t, err)
	return c.(*aggregateConnector)
}

func start(t testing.TB, config *Config, next consumer.Metrics) *aggregateConnector {
	t.Helper()
	c := create(t, config, next)
	startIt(t, c)
	return c
}

func startIt(t testing.TB, c *aggregateConnector) {
	t.Helper()
	require.NoError(t, c.Start(t.Context(), componenttest.NewNopHost()), "this test needs root and a kernel with BPF")
	t.Cleanup(func() { assert.NoError(t, c.Shutdown(context.Background())) })
}

// kill leaves the connector as a killed process would: without a last export.
func kill(t testing.TB, c *aggregateConnector) {
	t.Helper()
	close(c.stop)
	c.stop = nil
	c.abandon()
	c.worker.Wait()
	require.NoError(t, c.close())
}

func frame(batch event.Batch) plog.Logs {
	return event.Encode(event.EncodingFrames, batch, event.Clock{})
}

// feed hands events in, from no source.
func feed(t testing.TB, c *aggregateConnector, events ...event.Event) {
	t.Helper()
	require.NoError(t, c.ConsumeLogs(t.Context(), frame(event.Batch{Size: event.Size, Data: event.Bytes(events)})))
}

// sums returns the sum of all points of a sum or of the counts of a histogram, over all exports.
func sums(exports []pmetric.Metrics, name string) (sum int64) {
	for _, export := range exports {
		for _, resource := range export.ResourceMetrics().All() {
			for _, m := range resource.ScopeMetrics().At(0).Metrics().All() {
				if m.Name() != name {
					continue
				}
				switch m.Type() {
				case pmetric.MetricTypeSum:
					for _, p := range m.Sum().DataPoints().All() {
						sum += p.IntValue()
					}
				case pmetric.MetricTypeExponentialHistogram:
					for _, p := range m.ExponentialHistogram().DataPoints().All() {
						sum += int64(p.Count())
					}
				case pmetric.MetricTypeHistogram:
					for _, p := range m.Histogram().DataPoints().All() {
						sum += int64(p.Count())
					}
				}
			}
		}
	}
	return sum
}
