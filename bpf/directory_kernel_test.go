//go:build linux && kernel

package bpf

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Whoever moves the pin path itself, or takes its file system away, is noticed too.
func TestCheckPinsLooksThePathUp(t *testing.T) {
	at := t.TempDir()
	require.NoError(t, unix.Mount("bpf", at, "bpf", 0, "mode=0700"))
	unmount := sync.OnceFunc(func() { assert.NoError(t, unix.Unmount(at, unix.MNT_DETACH)) })
	t.Cleanup(unmount)
	dir := directory(t, filepath.Join(at, "pins"))
	require.NoError(t, dir.CheckPins())
	require.NoError(t, os.Rename(filepath.Join(at, "pins"), filepath.Join(at, "moved")))
	require.ErrorContains(t, dir.CheckPins(), "pins/test was removed or moved while it is in use")
	another := directory(t, filepath.Join(at, "pins"))
	require.ErrorContains(t, dir.CheckPins(), "pins/test was removed or moved while it is in use")
	require.NoError(t, another.CheckPins())
	require.NoError(t, os.RemoveAll(filepath.Join(at, "pins")))
	require.NoError(t, os.Rename(filepath.Join(at, "moved"), filepath.Join(at, "pins")))
	require.NoError(t, dir.CheckPins())
	unmount()
	err := dir.CheckPins()
	require.ErrorContains(t, err, "pins/test was removed or moved while it is in use")
	require.ErrorContains(t, err, "it is not on a BPF file system")
}

// smallGroup pins a group of one map in dir, and lets go of it.
func smallGroup(t testing.TB, dir *Directory, name string) *group {
	t.Helper()
	specs := map[string]*ebpf.MapSpec{"a_map": {Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}}
	group, err := openGroup(dir.join(name), specs, nil)
	require.NoError(t, err)
	group.Close()
	return group
}

func entriesOf(t testing.TB, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// What a process was making or removing when it was killed is no memory that nobody can free.
func TestUnfinishedGroupsAreSweptUp(t *testing.T) {
	path := pinPath(t)
	dir, err := OpenDirectory(path, "test")
	require.NoError(t, err)
	for _, name := range []string{"queue-7", "dead_letter-1", "queue-books", "ring-3", "probes", "entries-2", "stats-4"} {
		group := smallGroup(t, dir, name)
		require.NoError(t, os.Rename(group.path(), group.path()+unfinished))
	}
	smallGroup(t, dir, "queue-8")
	require.NoError(t, dir.Close())
	directory(t, path)
	assert.Equal(t, []string{"queue-8"}, entriesOf(t, filepath.Join(path, "test")))
}

// A consumer removes a drained queue whenever it likes.
func TestSweepBesideARemoval(t *testing.T) {
	dir := directory(t, pinPath(t))
	for range 100 {
		group := smallGroup(t, dir, "queue-0")
		away := group.path() + unfinished
		require.NoError(t, os.Rename(group.path(), away)) // as far as remove has come
		var both sync.WaitGroup
		both.Go(func() { assert.NoError(t, os.RemoveAll(away)) })
		both.Go(func() { assert.NoError(t, dir.sweep()) })
		both.Wait()
		require.Empty(t, entriesOf(t, dir.Path()))
	}
}
