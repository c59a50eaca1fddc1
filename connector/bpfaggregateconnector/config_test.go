package bpfaggregateconnector

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadata"
	"github.com/kernelpipe/kernelpipe/internal/health"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

func load(t testing.TB, name string) (*Config, error) {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := conf.Sub(component.NewIDWithName(metadata.Type, name).String())
	require.NoError(t, err)
	config := createDefaultConfig().(*Config)
	return config, sub.Unmarshal(config)
}

func TestLoadConfig(t *testing.T) {
	byDefault := func() *Config { return createDefaultConfig().(*Config) }
	all := byDefault()
	all.PinPath, all.Interval, all.Temporality, all.CardinalityLimit, all.ExpireAfter = "/sys/fs/bpf/mine", 15*time.Second, Delta, 100, 0
	all.Health = health.Config{MaxLoss: 10, LossWindow: 5 * time.Minute}
	all.ShutdownTimeout, all.ResourceAttributes.HostName.Enabled = time.Minute, false
	set := func(config *Config, name string, change func(*MetricConfig)) {
		metric, ok := config.Metrics[name]
		if !ok {
			metric = newMetric()
		}
		change(&metric)
		config.Metrics[name] = metric
	}
	set(all, "kernel.events", func(m *MetricConfig) { m.Dimensions = []string{"kernel.event.category", "container.id"} })
	set(all, "kernel.io", func(m *MetricConfig) { m.Enabled = false })
	set(all, "kernel.event.duration", func(m *MetricConfig) {
		m.Histogram.Boundaries = []time.Duration{time.Millisecond, 10 * time.Millisecond}
	})
	set(all, "kernel.event.duration_quantile", func(m *MetricConfig) {
		m.Enabled, m.Quantiles, m.Window = true, []float64{0.95}, 30*time.Second
	})
	set(all, "failed.connects", func(m *MetricConfig) {
		m.Kind, m.Description = Events, "Connects that failed."
		m.Match, m.Dimensions = match.Config{Operation: []string{"connect"}, ErrorsOnly: true}, []string{"process.executable.name", "error.type"}
	})
	nothing := byDefault()
	for name := range nothing.Metrics {
		set(nothing, name, func(m *MetricConfig) { m.Enabled = false })
	}
	noDimensions := byDefault()
	set(noDimensions, "kernel.events", func(m *MetricConfig) { m.Dimensions = []string{} })
	for name, want := range map[string]*Config{"": byDefault(), "all": all, "nothing": nothing, "no_dimensions": noDimensions} {
		t.Run(name, func(t *testing.T) {
			got, err := load(t, name)
			require.NoError(t, err)
			got.ResourceAttributes = want.ResourceAttributes // it notes what the user has set, for itself
			assert.Equal(t, want, got)
			require.NoError(t, confmap.Validate(got))
		})
	}
	for name, want := range map[string]string{
		"unknown_key":        "invalid keys: dimension",
		"no_settings":        "metrics: kernel.io is false, must be settings such as { enabled: false }",
		"boundaries_of_what": "metrics: kernel.event.duration: histogram: boundary 0.5 has no unit: write a duration such as 1ms",
	} {
		_, err := load(t, name)
		require.ErrorContains(t, err, want)
	}
}

