//go:build linux && kernel

package bpfenrichprocessor

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"

	"github.com/kernelpipe/kernelpipe/internal/statustest"
)

// A process table that is too small for the processes that run is a loss: status and log say what to change.
func TestFullTableShows(t *testing.T) {
	config := newConfig()
	config.ProcessTable.Processes, config.Health.LossWindow = 64, 2*time.Second
	host := &statustest.Host{}
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
	require.Eventually(t, func() bool { return len(host.Events()) > 0 }, 20*time.Second, 10*time.Millisecond)
	first := host.Events()[0]
	assert.Equal(t, componentstatus.StatusRecoverableError, first.Status())
	assert.ErrorContains(t, first.Err(), "processes found the process table full of processes that live")
	assert.ErrorContains(t, first.Err(), "raise process_table.processes")
}
