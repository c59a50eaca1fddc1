//go:build linux && kernel

package stage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"

	"github.com/kernelpipe/kernelpipe/internal/statustest"
)

func TestStatusFollowsTheQueue(t *testing.T) {
	n, h := newNext(t), &statustest.Host{}
	settings := newSettings(n, "")
	settings.Queue.Capacity, settings.Queue.OnFull, settings.Work = 100, DropNewest, keepAll
	settings.Health = HealthConfig{MaxDepthRatio: 0.5, MaxLoss: 10, LossWindow: time.Second}
	s := New(settings)
	require.NoError(t, s.Start(t.Context(), h))
	status := func(changes int) *componentstatus.Event {
		t.Helper()
		require.Eventually(t, func() bool { return len(h.Events()) == changes }, 20*time.Second, 10*time.Millisecond)
		return h.Events()[changes-1]
	}
	goOn := n.stall(t)
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 1))))
	require.Eventually(t, func() bool { return s.Books().InFlight == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(1, 60))))
	depth := status(1)
	assert.Equal(t, componentstatus.StatusRecoverableError, depth.Status())
	assert.EqualError(t, depth.Err(), "processor/test: 60 events wait in a queue for 100, more than max_depth_ratio 0.5 allows: they are taken out too slowly")
	goOn()
	settle(t, s)
	assert.Equal(t, componentstatus.StatusOK, status(2).Status())

	goOn = n.stall(t)
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(100, 1))))
	require.Eventually(t, func() bool { return s.Books().InFlight == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(101, 200))))
	goOn()
	settle(t, s)
	loss := status(3)
	assert.Equal(t, componentstatus.StatusRecoverableError, loss.Status())
	assert.ErrorContains(t, loss.Err(), "100 events found the queue full and were dropped (drop_newest) since ")
	assert.Equal(t, componentstatus.StatusOK, status(4).Status())
	require.NoError(t, s.Shutdown(t.Context()))
	assert.Len(t, h.Events(), 4, "starting and stopping is not for a component to report")
}
