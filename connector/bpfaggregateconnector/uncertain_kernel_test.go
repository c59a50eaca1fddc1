//go:build linux && kernel

package bpfaggregateconnector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pmetric"
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
	never   = answer{store: false, err: consumererror.NewPermanent(errors.New("never"))}
	liar    = answer{store: true, err: consumererror.NewPermanent(errors.New("never"))} // as when a response can't be read
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
		answers []answer
		missing int64 // batches, of those that were fed before the answers
	}{
		"accepted":                      {nil, 0},
		"not_stored":                    {[]answer{busy, busy}, 0},
		"response_lost":                 {[]answer{lost, lost}, 0},
		"response_lost_then_refused":    {[]answer{lost, never}, 0},
		"not_stored_then_refused":       {[]answer{busy, never}, 1},
		"refused":                       {[]answer{never, never}, 2},
		"refused_but_stored":            {[]answer{liar, liar}, 0},
		"lost_refused_and_stored_again": {[]answer{lost, liar, never}, 2},
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
