//go:build linux && kernel

package stage

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/health"
	"github.com/kernelpipe/kernelpipe/internal/statustest"
)

// startDrainAt is startDrain with the hosts of its two statuses.
func startDrainAt(t *testing.T, settings DrainSettings, queue, losses *statustest.Host) *Drain {
	t.Helper()
	dir, err := bpf.OpenDirectory(settings.PinPath, settings.Name)
	require.NoError(t, err)
	d := NewDrain(settings)
	require.NoError(t, d.Start(queue, losses, dir))
	t.Cleanup(func() {
		assert.NoError(t, d.Shutdown(t.Context()))
		assert.NoError(t, dir.Close())
	})
	return d
}

// A lane of a hand-off whose number in flight can't be stands still. The drain delivers the other lanes, the owner deals what comes
// to them, and both follow another shape of the queue.
func TestForgedNumberInFlightOfAHandOff(t *testing.T) {
	n, h, path := newNext(t), &statustest.Host{}, pinPath(t)
	four := handoff(path, func(s *Settings) { s.Queue.Lanes = 4 })
	owner := New(four)
	require.NoError(t, owner.Start(t.Context(), &statustest.Host{}))
	require.NoError(t, owner.ConsumeLogs(t.Context(), frame(batch(0, 100))))
	books := filepath.Join(path, "queue@handoff", "queue-books", "books")
	forge(t, books, booksLanes+laneInFlight, math.MaxUint64)
	startDrainAt(t, newDrain(n, path, "queue/handoff", Queue), h, &statustest.Host{})
	eventually(t, func() bool { return len(n.got()) == 75 })
	eventually(t, func() bool { return len(h.Events()) > 0 })
	assert.Equal(t, componentstatus.StatusRecoverableError, h.Events()[0].Status())
	require.ErrorContains(t, h.Events()[0].Err(), books+" is damaged: lane 0 has ")

	eventually(t, func() bool { return owner.broken[0].Load() })
	require.NoError(t, owner.ConsumeLogs(t.Context(), frame(batch(100, 100))))
	eventually(t, func() bool { return len(n.got()) == 175 })
	require.NoError(t, owner.Shutdown(t.Context()))

	h = &statustest.Host{}
	owner = New(handoff(path, func(s *Settings) { s.Queue.Lanes = 2 }))
	require.NoError(t, owner.Start(t.Context(), h))
	require.NoError(t, owner.ConsumeLogs(t.Context(), frame(batch(200, 100))))
	eventually(t, func() bool { return len(n.got()) == 275 })
	eventually(t, func() bool { return len(h.Events()) > 0 })
	require.ErrorContains(t, h.Events()[0].Err(), books+" is damaged: lane 0 has ")
	require.NoError(t, owner.Shutdown(t.Context()))
	assert.DirExists(t, filepath.Join(path, "queue@handoff", "queue-0"), "what stands still is not thrown away")
}

// What was found of the pinned state at the start is in the status for a minute, and no longer.
func TestDamageFoundAtTheStartPasses(t *testing.T) {
	n, h, path := newNext(t), &statustest.Host{}, pinPath(t)
	passes := func(h *statustest.Host, damaged *health.Recent, says string) {
		t.Helper()
		eventually(t, func() bool { return len(h.Events()) == 1 })
		assert.Equal(t, componentstatus.StatusRecoverableError, h.Events()[0].Status())
		require.ErrorContains(t, h.Events()[0].Err(), says)
		require.NoError(t, damaged.Check(time.Now().Add(time.Minute)))
		eventually(t, func() bool { return len(h.Events()) == 2 })
		assert.Equal(t, componentstatus.StatusOK, h.Events()[1].Status())
	}
	settings := handoff(path, func(s *Settings) { s.Queue.Lanes = 2 })
	owner := New(settings)
	require.NoError(t, owner.Start(t.Context(), &statustest.Host{}))
	require.NoError(t, owner.ConsumeLogs(t.Context(), frame(batch(0, 100))))
	require.NoError(t, owner.Shutdown(t.Context()))
	require.NoError(t, os.Remove(filepath.Join(path, "queue@handoff", "queue-0", "lane_0")))

	owner = New(settings)
	require.NoError(t, owner.Start(t.Context(), h))
	passes(h, &owner.damaged, "lane_0 is damaged: a lane without a pin")
	require.NoError(t, owner.Shutdown(t.Context()))

	require.NoError(t, os.Remove(filepath.Join(path, "queue@handoff", "queue-0", "in_flight")))
	h = &statustest.Host{}
	d := startDrainAt(t, newDrain(n, path, "queue/handoff", Queue), &statustest.Host{}, h)
	passes(h, &d.damaged, "in_flight is damaged: its pin was removed")
	eventually(t, func() bool { return len(n.got()) == 100 })
}

// What is missing of a queue that the drain comes to later is said then, and counted.
func TestDamageOfALaterQueue(t *testing.T) {
	n, h, path := newNext(t), &statustest.Host{}, pinPath(t)
	for i, lanes := range []int{1, 2} {
		owner := New(handoff(path, func(s *Settings) { s.Queue.Lanes = lanes }))
		require.NoError(t, owner.Start(t.Context(), &statustest.Host{}))
		require.NoError(t, owner.ConsumeLogs(t.Context(), frame(batch(100*i, 100))))
		require.NoError(t, owner.Shutdown(t.Context()))
	}
	offered := filepath.Join(path, "queue@handoff", "queue-books", "lanes")
	unoffer(t, offered)
	require.NoError(t, os.Remove(filepath.Join(path, "queue@handoff", "queue-1", "lane_1")))
	d := startDrainAt(t, newDrain(n, path, "queue/handoff", Queue), &statustest.Host{}, h)
	eventually(t, func() bool { return len(h.Events()) > 0 })
	require.ErrorContains(t, h.Events()[0].Err(), "lane_1 is damaged: a lane without a pin: what waited in it is gone")
	require.ErrorContains(t, h.Events()[0].Err(), "of 50 events that waited, and 0 in flight, somebody has removed the pins")
	eventually(t, func() bool { return len(n.got()) == 150 })
	d.mu.Lock()
	defer d.mu.Unlock()
	assert.Equal(t, bpf.QueueBooks{Received: 200, Delivered: 150, Lost: 50}, d.consumer.Books())
}
