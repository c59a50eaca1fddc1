package bpfaggregateconnector

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// checkNames reports metrics that somebody takes for one: names that differ in nothing but case, as OpenTelemetry says that
// they are the same, and names of which Prometheus makes the same, with its suffixes or without them.
func (c *Config) checkNames() error {
	var errs []error
	seen := map[string]string{} // metrics by what they may be called
	for _, name := range c.metricNames() {
		kind := c.Metrics[name].Kind
		for _, other := range slices.Compact([]string{prometheusName(name, ""), prometheusName(name, kind)}) {
			if before, ok := seen[other]; ok && before != name {
				errs = append(errs, fmt.Errorf("metrics: %s and %s are one metric in Prometheus, %s: rename one, or turn it off", before, name, other))
				break
			}
			seen[other] = name
		}
	}
	return errors.Join(errs...)
}

// prometheusName returns what Prometheus and the exporters for it make of the name of a metric, in lower case: characters that it
// does not know are underscores, and unit and type are suffixes, unless the name says them already. Without a kind there are none.
func prometheusName(name string, kind Kind) string {
	tokens := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune("_./-", r) })
	add := func(suffix string) {
		if !slices.Contains(tokens, suffix) {
			tokens = append(tokens, suffix)
		}
	}
	switch kind {
	case Bytes:
		add("bytes")
	case Duration, Latency, Quantiles:
		add("seconds")
	case Rate:
		tokens = append(tokens, "per", "second")
	}
	if kind == Events || kind == Bytes {
		tokens = append(slices.DeleteFunc(tokens, func(token string) bool { return token == "total" }), "total")
	}
	return strings.Join(tokens, "_")
}
