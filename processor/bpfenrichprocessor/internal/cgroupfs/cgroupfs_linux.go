package cgroupfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotFound says that the cgroup is gone.
	ErrNotFound = errors.New("cgroup is gone")
	// ErrDenied says that this process may not open a cgroup by its id: it lacks CAP_DAC_READ_SEARCH.
	ErrDenied = errors.New("cgroups can't be opened by their id")
	// ErrNoMount says that no cgroup v2 file system is mounted.
	ErrNoMount = errors.New("no cgroup2 file system is mounted")
)

// handleType is FILEID_KERNFS of include/linux/exportfs.h: the handle is a cgroup's id, 8 bytes.
const handleType = 0xfe

// FS is a mounted cgroup v2 file system. Any number of goroutines may use it.
type FS struct {
	mount int
	path  string
}

// Open opens the first cgroup v2 file system in the content of a /proc/<pid>/mountinfo, proc_pid_mountinfo(5).
func Open(mountinfo []byte) (*FS, error) {
	path, ok := mountPoint(mountinfo)
	if !ok {
		return nil, ErrNoMount
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup2 file system %s: %w", path, err)
	}
	return &FS{mount: fd, path: path}, nil
}

// Close lets go of the file system.
func (f *FS) Close() { _ = unix.Close(f.mount) }

// Path returns the path of a cgroup below the mount point. It fails with ErrNotFound when the cgroup is gone,
// and with ErrDenied when this process may not ask.
func (f *FS) Path(id uint64) (string, error) {
	fd, err := unix.OpenByHandleAt(f.mount, unix.NewFileHandle(handleType, binary.NativeEndian.AppendUint64(nil, id)), unix.O_PATH|unix.O_CLOEXEC)
	switch {
	case errors.Is(err, unix.ESTALE), errors.Is(err, unix.ENOENT):
		return "", ErrNotFound
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "", ErrDenied
	case err != nil:
		return "", fmt.Errorf("open cgroup %d: %w", id, err)
	}
	defer func() { _ = unix.Close(fd) }()
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", fmt.Errorf("path of cgroup %d: %w", id, err)
	}
	return "/" + strings.TrimPrefix(strings.TrimPrefix(path, f.path), "/"), nil
}
