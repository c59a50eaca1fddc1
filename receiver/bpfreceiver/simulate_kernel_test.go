//go:build linux && kernel

package bpfreceiver

// The simulator: exactly as many events as asked for, and the same ones for the same seed.

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// simulate runs a simulation to its end.
func simulate(t *testing.T, yaml string, n int) []event.Event {
	t.Helper()
	r := start(t, configure(t, yaml), &sink{})
	eventually(t, func() bool { return r.sink.len() >= n })
	assert.Equal(t, map[string]int64{"": int64(n)}, r.metric(t, "simulated", ""))
	assert.Equal(t, account{produced: n, delivered: n}, r.stop(t))
	return r.sink.all()
}

func TestSimulateIsReproducible(t *testing.T) {
	const n = 50_000
	run := func(seed int, more string) []event.Event {
		events := simulate(t, fmt.Sprintf(`{probes: {simulate: {events: %d, seed: %d}}, %s}`, n, seed, more), n)
		for i := range events {
			assert.NotZero(t, events[i].Time)
			events[i].Time = 0
		}
		return events
	}
	one := run(1, "")
	assert.True(t, equal(one, run(1, "ring_buffer: {size: 64KiB}")), "the same seed gives other events, where the ring buffer is always full")
	assert.False(t, equal(one, run(2, "")))

	var categories [event.CategoryCount]int
	for i := range one {
		require.NoError(t, one[i].Validate())
		categories[one[i].Category]++
		assert.GreaterOrEqual(t, one[i].Process.TGID, uint32(100))
		assert.LessOrEqual(t, one[i].Process.TGID, uint32(1099))
		assert.NotZero(t, one[i].Flags&event.FlagSimulated)
	}
	for _, category := range event.Categories() {
		assert.InDelta(t, n/4, categories[category], n/40)
	}
}

func equal(a, b []event.Event) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestSimulateMixAndPIDs(t *testing.T) {
	const n = 5000
	for i, e := range simulate(t, `probes: {simulate: {events: 5000, pid: {min: 7, max: 7}, mix: {syscall: 0, network: 3, filesystem: 0, process: 0}}}`, n) {
		require.Equal(t, event.CategoryNetwork, e.Category, i)
		require.EqualValues(t, 7, e.Process.TGID)
	}
}

func TestSimulateAtARate(t *testing.T) {
	simulate(t, `probes: {simulate: {events: 2000, rate: 20000}}`, 2000)
	simulate(t, `probes: {simulate: {events: 3, rate: 100}}`, 3)
}

// A graceful stop halfway: the next start goes on to the last event and not beyond. After that a start is a new
// run.
func TestSimulateGoesOn(t *testing.T) {
	const n = 20_000
	path := pinPath(t)
	config := configure(t, fmt.Sprintf(`{pin_path: %s, probes: {simulate: {events: %d, rate: 50000}}}`, path, n))
	first := start(t, config, &sink{})
	eventually(t, func() bool { return first.sink.len() > 0 })
	begun := first.stop(t)
	require.Less(t, begun.produced, n)
	second := start(t, config, &sink{})
	eventually(t, func() bool { return first.sink.len()+second.sink.len() >= n })
	assert.Equal(t, n, second.stop(t).produced)
	assertDetached(t, path)

	config.Probes.Simulate.Get().Rate = 0
	third := start(t, config, &sink{})
	eventually(t, func() bool { return third.sink.len() >= n })
	assert.Equal(t, account{produced: 2 * n, delivered: 2 * n}, third.stop(t))
}
