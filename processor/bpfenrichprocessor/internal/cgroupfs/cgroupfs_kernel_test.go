//go:build linux && kernel

package cgroupfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestPath(t *testing.T) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	cgroups, err := Open(mountinfo)
	require.NoError(t, err, "this test needs root and a mounted cgroup2 file system")
	t.Cleanup(cgroups.Close)

	parent := filepath.Join(cgroups.path, "kernelpipe-test.slice")
	child := filepath.Join(parent, "docker-x.scope")
	require.NoError(t, os.MkdirAll(child, 0o700))
	t.Cleanup(func() { _ = unix.Rmdir(child); _ = unix.Rmdir(parent) })
	id := func(path string) uint64 {
		var stat unix.Stat_t
		require.NoError(t, unix.Stat(path, &stat))
		return stat.Ino
	}
	for path, want := range map[string]string{cgroups.path: "/", parent: "/kernelpipe-test.slice", child: "/kernelpipe-test.slice/docker-x.scope"} {
		got, err := cgroups.Path(id(path))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}

	gone := id(child)
	require.NoError(t, unix.Rmdir(child))
	for _, id := range []uint64{gone, 0, 1 << 60} {
		_, err = cgroups.Path(id)
		assert.ErrorIs(t, err, ErrNotFound, id)
	}
}

func TestNoMount(t *testing.T) {
	_, err := Open(nil)
	assert.ErrorIs(t, err, ErrNoMount)
	_, err = Open([]byte("36 35 0:27 / /does/not/exist rw - cgroup2 cgroup2 rw\n"))
	assert.ErrorContains(t, err, "/does/not/exist")
}