func TestValidate(t *testing.T) {
	metric := func(change func(*MetricConfig)) func(*Config) {
		return func(c *Config) {
			m := newMetric()
			m.Kind = Events
			change(&m)
			c.Metrics["mine"] = m
		}
	}
	for _, test := range []struct {
		name   string
		change func(*Config)
		err    string
	}{
		{"relative pin_path", func(c *Config) { c.PinPath = "pins" }, `pin_path is "pins"`},
		{"interval", func(c *Config) { c.Interval = time.Millisecond }, "interval is 1ms, must be at least 10ms"},
		{"temporality", func(c *Config) { c.Temporality = "gauge" }, `temporality is "gauge", must be cumulative or delta`},
		{"limit too low", func(c *Config) { c.CardinalityLimit = 1 }, "cardinality_limit is 1, must be 2"},
		{"limit too high", func(c *Config) { c.CardinalityLimit = 1e9 }, "cardinality_limit is 1000000000"},
		{"expiry within an interval", func(c *Config) { c.ExpireAfter = time.Second }, "expire_after is 1s, must be at least the interval of 10s"},
		{"negative expiry", func(c *Config) { c.ExpireAfter = -1 }, "expire_after is -1ns"},
		{"negative shutdown_timeout", func(c *Config) { c.ShutdownTimeout = -1 }, "shutdown_timeout: -1ns is negative"},
		{"health", func(c *Config) { c.Health.MaxLoss, c.Health.LossWindow = -1, 0 }, "health: max_loss is -1, must not be negative: use 9223372036854775807 where losses are no reason for concern\nloss_window is 0s, must be at least 1s"},
		{"name", func(c *Config) { c.Metrics["1 metric"] = c.Metrics["kernel.events"] }, "metrics: 1 metric: the name must be"},
		{"kind", metric(func(m *MetricConfig) { m.Kind = "" }), "metrics: mine: no such metric: a metric of your own needs a kind, one of events, bytes, duration, latency, rate, quantiles; those that are there by default are kernel.event.duration, "},
		{"unknown kind", metric(func(m *MetricConfig) { m.Kind = "count" }), `metrics: mine: kind is "count", must be one of events, bytes, duration, latency, rate, quantiles`},
		{"unknown metric turned off", metric(func(m *MetricConfig) { m.Kind, m.Enabled = "", false }), "metrics: mine: no such metric"},
		{"unknown dimension", metric(func(m *MetricConfig) { m.Dimensions = []string{"pid"} }), `dimensions: unknown dimension "pid": use some of kernel.event.category`},
		{"dimension twice", metric(func(m *MetricConfig) { m.Dimensions = []string{"process.pid", "process.pid"} }), "process.pid is there twice"},
		{"operation alone", metric(func(m *MetricConfig) { m.Dimensions = []string{"kernel.event.operation"} }), "kernel.event.operation without kernel.event.category"},
		{"window", metric(func(m *MetricConfig) { m.Kind, m.Window = Rate, time.Second }), "window is 1s, must be 1 to 120 times the interval of 10s, or 0 for 6 times"},
		{"window of one interval and a half", metric(func(m *MetricConfig) { m.Kind, m.Window = Rate, 15*time.Second }), "window is 15s, must be 1 to 120 times the interval"},
		{"window of another kind", metric(func(m *MetricConfig) { m.Window = time.Minute }), "window is for kinds rate and quantiles, this is of kind events"},
		{"window too long", metric(func(m *MetricConfig) { m.Kind, m.Window = Rate, time.Hour }), "window is 1h0m0s"},
		{"no quantiles", metric(func(m *MetricConfig) { m.Kind, m.Quantiles = Quantiles, nil }), "quantiles has 0 entries"},
		{"quantile", metric(func(m *MetricConfig) { m.Kind, m.Quantiles = Quantiles, []float64{99} }), "quantiles: 99 is not between 0 and 1"},
		{"no quantile", metric(func(m *MetricConfig) { m.Kind, m.Quantiles = Quantiles, []float64{math.NaN()} }), "quantiles: NaN is not"},
		{"quantile twice", metric(func(m *MetricConfig) { m.Kind, m.Quantiles = Quantiles, []float64{0.5, 0.5} }), "0.5 is there twice"},
		{"quantiles of another kind", metric(func(m *MetricConfig) { m.Quantiles = []float64{0.5} }), "quantiles are for kind quantiles, this is of kind events"},
		{"quantiles without room", func(c *Config) {
			metric(func(m *MetricConfig) { m.Kind = Quantiles })(c)
			c.CardinalityLimit = 5
		}, "quantiles has 3 entries, each of which is a series of its own: with a cardinality_limit of 5 there may be 2"},
		{"max_size", metric(func(m *MetricConfig) { m.Kind, m.Histogram.MaxSize = Duration, 1 }), "max_size is 1, must be 2 to 448"},
		{"max_scale", metric(func(m *MetricConfig) { m.Kind, m.Histogram.MaxScale = Duration, 20 }), "max_scale is 20, must be -10 to 3"},
		{"boundaries", metric(func(m *MetricConfig) { m.Kind, m.Histogram.Boundaries = Duration, []time.Duration{2, 1} }), "boundary 1ns must be greater"},
		{"boundaries of another kind", metric(func(m *MetricConfig) { m.Histogram.Boundaries = []time.Duration{1} }), "histogram is for kinds duration and latency, this is of kind events"},
		{"max_size of another kind", metric(func(m *MetricConfig) { m.Kind, m.Histogram.MaxSize = Rate, 20 }), "histogram is for kinds duration and latency, this is of kind rate"},
		{"max_size and boundaries", metric(func(m *MetricConfig) {
			m.Kind, m.Histogram.MaxSize, m.Histogram.Boundaries = Duration, 20, []time.Duration{1}
		}), "max_size and max_scale are for exponential histograms"},
		{"too many boundaries", metric(func(m *MetricConfig) { m.Kind, m.Histogram.Boundaries = Duration, make([]time.Duration, 448) }), "448 boundaries"},
		{"match", metric(func(m *MetricConfig) { m.Match.Category = []string{"disk"} }), `unknown category "disk"`},
		{"too many views", func(c *Config) {
			for n := range 65 {
				limit := int64(n)
				metric(func(m *MetricConfig) { m.Match.PID.Max = &limit })(c)
				c.Metrics["mine"+string(rune('A'+n%26))+string(rune('A'+n/26))] = c.Metrics["mine"]
			}
		}, "different combinations of match, dimensions and histogram, and there is room for 64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := createDefaultConfig().(*Config)
			test.change(config)
			err := confmap.Validate(config)
			require.ErrorContains(t, err, test.err)
			assert.Equal(t, 1, strings.Count(err.Error(), test.err), "it says so once: %v", err)
		})
	}
}

