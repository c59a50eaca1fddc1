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
)

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
