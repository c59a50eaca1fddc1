//go:build linux && kernel

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStop stops the collector while its backend is slow or dead. The next process exports all that there is.
func TestStop(t *testing.T) {
	for _, test := range []struct {
		name  string
		delay time.Duration
		dead  bool
	}{{"slow", 500 * time.Millisecond, false}, {"dead", 0, true}} {
		t.Run(test.name, func(t *testing.T) {
			const events = 2_000_000
			backend, pin := newBackend(t), pinPath(t)
			backend.set(test.delay, test.dead)
			config := configure(t, pipelineConfig, pipelineValues(pin, backend.address, fmt.Sprintf("simulate: { events: %d, rate: 500000, seed: 1 }", events)))
			for range 3 {
				c := run(t, config)
				time.Sleep(300 * time.Millisecond)
				c.terminate()
			}
			backend.set(0, false)
			c := run(t, config)
			require.Eventually(t, func() bool { return backend.sum("kernel.events", nil) == events }, 60*time.Second, 50*time.Millisecond)
			c.terminate()
			ledger := readBooks(t, pin, ringSize)
			ledger.requireBalance(t)
			assert.EqualValues(t, events, ledger.produced)
			assert.EqualValues(t, events, backend.sum("kernel.events", nil))
			assert.Zero(t, ledger.lost)
		})
	}
}

// TestKeepOnShutdown has the probes go on between two processes.
func TestKeepOnShutdown(t *testing.T) {
	backend, pin, load := newBackend(t), pinPath(t), newWorkload(t)
	values := pipelineValues(pin, backend.address, fmt.Sprintf("process: { command: [%s], operation: [exec] }", execName))
	values["more"] = "keep_on_shutdown: true"
	config := configure(t, pipelineConfig, values)
	const each = 50
	for range 3 {
		c := run(t, config)
		for range each {
			load.run(execName)
		}
		c.terminate()
		for range each { // nobody is there but the probes
			load.run(execName)
		}
	}
	values["more"] = ""
	c := run(t, configure(t, pipelineConfig, values))
	c.terminate()
	for range each { // nobody is there, and the probes are gone
		load.run(execName)
	}
	ledger := readBooks(t, pin, ringSize)
	ledger.requireBalance(t)
	assert.EqualValues(t, 6*each, ledger.produced)
	assert.EqualValues(t, 6*each, backend.sum("kernel.events", map[string]any{"process.executable.name": execName}))
}

// TestChangeOfShape kills the collector and starts it with queues and a ring buffer of other sizes.
func TestChangeOfShape(t *testing.T) {
	backend, pin, load := newBackend(t), pinPath(t), newWorkload(t)
	values := pipelineValues(pin, backend.address, fmt.Sprintf("process: { command: [%s], operation: [exec] }", execName))
	const each = 30
	for i, shape := range []struct {
		ring     string
		capacity int
	}{{"1MiB", 10_000}, {"1MiB", 100_000}, {"16MiB", 50}, {"64KiB", 50}, {"8MiB", 10_000}} {
		values["ring"], values["capacity"] = shape.ring, shape.capacity
		c := run(t, configure(t, pipelineConfig, values))
		for range each {
			load.run(execName)
		}
		if i < 4 {
			c.kill()
		} else {
			c.terminate()
		}
	}
	ledger := readBooks(t, pin, ringSize)
	ledger.requireBalance(t)
	assert.EqualValues(t, 5*each, ledger.produced)
	assert.EqualValues(t, 5*each, backend.sum("kernel.events", nil))
}

// TestSecondCollector starts a second collector with the same component ids.
func TestSecondCollector(t *testing.T) {
	backend, pin, load := newBackend(t), pinPath(t), newWorkload(t)
	config := configure(t, pipelineConfig, pipelineValues(pin, backend.address, fmt.Sprintf("process: { command: [%s], operation: [exec] }", execName)))
	first := run(t, config)
	second := launch(t, config)
	<-second.exited
	assert.NotZero(t, second.cmd.ProcessState.ExitCode())
	assert.Contains(t, second.log.String(), "is in use by another running process")
	for range 10 {
		load.run(execName)
	}
	first.terminate()
	readBooks(t, pin, ringSize).requireBalance(t)
	assert.EqualValues(t, 10, backend.sum("kernel.events", nil), "the first is not disturbed")
}

// TestOrphans leaves attached probes behind, of a receiver that the next configuration does not have.
func TestOrphans(t *testing.T) {
	backend, pin := newBackend(t), pinPath(t)
	config := configure(t, pipelineConfig, pipelineValues(pin, backend.address, "process: "))
	run(t, config).kill()
	orphan := filepath.Join(pin, "receiver@bpf%2Fold")
	require.NoError(t, os.Rename(filepath.Join(pin, "receiver@bpf"), orphan))
	c := run(t, config)
	c.terminate()
	assert.Contains(t, c.log.String(), fmt.Sprintf("%q, \"probes_attached\": true", orphan))
}

// TestForeignPins starts the collector on a pin directory with content that is not its own.
func TestForeignPins(t *testing.T) {
	backend, pin := newBackend(t), pinPath(t)
	config := configure(t, pipelineConfig, pipelineValues(pin, backend.address, "process: "))
	c := run(t, config)
	require.NoError(t, exec.Command("true").Run()) // an event: without any nothing would stay
	c.terminate()
	books := filepath.Join(pin, "processor@bpf_filter", "queue-books", "books")
	require.NoError(t, os.Remove(books))
	c = launch(t, config)
	<-c.exited
	assert.NotZero(t, c.cmd.ProcessState.ExitCode())
	assert.Contains(t, c.log.String(), books)
	assert.Contains(t, c.log.String(), "rm -r")
}
