package bpfaggregateconnector

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPrometheusName: the names are those that the Prometheus exporter gives.
func TestPrometheusName(t *testing.T) {
	for _, test := range []struct {
		name string
		kind Kind
		want string
	}{
		{"kernel.events", Events, "kernel_events_total"},
		{"kernel.io", Bytes, "kernel_io_bytes_total"},
		{"kernel.event.duration", Duration, "kernel_event_duration_seconds"},
		{"kernel.event.latency", Latency, "kernel_event_latency_seconds"},
		{"kernel.event.rate", Rate, "kernel_event_rate_per_second"},
		{"kernel.event.duration_quantile", Quantiles, "kernel_event_duration_quantile_seconds"},
		{"bytes.total.read", Bytes, "bytes_read_total"},
		{"a/b--c_", Events, "a_b_c_total"},
		{"Kernel.IO", "", "kernel_io"},
	} {
		assert.Equal(t, test.want, prometheusName(test.name, test.kind), test.name)
	}
}

func TestCheckNames(t *testing.T) {
	for want, names := range map[string]map[string]Kind{
		"":                        {"a": Events, "b": Events, "a.rate": Rate, "a.seconds.sum": Events, "d": Duration, "l": Latency},
		"a.b and a_b are one":     {"a.b": Events, "a_b": Events},
		"A.b and a.b are one":     {"A.b": Events, "a.b": Events},
		"a and a.bytes are one":   {"a": Bytes, "a.bytes": Events},
		"a.b and a/b are one":     {"a.b": Events, "a/b": Duration},
		"d and d.seconds are one": {"d": Duration, "d.seconds": Quantiles},
		"a and a.total are one":   {"a": Events, "a.total": Events},
	} {
		metrics := map[string]MetricConfig{}
		for name, kind := range names {
			metrics[name] = MetricConfig{Kind: kind}
		}
		config := newConfigOf(metrics)
		if want == "" {
			require.NoError(t, config.Validate())
			continue
		}
		require.ErrorContains(t, config.Validate(), want)
		for name := range metrics {
			metric := config.Metrics[name]
			metric.Enabled = false
			config.Metrics[name] = metric
			break
		}
		require.NoError(t, config.Validate(), "one of them is turned off")
	}
}
