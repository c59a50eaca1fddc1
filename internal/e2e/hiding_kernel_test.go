//go:build linux && kernel

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/internal/testprogram"
)

// TestManyNamesHideNobody runs 2,100 programs of different names, each of which makes two series, and goes on with further ones.
// A program that starts then, in the same cgroup, has its own series; so has one that starts when the attack is over. The
// connector says in its log that series overflow.
func TestManyNamesHideNobody(t *testing.T) {
	const burst = 2100
	backend, pin, dir := newBackend(t), pinPath(t), t.TempDir()
	program := filepath.Join(dir, "program")
	require.NoError(t, testprogram.Write(program, testprogram.Brief))
	execute := func(name string) {
		path := filepath.Join(dir, name)
		if err := os.Link(program, path); err != nil && !os.IsExist(err) {
			assert.NoError(t, err)
		}
		assert.NoError(t, exec.Command(path).Run())
	}
	series := func(name string) map[string]any {
		return map[string]any{"kernel.event.operation": "exec", "process.executable.name": name}
	}
	c := run(t, configure(t, pipelineConfig, pipelineValues(pin, backend.address, "process: ")))
	for i := range burst {
		execute(fmt.Sprint("kp-burst-", i))
	}
	require.Eventually(t, func() bool { return backend.sum("kernel.events", map[string]any{"otel.metric.overflow": true}) > 0 }, 30*time.Second, 100*time.Millisecond)
	stop := make(chan struct{})
	var attack sync.WaitGroup
	attack.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				execute(fmt.Sprint("kp-flood-", i))
			}
		}
	})
	shows := func(name string) {
		assert.Eventually(t, func() bool {
			execute(name)
			return backend.sum("kernel.events", series(name)) > 0
		}, 30*time.Second, 100*time.Millisecond, "%s has no series of its own", name)
	}
	shows("kp-victim")
	close(stop)
	attack.Wait()
	shows("kp-late")
	shows("kp-victim")
	c.terminate()
	assert.Contains(t, c.log.String(), "events went to the overflow series of kernel.event.duration,kernel.events,kernel.io since ")
	assert.Contains(t, c.log.String(), "raise cardinality_limit, which is 2000, or give the metric fewer dimensions")
	ledger := readBooks(t, pin, ringSize)
	ledger.requireBalance(t)
	assert.Zero(t, ledger.lost, "lost")
}
