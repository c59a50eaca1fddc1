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
// filter, queue, enrich, queue, stats map, and metrics to a backend. The time begins when the collector says that it
// begins to simulate, and ends when a backend has metrics of all events.
func BenchmarkMillion(b *testing.B) {
	const events = 1_000_000
	var took time.Duration
	for b.Loop() {
		backend, pin := newBackend(b), pinPath(b)
		values := pipelineValues(pin, backend.address, fmt.Sprintf("simulate: { events: %d, seed: 1 }", events))
		values["interval"] = "10ms"
		c := run(b, configure(b, pipelineConfig, values))
		var now time.Time
		require.Eventually(b, func() bool {
			now = time.Now()
			return backend.sum("kernel.events", nil) == events
		}, 60*time.Second, 2*time.Millisecond)
		took += now.Sub(c.logged("Simulating events"))
		c.terminate()
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
