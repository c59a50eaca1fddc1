//go:build linux && kernel

package bpfreceiver

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// moveReader writes into a pinned ring buffer up to where it was read.
func moveReader(t *testing.T, path string, to uint64) {
	t.Helper()
	ring, err := ebpf.LoadPinnedMap(path, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, ring.Close()) }()
	page, err := unix.Mmap(ring.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	binary.NativeEndian.PutUint64(page, to)
	require.NoError(t, unix.Munmap(page))
}

// A ring buffer that can't be read is left aside, and a receiver goes on with another one. The status says so for a minute.
func TestDamagedRingBuffer(t *testing.T) {
	const n = 50
	path := pinPath(t)
	first := start(t, pinned(t, path, "keep_on_shutdown: true\nshutdown_timeout: 0s"), &sink{answer: func(event.Batch) error { return errBusy }})
	work(t, "calls", argument{N: n})
	eventually(t, func() bool { return first.logs.FilterMessageSnippet("does not take events").Len() > 0 })
	assert.Equal(t, account{produced: n, waiting: n}, first.stop(t))
	rings, err := filepath.Glob(filepath.Join(path, "*", "ring-0", "events"))
	require.NoError(t, err)
	require.Len(t, rings, 1)
	moveReader(t, rings[0], 8)

	for range 2 {
		second := start(t, pinned(t, path, ""), &sink{})
		second.status(t, componentstatus.StatusRecoverableError)
		assert.Equal(t, 1, second.logs.FilterMessageSnippet("Pinned state can't be trusted").Len())
		work(t, "calls", argument{N: n})
		eventually(t, func() bool { return second.sink.len() == n })
		require.NoError(t, second.damaged.Check(time.Now().Add(time.Minute)))
		second.status(t, componentstatus.StatusOK)
		second.stop(t)
		require.FileExists(t, rings[0])
	}
}
