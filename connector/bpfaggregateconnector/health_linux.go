package bpfaggregateconnector

import (
	"fmt"

	"github.com/kernelpipe/kernelpipe/internal/health"
)

// losses returns what the connector's health depends on: events that a metric lacks, or has without their dimensions.
func (c *aggregateConnector) losses() []health.Counter {
	counters := []health.Counter{{
		Lost:   "were in log records that could not be read",
		Remedy: "otelcol_kernelpipe_aggregate_dropped has the reason",
		Read:   c.dropped.Load,
	}, {
		Unit:   "additions",
		Lost:   "found a sum of bytes or durations that is as great as a point can say, and that stays there",
		Remedy: "an event that another program made has an impossible size; restart with a new pin_path for new sums",
		Read:   func() uint64 { return c.stats.Books().Saturated },
	}}
	for _, r := range c.registries {
		counters = append(counters, health.Counter{
			Lost:   "went to the overflow series of " + r.view.name,
			Remedy: fmt.Sprintf("raise cardinality_limit, which is %d, or give the metric fewer dimensions", c.config.CardinalityLimit),
			Read:   r.overflowed.Load,
		}, health.Counter{
			Lost:   "are missing from " + r.view.name + ", as their series was removed from the pinned stats map by another process",
			Remedy: "let no other process write below pin_path",
			Read:   r.lost.Load,
		}, health.Counter{
			Lost:   "of " + r.view.name + " were refused for good, so that nobody knows whether the backend has them",
			Remedy: "the log has the answer to them",
			Read:   func() uint64 { return c.stats.ViewBooks(r.view.number).UncertainEvents },
		})
	}
	return counters
}
