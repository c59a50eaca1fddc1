//go:build linux && kernel

package bpfaggregateconnector

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/multierr"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadatatest"
)

// ledger is a backend that stores the delta points it gets, each once by what identifies it, and gives the answers that a
// test wants, whether or not it has stored them.
type ledger struct {
	mutex   sync.Mutex
	answers []answer // the next ones; then it stores and accepts
	stored  map[string]int64
	names   map[string]string // of the points' metrics
	changed []string          // points that came again and were others
}

type answer struct {
	store bool
	err   error
}

func newLedger(answers ...answer) *ledger {
	return &ledger{answers: answers, stored: map[string]int64{}, names: map[string]string{}}
}

func (*ledger) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (l *ledger) ConsumeMetrics(_ context.Context, metrics pmetric.Metrics) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	a := answer{store: true}
	if len(l.answers) > 0 {
		a, l.answers = l.answers[0], l.answers[1:]
	}
	if a.store {
		l.store(metrics)
	}
	return a.err
}

// store keeps the points of delta temporality. What came with one answer may come again, but not with other values.
func (l *ledger) store(metrics pmetric.Metrics) {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, m := range scope.Metrics().All() {
				for _, p := range pointsOf(m) {
					value, delta := valueOf(m, p)
					if !delta {
						continue
					}
					identity := fmt.Sprint(m.Name(), m.Unit(), resource.Resource().Attributes().AsRaw(), scope.Scope().Name(), scope.Scope().Version(),
						scope.Scope().Attributes().AsRaw(), p.Attributes().AsRaw(), p.StartTimestamp(), p.Timestamp())
					if before, ok := l.stored[identity]; ok && before != value {
						l.changed = append(l.changed, identity)
					}
					l.stored[identity], l.names[identity] = value, m.Name()
				}
			}
		}
	}
}

// valueOf returns what a point counts, and whether it is of delta temporality.
func valueOf(m pmetric.Metric, p point) (int64, bool) {
	switch p := p.(type) {
	case pmetric.NumberDataPoint:
		return p.IntValue(), m.Type() == pmetric.MetricTypeSum && m.Sum().AggregationTemporality() == pmetric.AggregationTemporalityDelta
	case pmetric.HistogramDataPoint:
		return int64(p.Count()), m.Histogram().AggregationTemporality() == pmetric.AggregationTemporalityDelta
	case pmetric.ExponentialHistogramDataPoint:
		return int64(p.Count()), m.ExponentialHistogram().AggregationTemporality() == pmetric.AggregationTemporalityDelta
	default:
		return 0, false
	}
}

// sum returns what the stored points of a metric count together.
func (l *ledger) sum(name string) (sum int64) {
	for identity, value := range l.stored {
		if l.names[identity] == name {
			sum += value
		}
	}
	return sum
}

var (
	errBusy = errors.New("busy")
	errLost = errors.New("connection reset by peer")
	lost    = answer{store: true, err: errLost}  // it is stored, and nobody hears of it
	busy    = answer{store: false, err: errBusy} // it is not stored
	never   = answer{store: false, err: errNever}
	expired = answer{store: false, err: consumererror.NewPermanent(status.Error(codes.Unauthenticated, "the token has expired"))}
	liar    = answer{store: true, err: errNever} // as when a response can't be read
)

func deltaConfig(t *testing.T, change ...func(*Config)) *Config {
	return newConfig(append([]func(*Config){only("kernel.events", "kernel.event.duration"), func(c *Config) {
		c.PinPath, c.Temporality = pinPath(t), Delta
	}}, change...)...)
}

func feedMixed(t *testing.T, c *aggregateConnector, n, programs int) {
	t.Helper()
	require.NoError(t, c.ConsumeLogs(t.Context(), frame(enrichedBatch(mixed(n, programs, 1)))))
}

// TestUncertain: whatever the answers are, and whether or not the process is killed between them, a backend that knows a
// point again has no event twice, and what it lacks is counted as uncertain.
func TestUncertain(t *testing.T) {
	for name, test := range map[string]struct {
		answers            []answer
		missing, uncertain int64 // batches, of those that were fed before the answers
	}{
		"accepted":                      {nil, 0, 0},
		"not_stored":                    {[]answer{busy, busy}, 0, 0},
		"response_lost":                 {[]answer{lost, lost}, 0, 0},
		"response_lost_then_refused":    {[]answer{lost, never}, 0, 1},
		"not_stored_then_refused":       {[]answer{busy, never}, 1, 1},
		"refused":                       {[]answer{never, never}, 2, 2},
		"refused_but_stored":            {[]answer{liar, liar}, 0, 2},
		"lost_refused_and_stored_again": {[]answer{lost, liar, never}, 2, 3},
		"wrong_credentials":             {[]answer{expired, expired, expired}, 0, 0},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/killed=%t", name, killed), func(t *testing.T) {
				backend := newLedger(test.answers...)
				config := deltaConfig(t)
				c := start(t, config, backend)
				fed := int64(0)
				for _, a := range append(test.answers, answer{}, answer{}) {
					feedMixed(t, c, 5000, 50)
					fed += 5000
					if a.err == nil {
						require.NoError(t, c.export(t.Context()))
					} else {
						require.ErrorIs(t, c.export(t.Context()), a.err)
					}
					if killed {
						kill(t, c)
						c = start(t, config, backend)
					}
				}
				assert.Empty(t, backend.changed)
				assert.Equal(t, fed-5000*test.missing, backend.sum("kernel.events"))
				assert.EqualValues(t, 5000*test.uncertain, c.stats.ViewBooks(c.views[0].number).UncertainEvents)
			})
		}
	}
}

