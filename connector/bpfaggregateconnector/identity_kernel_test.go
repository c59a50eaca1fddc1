//go:build linux && kernel

package bpfaggregateconnector

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"

	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadata"
)

// TestComponentID: all points of a connector with a name say which it is, those of overflow series and gauges too.
func TestComponentID(t *testing.T) {
	for name, want := range map[string]any{"": nil, "a": "bpf_aggregate/a"} {
		out := &sink{}
		c := create(t, newConfig(func(c *Config) {
			c.CardinalityLimit = 6
			quantiles := c.Metrics["kernel.event.duration_quantile"]
			quantiles.Enabled = true
			c.Metrics["kernel.event.duration_quantile"] = quantiles
		}), out)
		c.set.ID = component.NewIDWithName(metadata.Type, name)
		startIt(t, c)
		feed(t, c, workload()...)
		require.NoError(t, c.export(t.Context()))
		kinds, overflows := 0, 0
		for _, m := range out.take()[0].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
			kinds++
			for _, p := range pointsOf(m) {
				assert.Equal(t, want, p.Attributes().AsRaw()["otelcol.component.id"], m.Name())
				if _, ok := p.Attributes().Get(attributeOverflow); ok {
					overflows++
				}
			}
		}
		assert.Equal(t, 6, kinds)
		assert.NotZero(t, overflows)
	}
}
