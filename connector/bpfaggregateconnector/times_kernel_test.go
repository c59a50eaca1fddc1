//go:build linux && kernel

package bpfaggregateconnector

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// ticking is a connector with rates, and a clock that is set forward by tick, and by nothing else.
type ticking struct {
	*aggregateConnector
	config *Config
	out    *sink
	clock  time.Time
}

const tick = 10 * time.Second

func startTicking(t *testing.T, temporality Temporality) *ticking {
	k := &ticking{out: &sink{}, clock: time.Unix(4_000_000_000, 0)}
	k.config = newConfig(custom(map[string]MetricConfig{"events": {Kind: Events}, "rate": {Kind: Rate}}), func(c *Config) {
		c.PinPath, c.Temporality = pinPath(t), temporality
	})
	k.start(t)
	return k
}

// start starts it, in place of one that was killed.
func (k *ticking) start(t *testing.T) {
	k.aggregateConnector = create(t, k.config, k.out)
	k.now = func() time.Time { return k.clock }
	startIt(t, k.aggregateConnector)
}

// interval lets an interval pass in which 80 events come, and exports.
func (k *ticking) interval(t *testing.T) error {
	for range 10 {
		feed(t, k.aggregateConnector, workload()...)
	}
	k.clock = k.clock.Add(tick)
	return k.export(t.Context())
}

// rate returns the rate in the last export, in events per second.
func (k *ticking) rate(t *testing.T) float64 {
	t.Helper()
	got := k.out.take()
	require.NotEmpty(t, got)
	for _, m := range got[len(got)-1].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
		if m.Name() == "rate" {
			require.Equal(t, 1, m.Gauge().DataPoints().Len())
			return m.Gauge().DataPoints().At(0).DoubleValue()
		}
	}
	require.FailNow(t, "no rate")
	return 0
}

var errNever = consumererror.NewPermanent(errors.New("never"))

// TestRateOfRefusedDeltas: what was refused, for now or for good, is in the rate of its own interval and of no later one.
func TestRateOfRefusedDeltas(t *testing.T) {
	for name, err := range map[string]error{"for_good": errNever, "for_now": errors.New("busy")} {
		t.Run(name, func(t *testing.T) {
			k := startTicking(t, Delta)
			k.out.refuse(err)
			for range 3 {
				require.ErrorIs(t, k.interval(t), err)
			}
			k.out.refuse(nil)
			require.NoError(t, k.interval(t))
			got := k.out.take()
			uncertain := k.stats.ViewBooks(k.views[0].number).UncertainEvents
			assert.EqualValues(t, 4*80, sums(got, "events")+int64(uncertain))
			k.out.got = got
			assert.InEpsilon(t, 8, k.rate(t), 1e-9)
			require.NoError(t, k.interval(t))
			assert.InEpsilon(t, 8, k.rate(t), 1e-9)
		})
	}
}

// TestRateAfterStart: a window begins with the process. What was there before is in no rate.
func TestRateAfterStart(t *testing.T) {
	for name, test := range map[string]struct{ before, after Temporality }{
		"cumulative":          {Cumulative, Cumulative},
		"delta":               {Delta, Delta},
		"cumulative_to_delta": {Cumulative, Delta},
		"delta_to_cumulative": {Delta, Cumulative},
	} {
		t.Run(name, func(t *testing.T) {
			k := startTicking(t, test.before)
			for range 5 {
				require.NoError(t, k.interval(t))
			}
			k.out.refuse(errNever)
			require.ErrorIs(t, k.interval(t), errNever)
			k.out.refuse(errors.New("busy"))
			require.ErrorContains(t, k.interval(t), "busy")
			feed(t, k.aggregateConnector, workload()...)
			kill(t, k.aggregateConnector)

			k.config.Temporality = test.after
			k.start(t)
			k.out.refuse(errNever)
			require.ErrorIs(t, k.interval(t), errNever)
			k.out.refuse(nil)
			require.NoError(t, k.interval(t))
			assert.InEpsilon(t, 8, k.rate(t), 1e-9)
		})
	}
}

// TestClockSetBack: a point starts before its end, whatever the clock does.
func TestClockSetBack(t *testing.T) {
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			k := startTicking(t, temporality)
			require.NoError(t, k.interval(t))
			k.clock = k.clock.Add(-time.Hour)
			require.NoError(t, k.interval(t))
			require.NoError(t, k.interval(t))
			got := k.out.take()
			if temporality == Cumulative {
				got = got[2:]
			}
			assert.EqualValues(t, 3*80, sums(got, "events"))
		})
	}
}

// TestLatency: it is the time from the event to its aggregation, and none where a clock says that the event is yet to come.
func TestLatency(t *testing.T) {
	const age = 2 * time.Second
	out := &sink{}
	c := start(t, newConfig(only("kernel.event.latency")), out)
	began := time.Now()
	old := example(event.CategoryNetwork, event.NetworkSend, "a", func(e *event.Event) { e.Time = event.Clock{}.Now() - uint64(age) })
	future := example(event.CategoryProcess, event.ProcessExec, "a", func(e *event.Event) { e.Time = event.MaxTime })
	feed(t, c, old, old, future)
	most := (age + time.Since(began)).Seconds()
	require.NoError(t, c.export(t.Context()))
	latencies := map[string]pmetric.ExponentialHistogramDataPoint{}
	for _, m := range out.take()[0].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			category, _ := p.Attributes().Get(dimensionCategory)
			latencies[category.Str()] = p
		}
	}
	require.Len(t, latencies, 2)
	p := latencies["network"]
	assert.EqualValues(t, 2, p.Count())
	assert.Zero(t, p.ZeroCount())
	for _, seconds := range []float64{p.Min(), p.Max(), p.Sum() / 2} {
		assert.GreaterOrEqual(t, seconds, age.Seconds())
		assert.LessOrEqual(t, seconds, most)
	}
	width := math.Exp2(math.Exp2(-float64(p.Scale())))
	for i, n := range p.Positive().BucketCounts().AsRaw() {
		if n > 0 {
			end := math.Pow(width, float64(int(p.Positive().Offset())+i+1))
			assert.GreaterOrEqual(t, end, age.Seconds())
			assert.LessOrEqual(t, end, most*width)
		}
	}
	p = latencies["process"]
	assert.EqualValues(t, 1, p.Count())
	assert.EqualValues(t, 1, p.ZeroCount())
	assert.Zero(t, p.Max())
}
