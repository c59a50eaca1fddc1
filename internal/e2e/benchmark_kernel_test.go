//go:build linux && kernel

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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
		host, port, err := net.SplitHostPort(telemetry)
		require.NoError(b, err)
		values["telemetry"] = fmt.Sprintf("{ readers: [{ pull: { exporter: { prometheus: { host: %s, port: %s } } } }] }", host, port)
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

// freeAddress returns an address on loopback that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, listener.Close()) }()
	return listener.Addr().String()
}

// scrape returns the sum of a metric's series in a collector's own telemetry, 0 where there is none.
func scrape(t testing.TB, address, metric string) float64 {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	require.NoError(t, err)
	defer func() { assert.NoError(t, response.Body.Close()) }()
	total := 0.0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, _, _ := strings.Cut(strings.ReplaceAll(lines.Text(), "{", " "), " ")
		if name != metric {
			continue
		}
		fields := strings.Fields(lines.Text())
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		require.NoError(t, err)
		total += value
	}
	return total
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