// TestResendAfterReconfiguration: what may have been stored is sent again as it was, whatever the configuration is by then.
func TestResendAfterReconfiguration(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"nothing":     func(*Config) {},
		"limit":       func(c *Config) { c.CardinalityLimit = 20 },
		"temporality": func(c *Config) { c.Temporality = Cumulative },
		"interval":    func(c *Config) { c.Interval = time.Minute },
		"host":        func(c *Config) { c.ResourceAttributes.HostName.Enabled = true },
		"dimensions": func(c *Config) {
			for name, metric := range c.Metrics {
				metric.Dimensions = []string{dimensionCategory}
				c.Metrics[name] = metric
			}
		},
		"names": custom(map[string]MetricConfig{"mine": {Kind: Events}, "kernel.events": {Kind: Bytes}}),
		"boundaries": func(c *Config) {
			metric := c.Metrics["kernel.event.duration"]
			metric.Histogram.Boundaries = []time.Duration{time.Millisecond}
			c.Metrics["kernel.event.duration"] = metric
		},
		"off": only("kernel.event.latency"),
	} {
		t.Run(name, func(t *testing.T) {
			backend := newLedger(lost, lost, busy, lost)
			before := deltaConfig(t)
			c := start(t, before, backend)
			feedMixed(t, c, 20000, 200)
			require.ErrorIs(t, c.export(t.Context()), errLost)
			kill(t, c)
			want := len(backend.stored)

			after := newConfig(only("kernel.events", "kernel.event.duration"), func(c *Config) { c.PinPath, c.Temporality = before.PinPath, Delta }, change)
			for range 2 {
				c = start(t, after, backend)
				require.Error(t, c.export(t.Context()))
				kill(t, c)
			}
			c = start(t, before, backend)
			require.ErrorIs(t, c.export(t.Context()), errLost)
			require.NoError(t, c.export(t.Context()))
			require.NoError(t, c.export(t.Context()))
			assert.Equal(t, want, len(backend.stored))
			assert.Empty(t, backend.changed)
			assert.EqualValues(t, 20000, backend.sum("kernel.events"))
		})
	}
}

// TestUncertainIsSaid: by the books, the telemetry and a warning.
func TestUncertainIsSaid(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	config := deltaConfig(t)
	c := create(t, config, newLedger(never, lost))
	logs := observed(c)
	c.set.MeterProvider = telemetry.NewTelemetrySettings().MeterProvider
	startIt(t, c)
	feed(t, c, workload()...)
	require.ErrorIs(t, c.export(t.Context()), errNever)
	said := func(logs *observer.ObservedLogs) {
		t.Helper()
		warning := logs.FilterMessage("deltas are given up: they are not sent again, and it is not known whether the backend has them").All()
		require.Len(t, warning, 1)
		assert.Equal(t, zap.WarnLevel, warning[0].Level)
		fields := warning[0].ContextMap()
		assert.Equal(t, []any{"kernel.event.duration,kernel.events", uint64(8), uint64(60)}, []any{fields["metrics"], fields["events"], fields["bytes"]})
	}
	said(logs)
	points := func(events, bytes int64) {
		t.Helper()
		point := func(value int64) []metricdata.DataPoint[int64] {
			return []metricdata.DataPoint[int64]{{Value: value, Attributes: attribute.NewSet(
				attribute.String("connector", "bpf_aggregate"), attribute.String("metric", "kernel.event.duration,kernel.events"))}}
		}
		metadatatest.AssertEqualKernelpipeAggregateUncertain(t, telemetry, point(events), metricdatatest.IgnoreTimestamp())
		metadatatest.AssertEqualKernelpipeAggregateUncertainBytes(t, telemetry, point(bytes), metricdatatest.IgnoreTimestamp())
	}
	points(8, 60)
	var unhealthy uint64
	for _, counter := range c.losses() {
		unhealthy += counter.Read()
	}
	assert.EqualValues(t, 8, unhealthy)
	feed(t, c, workload()...)
	require.ErrorIs(t, c.export(t.Context()), errLost)

	// What was sealed can't be read any more: the events are counted, and the start does not fail over it.
	stats, err := ebpf.LoadPinnedMap(filepath.Join(config.PinPath, "connector@bpf_aggregate", "stats-0", "sealed"), nil)
	require.NoError(t, err)
	require.NoError(t, stats.Put(uint32(0), make([]byte, stats.ValueSize())))
	require.NoError(t, stats.Close())
	kill(t, c)
	backend := newLedger()
	c = create(t, config, backend)
	logs = observed(c)
	c.set.MeterProvider = telemetry.NewTelemetrySettings().MeterProvider
	startIt(t, c)
	said(logs)
	points(16, 120)
	require.NoError(t, c.export(t.Context()))
	assert.Empty(t, backend.stored)
}

