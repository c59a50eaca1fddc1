package bpfaggregateconnector

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadata"
	"github.com/kernelpipe/kernelpipe/internal/health"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// Temporality says what a point of a sum or histogram counts.
type Temporality string

// The temporalities.
const (
	// Cumulative: everything since the series began.
	Cumulative Temporality = "cumulative"
	// Delta: what came since the point before.
	Delta Temporality = "delta"
)

// Bounds of the settings.
const (
	minInterval         = 10 * time.Millisecond
	maxCardinalityLimit = 100_000
	// maxIntervals is how many intervals a window may have: the memory of each of its series.
	maxIntervals     = 120
	defaultIntervals = 6
)

// Config is the configuration of bpf_aggregate.
type Config struct {
	// PinPath is where the totals are kept across restarts, on a BPF file system; empty: nowhere.
	PinPath string `mapstructure:"pin_path"`
	// Interval is the time between two exports.
	Interval time.Duration `mapstructure:"interval"`
	// Temporality of sums and histograms: cumulative or delta.
	Temporality Temporality `mapstructure:"temporality"`
	// CardinalityLimit is how many series a metric can have, the overflow series for all further ones among them.
	CardinalityLimit int `mapstructure:"cardinality_limit"`
	// ExpireAfter is how long a series without events is kept, and for as long as a window is; 0: for ever.
	ExpireAfter time.Duration `mapstructure:"expire_after"`
	// ShutdownTimeout is how long a graceful stop may take to export a last time; 0: for ever, as the Collector sets no
	// limit. What is not exported then stays pinned for the next start.
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`
	// Health says when the connector reports to be unhealthy. An event that a metric has in its overflow series is a loss.
	Health health.Config `mapstructure:"health"`
	// Metrics is the metrics by name: settings for those that are there by default, and further ones.
	Metrics map[string]MetricConfig `mapstructure:"metrics"`
	// ResourceAttributes says which attributes describe this host.
	ResourceAttributes metadata.ResourceAttributesConfig `mapstructure:"resource_attributes"`
}

var _ confmap.Unmarshaler = (*Config)(nil)

// Unmarshal implements confmap.Unmarshaler: what is not set of a metric keeps its default.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	if err := checkMetrics(conf); err != nil {
		return err
	}
	metrics := c.Metrics
	c.Metrics = nil
	if err := conf.Unmarshal(c); err != nil { // it refuses unknown keys, also those of metrics
		return err
	}
	set := c.Metrics
	c.Metrics = metrics
	for name := range set {
		metric, err := conf.Sub("metrics" + confmap.KeyDelimiter + name)
		if err != nil {
			return fmt.Errorf("metrics: %s: %w", name, err)
		}
		config, ok := metrics[name]
		if !ok {
			config = newMetric()
		}
		if err := metric.Unmarshal(&config); err != nil {
			return fmt.Errorf("metrics: %s: %w", name, err)
		}
		metrics[name] = config
	}
	return nil
}

// checkMetrics refuses what the decoder would refuse in words that don't help, or take for something else.
func checkMetrics(conf *confmap.Conf) error {
	metrics, _ := conf.Get("metrics").(map[string]any)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		settings, ok := metrics[name].(map[string]any)
		if !ok && metrics[name] != nil {
			errs = append(errs, fmt.Errorf("metrics: %s is %v, must be settings such as { enabled: false }", name, metrics[name]))
		}
		histogram, _ := settings["histogram"].(map[string]any)
		boundaries, _ := histogram["boundaries"].([]any)
		for _, boundary := range boundaries {
			if _, ok := boundary.(string); !ok && boundary != 0 { // it would be taken as ns
				errs = append(errs, fmt.Errorf("metrics: %s: histogram: boundary %v has no unit: write a duration such as 1ms", name, boundary))
			}
		}
	}
	return errors.Join(errs...)
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error {
	errs := []error{stage.ValidatePinPath(c.PinPath), stage.ValidateShutdownTimeout(c.ShutdownTimeout)}
	if c.Interval < minInterval {
		errs = append(errs, fmt.Errorf("interval is %s, must be at least %s", c.Interval, minInterval))
	}
	if c.Temporality != Cumulative && c.Temporality != Delta {
		errs = append(errs, fmt.Errorf("temporality is %q, must be %s or %s", c.Temporality, Cumulative, Delta))
	}
	if c.CardinalityLimit < 2 || c.CardinalityLimit > maxCardinalityLimit {
		errs = append(errs, fmt.Errorf("cardinality_limit is %d, must be 2 (a series and the one for all others) to %d (a series takes 4 KB of kernel memory)",
			c.CardinalityLimit, maxCardinalityLimit))
	}
	if c.ExpireAfter < 0 || c.ExpireAfter > 0 && c.ExpireAfter < c.Interval {
		errs = append(errs, fmt.Errorf("expire_after is %s, must be at least the interval of %s, or 0 for never", c.ExpireAfter, c.Interval))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Metrics)) {
		metric := c.Metrics[name]
		if err := metric.validate(name, c); err != nil {
			errs = append(errs, fmt.Errorf("metrics: %s: %w", name, err))
		}
	}
	errs = append(errs, c.checkNames())
	if errors.Join(errs...) == nil && c.matchesAreValid() { // only then it can be told
		views, err := newViews(c)
		errs = append(errs, err, c.validateRoom(views))
	}
	return errors.Join(errs...)
}

// validateRoom reports views that a sealed interval has no room to describe, whatever the host and the version are called.
func (c *Config) validateRoom(views []*view) error {
	const others = 2048 // bytes for what is not of the views
	if c.Temporality != Delta {
		return nil
	}
	o := origin{resource: pcommon.NewResource()}
	copy(o.views[:], views)
	text, err := o.encode()
	if err == nil && len(text) > bpf.MaxDescription-others {
		err = fmt.Errorf("metrics: what describes them has %d bytes, and there is room for %d in delta temporality: "+
			"give them shorter descriptions, or have fewer of them", len(text), bpf.MaxDescription-others)
	}
	return err
}

// matchesAreValid is no replacement for their own Validate, which says what is wrong.
func (c *Config) matchesAreValid() bool {
	for _, metric := range c.Metrics {
		if metric.Match.Validate() != nil {
			return false
		}
	}
	return true
}
