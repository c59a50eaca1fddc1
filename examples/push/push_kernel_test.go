//go:build linux && kernel

package push

import (
	"os"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pinPath = "/sys/fs/bpf/kernelpipe-test-push"

// open opens the queue as the exporter does.
func open(t testing.TB, capacity, lanes int) {
	t.Helper()
	dir, err := bpf.OpenDirectory(pinPath, stage.QueueComponent("handoff"))
	require.NoError(t, err)
	q, older, err := bpf.OpenQueue(dir, stage.Queue, bpf.QueueConfig{ElementSize: event.EnrichedSize, Capacity: capacity, Lanes: lanes})
	require.NoError(t, err)
	for _, q := range older {
		q.Close()
	}
	q.Close()
	require.NoError(t, dir.Close())
}

// attach loads the example as its first lines say.
func attach(t testing.TB) (detach func()) {
	t.Helper()
	replacements := map[string]*ebpf.Map{}
	for name, file := range map[string]string{"kp_lanes": "lanes", "kp_books": "books"} {
		m, err := ebpf.LoadPinnedMap(pinPath+"/queue@handoff/queue-books/"+file, nil)
		require.NoError(t, err)
		defer func() { assert.NoError(t, m.Close()) }()
		replacements[name] = m
	}
	var objects pushObjects
	require.NoError(t, loadPushObjects(&objects, &ebpf.CollectionOptions{MapReplacements: replacements}))
	attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sched_process_exec", Program: objects.Executed})
	require.NoError(t, err)
	return func() {
		assert.NoError(t, attached.Close())
		assert.NoError(t, objects.Close())
	}
}

// drain takes everything out and returns how many events come from the command.
func drain(t testing.TB, c *bpf.Consumer, command string) (found int) {
	t.Helper()
	for {
		all := 0
		for lane := range c.Lanes() {
			got, err := c.Pop(lane, bpf.MaxBatch)
			require.NoError(t, err)
			events, err := event.ViewEnriched(got.Data)
			require.NoError(t, err)
			for i := range events {
				e := &events[i].Event
				require.NoError(t, e.Validate())
				if e.Comm() == command {
					found++
					assert.Equal(t, "exec", e.OperationName())
					assert.NotZero(t, e.Time)
				}
			}
			c.Ack(lane)
			all += len(events)
		}
		if all == 0 {
			if followed, err := c.Follow(); !followed {
				require.NoError(t, err)
				return found
			}
		}
	}
}

func execute(t testing.TB, times int) {
	t.Helper()
	for range times {
		require.NoError(t, exec.Command("true").Run())
	}
}

func TestProgramOfOthersPushes(t *testing.T) {
	require.NoError(t, os.RemoveAll(pinPath))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(pinPath)) })
	open(t, 100, 2) // the owner is not there any more: the queue is
	detach := attach(t)
	c, err := bpf.OpenConsumer(pinPath, stage.QueueComponent("handoff"), stage.Queue)
	require.NoError(t, err)
	defer c.Close()

	execute(t, 20)
	assert.Equal(t, 20, drain(t, c, "true"))

	// While the program goes on its owner is started with other shapes: nothing is lost.
	execute(t, 10)
	open(t, 200, 1)
	execute(t, 10)
	open(t, 400, 4)
	execute(t, 10)
	assert.Equal(t, 30, drain(t, c, "true"))
	assert.Equal(t, 4, c.Lanes())

	// Past full, to the event.
	execute(t, 450)
	detach()
	before := c.Books()
	assert.Equal(t, before.Received, before.Delivered+before.Queued+before.DroppedNewest)
	assert.NotZero(t, before.DroppedNewest)
	drain(t, c, "true")
	after := c.Books()
	assert.Equal(t, bpf.QueueBooks{Received: before.Received, Delivered: before.Received - before.DroppedNewest, DroppedNewest: before.DroppedNewest}, after)
}