// TestRefusedForGood: only what is an answer about the points, by all exporters that have not accepted them.
func TestRefusedForGood(t *testing.T) {
	about, credentials := consumererror.NewPermanent(status.Error(codes.InvalidArgument, "too old")), consumererror.NewPermanent(status.Error(codes.Unauthenticated, "401"))
	for _, test := range []struct {
		err  error
		want bool
	}{
		{errBusy, false},
		{context.DeadlineExceeded, false},
		{errNever, true},
		{about, true},
		{fmt.Errorf("not retryable error: %w", about), true},
		{credentials, false},
		{fmt.Errorf("not retryable error: %w", credentials), false},
		{consumererror.NewPermanent(status.Error(codes.PermissionDenied, "403")), false},
		{consumererror.NewPermanent(status.Error(codes.Unimplemented, "404")), false},
		{status.Error(codes.Unavailable, "503"), false},
		{multierr.Combine(about, errNever), true},
		{multierr.Combine(about, errBusy), false},
		{multierr.Combine(errBusy, about), false},
		{multierr.Combine(credentials, about), false},
	} {
		assert.Equal(t, test.want, refusedForGood(test.err), test.err)
	}
}

// TestSeveralExporters: each has every event once that its own answers allow, whatever the others answer.
func TestSeveralExporters(t *testing.T) {
	first, second := newLedger(lost, lost, busy), newLedger(answer{store: true}, busy, never)
	c := start(t, deltaConfig(t), fanout{first, second})
	for range 3 {
		feedMixed(t, c, 5000, 50)
		require.Error(t, c.export(t.Context())) // always the first 5000: the first exporter may accept them yet
	}
	require.NoError(t, c.export(t.Context()))
	for _, backend := range []*ledger{first, second} {
		assert.Empty(t, backend.changed)
		assert.EqualValues(t, 15000, backend.sum("kernel.events"))
	}

	first.answers, second.answers = []answer{{store: true}}, []answer{never}
	feedMixed(t, c, 5000, 50)
	require.ErrorIs(t, c.export(t.Context()), errNever)
	require.NoError(t, c.export(t.Context()))
	assert.EqualValues(t, 20000, first.sum("kernel.events"), "not twice")
	assert.EqualValues(t, 15000, second.sum("kernel.events"))
	assert.EqualValues(t, 5000, c.stats.ViewBooks(c.views[0].number).UncertainEvents)
}

// fanout is what the Collector has for a connector with several exporters.
type fanout []consumer.Metrics

func (fanout) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (f fanout) ConsumeMetrics(ctx context.Context, metrics pmetric.Metrics) (err error) {
	for _, next := range f {
		err = multierr.Append(err, next.ConsumeMetrics(ctx, metrics))
	}
	return err
}

// TestGaugesAreNotSentAgain by another process: it has seen nothing of the window.
func TestGaugesAreNotSentAgain(t *testing.T) {
	k := startTicking(t, Delta)
	k.out.refuse(errBusy)
	require.Error(t, k.interval(t))
	kill(t, k.aggregateConnector)
	k.start(t)
	k.out.refuse(nil)
	require.NoError(t, k.interval(t))
	got := k.out.take()
	require.Len(t, got, 2)
	assert.Equal(t, 1, got[0].DataPointCount(), "the sum alone")
	assert.EqualValues(t, 80, sums(got[:1], "events"))
	assert.Equal(t, 2, got[1].DataPointCount())
}

// TestSealedBesideMoreSeries: a sealed interval takes no room from a configuration with a higher limit.
func TestSealedBesideMoreSeries(t *testing.T) {
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			backend := newLedger(lost, lost)
			config := deltaConfig(t, func(c *Config) { c.CardinalityLimit = 1000 })
			c := start(t, config, backend)
			feedMixed(t, c, 5000, 3000)
			require.Error(t, c.export(t.Context()))
			kill(t, c)
			config.CardinalityLimit, config.Temporality = 3000, temporality
			c = start(t, config, backend)
			require.NoError(t, c.ConsumeLogs(t.Context(), frame(enrichedBatch(mixed(100_000, 5000, 2)))))
			require.ErrorIs(t, c.export(t.Context()), errLost)
			assert.Greater(t, c.registries[0].active.Load(), int64(2000))
			require.NoError(t, c.export(t.Context()))
			assert.Empty(t, backend.changed)
			if temporality == Delta {
				assert.EqualValues(t, 105_000, backend.sum("kernel.events"))
			} else {
				assert.EqualValues(t, 5000, backend.sum("kernel.events"))
			}
		})
	}
}
