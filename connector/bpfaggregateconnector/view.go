package bpfaggregateconnector

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

// view is a set of series: those of the events that match, by the same dimensions, with the same measure. Metrics
// that agree in all this are made from one view, so that their events are counted once.
type view struct {
	number      uint16 // in the kernel
	fingerprint uint64
	name        string // of the metrics
	conditions  string // of match; the same where they mean the same events
	matcher     match.Matcher
	matchesAll  bool
	dimensions  []dimension
	measure     measure
	boundaries  []uint64 // ns; nil: the exponential scheme
	quantiles   bool     // they have a view of their own, for of their series there may be fewer
	limit       int      // series, the overflow series among them
	fits        bool     // it is known that there can't be more
	intervals   int      // that its metrics look back on; 0: none does
	metrics     []definition
}

// measure is what a view's histogram counts.
type measure uint8

const (
	ofDuration measure = iota
	ofLatency
)

// definition is a metric as the exporter needs it.
type definition struct {
	name        string
	description string
	unit        string
	kind        Kind
	index       int // among all metrics
	histogram   HistogramConfig
	intervals   int // of the window
	quantiles   []float64
}

// newViews returns the views that serve the metrics of a valid configuration.
func newViews(config *Config) ([]*view, error) {
	var views []*view
	byFingerprint := map[uint64]*view{}
	names := config.metricNames()
	// Rates are served last: any view with their events and dimensions will do.
	slices.SortStableFunc(names, func(a, b string) int {
		return boolToInt(config.Metrics[a].Kind == Rate) - boolToInt(config.Metrics[b].Kind == Rate)
	})
	for i, name := range names {
		settings := config.Metrics[name]
		v, err := newView(config, &settings)
		if err != nil {
			return nil, fmt.Errorf("metrics: %s: %w", name, err)
		}
		found := byFingerprint[v.fingerprint]
		if found == nil && settings.Kind == Rate {
			latency := settings
			latency.Kind = Latency
			if other, err := newView(config, &latency); err == nil {
				found = byFingerprint[other.fingerprint]
			}
		}
		if found != nil {
			found.limit = min(found.limit, v.limit)
			v = found
		} else {
			views = append(views, v)
			byFingerprint[v.fingerprint] = v
		}
		v.add(name, i, &settings, config.Interval)
	}
	if len(views) > bpf.MaxViews {
		return nil, fmt.Errorf("metrics: %d different combinations of match, dimensions and histogram, and there is room for %d: "+
			"turn metrics off, or give them the same dimensions", len(views), bpf.MaxViews)
	}
	return views, nil
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func newView(config *Config, settings *MetricConfig) (*view, error) {
	matcher, err := settings.Match.Compile()
	if err != nil {
		return nil, fmt.Errorf("match: %w", err)
	}
	v := &view{matcher: matcher, matchesAll: settings.Match.IsEmpty(), limit: config.CardinalityLimit}
	if settings.Kind == Quantiles {
		v.quantiles = true
		v.limit /= len(settings.Quantiles) // each is a series of the metric
	}
	values := 1
	for _, d := range dimensions() {
		if slices.Contains(settings.Dimensions, d.name) {
			v.dimensions = append(v.dimensions, d)
			values = min(values*d.values, config.CardinalityLimit)
		}
	}
	if values > 0 { // it is known how many series there can be
		v.limit = min(v.limit, values+1)
		v.fits = v.limit > values
	}
	if settings.Kind == Latency {
		v.measure = ofLatency
	}
	if settings.Kind == Duration || settings.Kind == Latency {
		for _, boundary := range settings.Histogram.Boundaries {
			v.boundaries = append(v.boundaries, uint64(boundary))
		}
	}
	v.fingerprint, err = v.print(settings.Match)
	return v, err
}

// print sets the view's conditions, and returns the fingerprint of all that decides what the view's series are and count: series with
// another one can't go on with this view's.
func (v *view) print(conditions match.Config) (uint64, error) {
	var names []string
	for _, d := range v.dimensions {
		names = append(names, d.name)
	}
	slices.Sort(names)
	for _, list := range []*[]string{&conditions.Category, &conditions.Operation, &conditions.Priority, &conditions.Command} {
		*list = slices.Compact(slices.Sorted(slices.Values(*list)))
	}
	text, err := json.Marshal(conditions)
	if err != nil {
		return 0, err
	}
	v.conditions = string(text)
	text, err = json.Marshal(struct {
		Match      json.RawMessage
		Dimensions []string
		Measure    measure
		Boundaries []uint64
		Quantiles  bool `json:",omitempty"`
	}{text, names, v.measure, v.boundaries, v.quantiles})
	if err != nil {
		return 0, err
	}
	hash := fnv.New64a()
	_, _ = hash.Write(text) // it never fails
	return max(hash.Sum64(), 1), nil
}

func (v *view) add(name string, index int, settings *MetricConfig, interval time.Duration) {
	m := definition{
		name: name, description: settings.Description, unit: settings.Kind.unit(), kind: settings.Kind, index: index,
		histogram: settings.Histogram, quantiles: settings.Quantiles,
	}
	if m.description == "" {
		m.description = settings.Kind.description()
	}
	if m.kind.windowed() {
		m.intervals = int(settings.Window / interval)
		if m.intervals == 0 {
			m.intervals = defaultIntervals
		}
		v.intervals = max(v.intervals, m.intervals)
	}
	v.metrics = append(v.metrics, m)
	v.name = strings.TrimPrefix(v.name+","+name, ",")
}

// ofProcess reports whether the view's series each belong to one process.
func (v *view) ofProcess() bool {
	return v.has(dimensionPID)
}

// onResource reports whether a dimension describes the resource in this view.
func (v *view) onResource(d *dimension) bool {
	return d.placement == ofResource || d.placement == ofProcess && v.ofProcess()
}
