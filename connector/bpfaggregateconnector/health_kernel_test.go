//go:build linux && kernel

package bpfaggregateconnector

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer/consumertest"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/statustest"
)

// nth waits for so many statuses and returns the last.
func nth(t *testing.T, h *statustest.Host, n int) *componentstatus.Event {
	t.Helper()
	require.Eventually(t, func() bool { return len(h.Events()) >= n }, 30*time.Second, 10*time.Millisecond)
	return h.Events()[n-1]
}

// TestLossesShow: events without a series of their own, without any, and unreadable ones make the connector unhealthy, and
// the log says which metric it is and what to do.
func TestLossesShow(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(t *testing.T, c *aggregateConnector)
		want []string
	}{
		{"overflow", func(t *testing.T, c *aggregateConnector) {
			var events []event.Event
			for _, name := range []string{"a", "b", "c", "d"} {
				events = append(events, ofGroup(1, name), ofGroup(1, name))
			}
			feed(t, c, events...)
		}, []string{
			"connector bpf_aggregate: 6 events went to the overflow series of kernel.events since ", ", more than max_loss 5 allows within 1s: " +
				"raise cardinality_limit, which is 2, or give the metric fewer dimensions",
		}},
		{"removed", func(t *testing.T, c *aggregateConnector) {
			feed(t, c, ofGroup(1, "a"))
			stats, err := ebpf.LoadPinnedMap(filepath.Join(c.config.PinPath, "connector@bpf_aggregate", "stats-0", "stats"), nil)
			require.NoError(t, err)
			defer func() { assert.NoError(t, stats.Close()) }()
			require.NoError(t, c.stats.Each(func(id bpf.SeriesID, _ *bpf.Entry) bool {
				require.NoError(t, stats.Delete(&id))
				return true
			}))
			a := ofGroup(1, "a")
			feed(t, c, a, a, a, a, a, a)
		}, []string{
			"connector bpf_aggregate: 6 events are missing from kernel.events, as their series was removed from the pinned stats map by another process since ",
			": let no other process write below pin_path",
		}},
		{"unreadable", func(t *testing.T, c *aggregateConnector) {
			bad := workload()[:7]
			for i := range bad {
				bad[i].Version = 77
			}
			feed(t, c, bad...)
		}, []string{
			"connector bpf_aggregate: 7 events were in log records that could not be read since ", ": otelcol_kernelpipe_aggregate_dropped has the reason",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := create(t, newConfig(only("kernel.events"), func(c *Config) {
				c.PinPath, c.CardinalityLimit, c.Health.MaxLoss, c.Health.LossWindow = pinPath(t), 2, 5, time.Second
			}), consumertest.NewNop())
			logs, h := observed(c), &statustest.Host{}
			require.NoError(t, c.Start(t.Context(), h), "this test needs root and a kernel with BPF")
			defer func() { require.NoError(t, c.Shutdown(t.Context())) }()
			test.lose(t, c)
			status := nth(t, h, 1)
			assert.Equal(t, componentstatus.StatusRecoverableError, status.Status())
			for _, want := range test.want {
				assert.ErrorContains(t, status.Err(), want)
			}
			assert.Equal(t, componentstatus.StatusOK, nth(t, h, 2).Status())
			warnings := logs.FilterMessage("unhealthy").All()
			require.Len(t, warnings, 1)
			assert.Contains(t, warnings[0].ContextMap()["error"], test.want[1])
		})
	}
}
