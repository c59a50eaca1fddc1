//go:build linux && kernel

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// books is the whole ledger of a pipeline, as its pinned maps have it when the collector is gone.
type books struct {
	produced, lost  uint64 // by the probes and the simulator
	committed       uint64 // by the receiver
	filter, enrich  bpf.QueueBooks
	aggregated      uint64
	uncertain       uint64 // of kernel.events
	redelivered     uint64 // to whomever, recognised
	waitingInRing   uint64 // bytes
	receiverRepeats uint64
}

// readBooks reads the books of the components bpf, bpf_filter, bpf_enrich and bpf_aggregate below a pin path. It
// opens them as a collector without a simulation would, so how far one has come is forgotten.
func readBooks(t testing.TB, pinPath string, ringSize uint32) books {
	t.Helper()
	var b books
	var dirs []*bpf.Directory
	defer func() {
		for _, dir := range dirs {
			assert.NoError(t, dir.Close())
		}
	}()
	open := func(component string) *bpf.Directory {
		dir, err := bpf.OpenDirectory(pinPath, component)
		require.NoError(t, err)
		dirs = append(dirs, dir)
		return dir
	}
	probes, err := bpf.OpenProbes(open("receiver/bpf"), bpf.ProbesConfig{RingSize: ringSize, ElementSize: event.Size})
	require.NoError(t, err)
	defer probes.Close()
	counts, err := probes.Counts()
	require.NoError(t, err)
	for _, c := range counts {
		b.produced += c.Produced
		b.lost += c.Lost
	}
	ring := probes.RingBooks()
	b.committed, b.receiverRepeats = ring.Delivered, ring.Redelivered
	b.waitingInRing, _, _ = probes.RingUse()
	b.filter = queueBooks(t, open("processor/bpf_filter"), event.Size)
	b.enrich = queueBooks(t, open("processor/bpf_enrich"), event.EnrichedSize)
	stats, err := bpf.OpenStats(open("connector/bpf_aggregate"), "stats", 1)
	require.NoError(t, err)
	defer stats.Close()
	b.aggregated = stats.Books().Events
	for number, name := range stats.ViewNames() {
		if slices.Contains(strings.Split(name, ","), "kernel.events") {
			b.uncertain += stats.ViewBooks(uint16(number)).UncertainEvents
		}
	}
	b.redelivered = b.filter.Redelivered + b.enrich.Redelivered + stats.Books().Redelivered
	return b
}

func queueBooks(t testing.TB, dir *bpf.Directory, size int) bpf.QueueBooks {
	t.Helper()
	queue, older, err := bpf.OpenQueue(dir, "queue", bpf.QueueConfig{ElementSize: size, Capacity: 10_000, Lanes: 1})
	require.NoError(t, err)
	defer queue.Close()
	for _, q := range older {
		q.Close()
	}
	return queue.Books()
}

// requireBalance asserts that every event that was produced is accounted for, that none is left on the way,
// and that none was dropped.
func (b books) requireBalance(t testing.TB) {
	t.Helper()
	require.Zero(t, b.waitingInRing, "bytes left in the ring buffer")
	require.Equal(t, b.produced-b.lost, b.committed, "produced - lost = committed")
	require.Equal(t, b.committed, b.filter.Received, "the filter received what the receiver delivered")
	require.Equal(t, bpf.QueueBooks{
		Received: b.filter.Received, Filtered: b.filter.Filtered, Delivered: b.filter.Received - b.filter.Filtered, Redelivered: b.filter.Redelivered,
	}, b.filter, "the filter delivered what it did not filter")
	require.Equal(t, b.filter.Delivered, b.enrich.Received)
	require.Equal(t, bpf.QueueBooks{Received: b.enrich.Received, Delivered: b.enrich.Received, Redelivered: b.enrich.Redelivered}, b.enrich)
	require.Equal(t, b.enrich.Delivered, b.aggregated, "aggregated")
	require.Equal(t, b.produced, b.aggregated+b.filter.Filtered+b.lost, "produced = aggregated + filtered + lost")
}