func TestViewsAreShared(t *testing.T) {
	config := createDefaultConfig().(*Config)
	views, err := newViews(config)
	require.NoError(t, err)
	var names []string
	for _, v := range views {
		names = append(names, v.name)
	}
	assert.ElementsMatch(t, []string{"kernel.event.duration,kernel.events,kernel.io", "kernel.event.latency,kernel.event.rate"}, names)

	// What does not change the series does not change the fingerprint.
	before := map[uint64]bool{}
	for _, v := range views {
		before[v.fingerprint] = true
	}
	config.Interval, config.CardinalityLimit, config.Temporality = time.Minute, 10, Delta
	metric := config.Metrics["kernel.events"]
	metric.Dimensions = []string{"error.type", "process.executable.name", "kernel.event.operation", "kernel.event.category"}
	config.Metrics["renamed"] = metric
	for _, name := range []string{"kernel.events", "kernel.event.duration", "kernel.io"} {
		metric := config.Metrics[name]
		metric.Enabled = false
		config.Metrics[name] = metric
	}
	views, err = newViews(config)
	require.NoError(t, err)
	require.Len(t, views, 2)
	for _, v := range views {
		assert.True(t, before[v.fingerprint], v.name)
	}
	assert.Equal(t, 5, views[0].limit, "four categories and the overflow series")

	q := MetricConfig{Kind: Quantiles, Quantiles: []float64{0.5, 0.9, 0.99}, Dimensions: []string{dimensionPID}}
	d := MetricConfig{Kind: Duration, Dimensions: []string{dimensionPID}}
	config.Metrics, config.CardinalityLimit = map[string]MetricConfig{"d": d, "q": q}, 100
	q.Quantiles = []float64{0.5, 0.9, 0.95, 0.99}
	config.Metrics["r"] = q
	for name, m := range config.Metrics {
		m.Enabled = true
		config.Metrics[name] = m
	}
	views, err = newViews(config)
	require.NoError(t, err)
	require.Len(t, views, 2)
	assert.Equal(t, 100, views[0].limit)
	assert.Equal(t, 25, views[1].limit, "four points for each")

	a := MetricConfig{Kind: Events, Match: match.Config{Category: []string{"network", "process"}}}
	b := MetricConfig{Kind: Bytes, Match: match.Config{Category: []string{"process", "network", "process"}}}
	va, err := newView(config, &a)
	require.NoError(t, err)
	vb, err := newView(config, &b)
	require.NoError(t, err)
	assert.Equal(t, va.fingerprint, vb.fingerprint)
	b.Match.ErrorsOnly = true
	vb, err = newView(config, &b)
	require.NoError(t, err)
	assert.NotEqual(t, va.fingerprint, vb.fingerprint)
}
