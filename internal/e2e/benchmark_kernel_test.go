//go:build linux && kernel

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkMillion sends a million simulated events through the whole pipeline of the built collector: ring buffer,
// filter, queue, enrich, queue, stats map. The time begins when the collector says that it begins to simulate, and
// ends when it says that all events are in the totals, to within 10 ms.
func BenchmarkMillion(b *testing.B) {
	const events = 1_000_000
	var took time.Duration
	for b.Loop() {
		backend, pin, telemetry := newBackend(b), pinPath(b), freeAddress(b)
		values := pipelineValues(pin, backend.address, fmt.Sprintf("simulate: { events: %d, seed: 1 }", events))
		values["telemetry"] = prometheusReader(b, telemetry)
		c := run(b, configure(b, pipelineConfig, values))
		var now time.Time
		require.Eventually(b, func() bool {
			now = time.Now()
			return scrape(b, telemetry, "otelcol_kernelpipe_aggregate_events") == events
		}, 60*time.Second, 10*time.Millisecond)
		took += now.Sub(c.logged("Simulating events"))
		c.terminate()
		require.EqualValues(b, events, backend.sum("kernel.events", nil))
	}
	b.ReportMetric(float64(events)*float64(b.N)/took.Seconds(), "events/s")
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/events, "ns/event")
}

// logged returns when the collector logged a message, to the millisecond.
func (c *collector) logged(message string) time.Time {
	c.t.Helper()
	for line := range strings.Lines(c.log.String()) {
		if at, _, _ := strings.Cut(line, "\t"); strings.Contains(line, message) {
			t, err := time.Parse("2006-01-02T15:04:05.000Z0700", at)
			require.NoError(c.t, err)
			return t
		}
	}
	require.FailNow(c.t, "the collector did not log: "+message)
	return time.Time{}
}
