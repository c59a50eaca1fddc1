//go:build linux && kernel

package bpfenrichprocessor

import (
	"context"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// A process table that is too small for the processes that run is a loss: status and log say what to change.
func TestFullTableShows(t *testing.T) {
	config := newConfig()
	config.ProcessTable.Processes, config.Health.LossWindow = 64, 2*time.Second
	host := &statusHost{}
	p := create(t, config, &sink{})
	require.NoError(t, p.Start(t.Context(), host))
	var running []*exec.Cmd
	for range 100 {
		cmd := exec.Command("sleep", "60")
		require.NoError(t, cmd.Start())
		running = append(running, cmd)
	}
	defer func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		assert.NoError(t, p.Shutdown(context.Background()))
	}()
	require.Eventually(t, func() bool { return len(host.all()) > 0 }, 20*time.Second, 10*time.Millisecond)
	first := host.all()[0]
	assert.Equal(t, componentstatus.StatusRecoverableError, first.Status())
	assert.ErrorContains(t, first.Err(), "processes found the process table full of processes that live")
	assert.ErrorContains(t, first.Err(), "raise process_table.processes")
}

// statusHost takes note of the statuses that are reported to it.
type statusHost struct {
	mu     sync.Mutex
	events []*componentstatus.Event
}

func (*statusHost) GetExtensions() map[component.ID]component.Component { return nil }

func (h *statusHost) Report(event *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
}

func (h *statusHost) all() []*componentstatus.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}
