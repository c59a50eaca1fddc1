//go:build linux && kernel

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// killsVariable asks for more kills than a run of all tests has time for.
const killsVariable = "KERNELPIPE_KILLS"

// batch is the most events that one worker has in hand, and workers how many there are: the receiver, and a
// lane each of filter and enrich.
const batch, workers = 1024, 3

// TestKill kills the collector with SIGKILL at random moments under load. After the last restart every event
// is accounted for, once.
func TestKill(t *testing.T) {
	kills := 100
	if more := os.Getenv(killsVariable); more != "" {
		var err error
		kills, err = strconv.Atoi(more)
		require.NoError(t, err, killsVariable)
	}
	const rate = 250_000               // events/s
	events := uint64(kills) * rate / 3 // more than it makes while it is being killed
	backend, pin, load := newBackend(t), pinPath(t), newWorkload(t)
	config := configure(t, pipelineConfig, pipelineValues(pin, backend.address,
		fmt.Sprintf("process: { command: [%s] }, simulate: { events: %d, rate: %d, seed: 1 }", execName, events, rate)))

	stop := make(chan struct{})
	executed := 0
	var beside sync.WaitGroup
	beside.Go(func() { // the real workload: it goes on while no collector is there
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				if assert.NoError(t, exec.Command(filepath.Join(load.dir, execName)).Run()) {
					executed++
				}
			}
		}
	})
	stopBeside := sync.OnceFunc(func() { close(stop); beside.Wait() })
	defer stopBeside()

	run(t, config).kill()
	for range kills - 1 {
		c := launch(t, config)
		if rand.IntN(10) > 0 { // now and then in the middle of the start
			c.waitReady()
		}
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		c.kill()
	}
	require.Less(t, backend.sum("kernel.events", nil), float64(events), "the simulation ended before the kills did: the load was no load")
	c := run(t, config)
	stopBeside()
	real := map[string]any{"process.executable.name": execName}
	require.Eventually(t, func() bool {
		return backend.sum("kernel.events", nil)-backend.sum("kernel.events", real) >= float64(events)
	},
		300*time.Second, 100*time.Millisecond, "the simulation does not come to its end")
	c.terminate()

	ledger := readBooks(t, pin, ringSize)
	ledger.requireBalance(t)
	// A program that ran between fork and the attaching of the probes may be seen in part, so its events are
	// counted at the backend. They alone can be lost: the simulator waits where the ring buffer is full. It is exact.
	assert.EqualValues(t, events, ledger.produced-ledger.lost-uint64(backend.sum("kernel.events", real)), "simulated: to its end and not beyond")
	assert.LessOrEqual(t, ledger.redelivered, uint64(kills*batch*workers), "redelivered")
	assert.EqualValues(t, ledger.aggregated, backend.sum("kernel.events", nil), "the backend has every event once")
	t.Logf("%d kills, %d events simulated, %d programs executed beside: %d events redelivered and recognised", kills, events, executed, ledger.redelivered)
}
