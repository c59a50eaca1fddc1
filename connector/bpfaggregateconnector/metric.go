package bpfaggregateconnector

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

// Kind says what a metric shows.
type Kind string

// The kinds.
const (
	// Events: how many; a sum in {event}.
	Events Kind = "events"
	// Bytes: how many they moved; a sum in By.
	Bytes Kind = "bytes"
	// Duration: how long they took, those that have a duration; a histogram in s.
	Duration Kind = "duration"
	// Latency: the time from the event to its aggregation here; a histogram in s.
	Latency Kind = "latency"
	// Rate: how many per second over the last window; a gauge in {event}/s.
	Rate Kind = "rate"
	// Quantiles: quantiles of the durations over the last window; a gauge in s.
	Quantiles Kind = "quantiles"
)

var kinds = []Kind{Events, Bytes, Duration, Latency, Rate, Quantiles}

// The attributes of our own that are not dimensions.
const (
	attributeQuantile = "kernel.event.quantile"
	attributeOverflow = "otel.metric.overflow"
	// attributeComponent tells the series of a connector with a name, as bpf_aggregate/a, from those of others. It is on
	// the points, as that is what every backend tells series by: Prometheus leaves out what only scope or resource have.
	attributeComponent = "otelcol.component.id"
)

// MetricConfig is a metric.
type MetricConfig struct {
	// Enabled turns the metric on.
	Enabled bool `mapstructure:"enabled"`
	// Kind: events, bytes, duration, latency, rate or quantiles.
	Kind Kind `mapstructure:"kind"`
	// Description is what the metric says of itself; empty: what its kind says.
	Description string `mapstructure:"description"`
	// Match says which events are meant; empty: all.
	Match match.Config `mapstructure:"match"`
	// Dimensions is the attributes by which the metric is broken down.
	Dimensions []string `mapstructure:"dimensions"`
	// Histogram is the shape of a histogram: kinds duration and latency.
	Histogram HistogramConfig `mapstructure:"histogram"`
	// Window is the time that kinds rate and quantiles look back on; 0: six intervals.
	Window time.Duration `mapstructure:"window"`
	// Quantiles are those of kind quantiles, between 0 and 1.
	Quantiles []float64 `mapstructure:"quantiles"`
}

// HistogramConfig is the shape of a histogram. Without boundaries it is an exponential one.
type HistogramConfig struct {
	// MaxSize is how many buckets an exponential histogram can have; where the durations need more, its scale sinks.
	MaxSize int `mapstructure:"max_size"`
	// MaxScale is the scale of an exponential histogram where MaxSize does not force it lower.
	MaxScale int `mapstructure:"max_scale"`
	// Boundaries make it a histogram of explicit buckets: the upper end of each but the last, which has none.
	Boundaries []time.Duration `mapstructure:"boundaries"`
}

// The shapes that a histogram can have.
const (
	minHistogramSize  = 2
	maxHistogramSize  = bpf.Buckets
	minHistogramScale = -10 // the lowest of the OpenTelemetry specification
	maxBoundaries     = bpf.Buckets - 1
	maxQuantiles      = 10
)

// newMetric is a metric of which nothing is set.
func newMetric() MetricConfig {
	return MetricConfig{
		Enabled:   true,
		Histogram: HistogramConfig{MaxSize: 160, MaxScale: bpf.BucketScale},
		Quantiles: []float64{0.5, 0.9, 0.99},
	}
}

// defaultMetrics is the metrics that are there by default. What they are broken down by stays small on a large
// host: the programs on it, not their processes.
func defaultMetrics() map[string]MetricConfig {
	metric := func(kind Kind, enabled bool, dimensions ...string) MetricConfig {
		m := newMetric()
		m.Kind, m.Enabled, m.Dimensions = kind, enabled, dimensions
		return m
	}
	return map[string]MetricConfig{
		"kernel.events":                  metric(Events, true, dimensionCategory, dimensionOperation, dimensionExecutable, dimensionError),
		"kernel.io":                      metric(Bytes, true, dimensionCategory, dimensionOperation, dimensionExecutable, dimensionError),
		"kernel.event.duration":          metric(Duration, true, dimensionCategory, dimensionOperation, dimensionExecutable, dimensionError),
		"kernel.event.latency":           metric(Latency, true, dimensionCategory),
		"kernel.event.rate":              metric(Rate, true, dimensionCategory),
		"kernel.event.duration_quantile": metric(Quantiles, false, dimensionCategory, dimensionOperation),
	}
}

// unit returns the metric's unit, in UCUM as semantic conventions spell it.
func (k Kind) unit() string {
	switch k {
	case Events:
		return "{event}"
	case Bytes:
		return "By"
	case Rate:
		return "{event}/s"
	default:
		return "s"
	}
}

// description returns what metrics of this kind say of themselves.
func (k Kind) description() string {
	switch k {
	case Events:
		return "Kernel events."
	case Bytes:
		return "Bytes that kernel events moved."
	case Duration:
		return "Duration of kernel events, of those that have one."
	case Latency:
		return "Time from a kernel event to its aggregation."
	case Rate:
		return "Kernel events per second, over the last window."
	default:
		return "Quantiles of the duration of kernel events, over the last window."
	}
}

// windowed reports whether the metric looks back on a window.
func (k Kind) windowed() bool { return k == Rate || k == Quantiles }

// metricNames returns the names of the metrics that are enabled, sorted.
func (c *Config) metricNames() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.Metrics)) {
		if c.Metrics[name].Enabled {
			names = append(names, name)
		}
	}
	return names
}

