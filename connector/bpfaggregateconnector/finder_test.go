package bpfaggregateconnector

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

// TestFindersShare: views share a finder if and only if they mean the same events and one has all dimensions of the other,
// and then each finds the series that it would find alone.
func TestFindersShare(t *testing.T) {
	errors := match.Config{ErrorsOnly: true}
	config := newConfigOf(map[string]MetricConfig{
		"wide":          {Kind: Events, Dimensions: []string{dimensionCategory, dimensionOperation, dimensionExecutable, dimensionError}},
		"narrow":        {Kind: Latency, Dimensions: []string{dimensionCategory}},
		"none":          {Kind: Events},
		"other":         {Kind: Events, Dimensions: []string{dimensionCategory, dimensionPID}},
		"errors":        {Kind: Events, Match: errors, Dimensions: []string{dimensionCategory, dimensionError}},
		"errors.narrow": {Kind: Latency, Match: errors, Dimensions: []string{dimensionError}},
	})
	views, err := newViews(config)
	require.NoError(t, err)
	var registries []*registry
	var alone []*finder
	for i, v := range views {
		v.number = uint16(i)
		registries = append(registries, newRegistry(v, numbers()))
		alone = append(alone, newFinders([]*registry{newRegistry(v, numbers())})...)
	}
	finders := newFinders(registries)
	var names [][]string
	for _, f := range finders {
		var shared []string
		for _, r := range f.registries {
			shared = append(shared, r.view.name)
		}
		names = append(names, shared)
	}
	assert.ElementsMatch(t, [][]string{{"wide", "narrow", "none"}, {"other"}, {"errors", "errors.narrow"}}, names)

	r := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		e := anyEvent(r)
		found := map[uint16]bpf.Series{}
		for _, f := range finders {
			if !f.matches(&e.Event) {
				continue
			}
			slot := f.find(&e.Event, &e.Context)
			for i, r := range f.registries {
				found[r.view.number] = r.entries[slot.series(i)].series
			}
		}
		for _, f := range alone {
			r := f.registries[0]
			series, ok := found[r.view.number]
			require.Equal(t, f.matches(&e.Event), ok)
			if ok {
				require.Equal(t, r.entries[f.find(&e.Event, &e.Context).series(0)].series, series)
			}
		}
	}
}

func newConfigOf(metrics map[string]MetricConfig) *Config {
	config := createDefaultConfig().(*Config)
	config.Metrics = map[string]MetricConfig{}
	for name, m := range metrics {
		metric := newMetric()
		metric.Kind, metric.Match, metric.Dimensions, metric.Description = m.Kind, m.Match, m.Dimensions, m.Description
		if m.Histogram.MaxSize > 0 {
			metric.Histogram = m.Histogram
		}
		config.Metrics[name] = metric
	}
	return config
}