// nameSyntax is that of instrument names in the OpenTelemetry specification.
var nameSyntax = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]{0,254}$`)

// validate reports what is wrong beyond that which Match reports itself.
func (m *MetricConfig) validate(name string, config *Config) error {
	var errs []error
	if !nameSyntax.MatchString(name) {
		errs = append(errs, errors.New("the name must be a letter and up to 254 letters, digits or _ . - /"))
	}
	switch {
	case m.Kind == "":
		errs = append(errs, fmt.Errorf("no such metric: a metric of your own needs a kind, one of %s; those that are there by default are %s",
			joined(kinds), joined(slices.Sorted(maps.Keys(defaultMetrics())))))
	case !slices.Contains(kinds, m.Kind):
		errs = append(errs, fmt.Errorf("kind is %q, must be one of %s", m.Kind, joined(kinds)))
	default:
		errs = append(errs, m.validateUse())
	}
	errs = append(errs, m.validateDimensions(), m.Histogram.validate())
	if m.Window != 0 && (m.Window < config.Interval || m.Window > maxIntervals*config.Interval || m.Window%config.Interval != 0) {
		errs = append(errs, fmt.Errorf("window is %s, must be 1 to %d times the interval of %s, or 0 for %d times", m.Window, maxIntervals, config.Interval, defaultIntervals))
	}
	return errors.Join(append(errs, m.validateQuantiles(config.CardinalityLimit))...)
}

// validateUse reports settings that mean nothing to a metric of this kind.
func (m *MetricConfig) validateUse() error {
	var errs []error
	unused, histogram := newMetric(), m.Kind == Duration || m.Kind == Latency
	switch {
	case !histogram && !reflect.DeepEqual(m.Histogram, unused.Histogram):
		errs = append(errs, fmt.Errorf("histogram is for kinds %s and %s, this is of kind %s", Duration, Latency, m.Kind))
	case len(m.Histogram.Boundaries) > 0 && (m.Histogram.MaxSize != unused.Histogram.MaxSize || m.Histogram.MaxScale != unused.Histogram.MaxScale):
		errs = append(errs, errors.New("histogram: max_size and max_scale are for exponential histograms, and boundaries make it one of explicit buckets: leave out these or those"))
	}
	if m.Window != 0 && !m.Kind.windowed() {
		errs = append(errs, fmt.Errorf("window is for kinds %s and %s, this is of kind %s", Rate, Quantiles, m.Kind))
	}
	if m.Kind != Quantiles && !slices.Equal(m.Quantiles, unused.Quantiles) {
		errs = append(errs, fmt.Errorf("quantiles are for kind %s, this is of kind %s", Quantiles, m.Kind))
	}
	return errors.Join(errs...)
}

func (m *MetricConfig) validateQuantiles(limit int) error {
	if m.Kind != Quantiles {
		return nil
	}
	var errs []error
	if n := len(m.Quantiles); n == 0 || n > maxQuantiles {
		errs = append(errs, fmt.Errorf("quantiles has %d entries, must have 1 to %d", n, maxQuantiles))
	} else if m.Enabled && limit < 2*n {
		errs = append(errs, fmt.Errorf("quantiles has %d entries, each of which is a series of its own: with a cardinality_limit of %d there may be %d", n, limit, limit/2))
	}
	for i, q := range m.Quantiles {
		if math.IsNaN(q) || q < 0 || q > 1 {
			errs = append(errs, fmt.Errorf("quantiles: %v is not between 0 and 1", q))
		}
		if slices.Contains(m.Quantiles[:i], q) {
			errs = append(errs, fmt.Errorf("quantiles: %v is there twice", q))
		}
	}
	return errors.Join(errs...)
}

func (m *MetricConfig) validateDimensions() error {
	var errs []error
	for i, name := range m.Dimensions {
		if _, ok := dimensionByName(name); !ok {
			errs = append(errs, fmt.Errorf("dimensions: unknown dimension %q: use some of %s", name, strings.Join(dimensionNames(), ", ")))
		}
		if slices.Contains(m.Dimensions[:i], name) {
			errs = append(errs, fmt.Errorf("dimensions: %s is there twice", name))
		}
	}
	if slices.Contains(m.Dimensions, dimensionOperation) && !slices.Contains(m.Dimensions, dimensionCategory) {
		errs = append(errs, fmt.Errorf("dimensions: %s without %s: several categories have operations of one name; add it", dimensionOperation, dimensionCategory))
	}
	return errors.Join(errs...)
}

func (h *HistogramConfig) validate() error {
	var errs []error
	if h.MaxSize < minHistogramSize || h.MaxSize > maxHistogramSize {
		errs = append(errs, fmt.Errorf("histogram: max_size is %d, must be %d to %d", h.MaxSize, minHistogramSize, maxHistogramSize))
	}
	if h.MaxScale < minHistogramScale || h.MaxScale > bpf.BucketScale {
		errs = append(errs, fmt.Errorf("histogram: max_scale is %d, must be %d to %d, the scale of the buckets in the kernel", h.MaxScale, minHistogramScale, bpf.BucketScale))
	}
	if len(h.Boundaries) > maxBoundaries {
		errs = append(errs, fmt.Errorf("histogram: %d boundaries, must be at most %d", len(h.Boundaries), maxBoundaries))
	}
	for i, boundary := range h.Boundaries {
		if boundary < 0 || i > 0 && boundary <= h.Boundaries[i-1] {
			errs = append(errs, fmt.Errorf("histogram: boundary %s must be greater than the one before it, and none negative", boundary))
		}
	}
	return errors.Join(errs...)
}

func joined[T ~string](values []T) string {
	words := make([]string, len(values))
	for i, value := range values {
		words[i] = string(value)
	}
	return strings.Join(words, ", ")
}
