package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/boottime"
)

// ErrNotFound says that the process is gone; its pid may be another's by now.
var ErrNotFound = errors.New("process is gone")

// Bounds of what is read of one file, in bytes. A stat file is below 1 KiB. A cgroup file has a line for each
// hierarchy with a path of at most PATH_MAX; what is beyond the bound is left out, by whole lines.
const (
	statLimit   = 4 << 10
	linkLimit   = 4 << 10
	cgroupLimit = 64 << 10
)

// parentTries is how often a parent may end while it is looked at before it is given up.
const parentTries = 3

// Process is the facts about a process.
type Process struct {
	Stat
	// Executable is the base name of the executable; empty for a thread of the kernel's, and where Denied.
	Executable string
	// Denied says that this process may not see the executable: it lacks CAP_SYS_PTRACE.
	Denied bool
	// ParentComm is the name of the parent's main thread; empty, and Parent 0, if there is none or it is not known.
	ParentComm string
	// Cgroup is the content of the cgroup file, cgroups(7); valid until the Reader is used again.
	Cgroup []byte
}

// Reader reads processes. One goroutine at a time may use it.
type Reader struct {
	root   string // of the proc file system
	ahead  int64  // what its boot-time clock is ahead of the kernel's, ns
	buffer [cgroupLimit]byte
}

// NewReader returns a reader of the proc file system at root, /proc.
func NewReader(root string) *Reader {
	ahead, _ := boottime.Offset() // components ask for the error at their start
	return &Reader{root: root, ahead: ahead}
}

// Process returns the facts about the process with this pid that started so many ns after boot. It fails with
// ErrNotFound when that process is gone. The clock of /proc has ticks of 10 ms: two processes with one
// pid that start within one tick can't be told apart.
func (r *Reader) Process(pid uint32, start uint64) (Process, error) {
	dir, err := r.open(pid)
	if err != nil {
		return Process{}, err
	}
	defer dir.close()
	stat, err := r.stat(dir)
	if err != nil {
		return Process{}, err
	}
	if stat.Start != Ticks(start+uint64(r.ahead)) {
		return Process{}, ErrNotFound
	}
	p := Process{Stat: stat}
	if !stat.Kernel {
		if p.Executable, err = r.executable(dir); errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			p.Denied = true
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return Process{}, err
		}
	}
	// From here on it may end while it is looked at; what has been found is true all the same.
	if err := r.parent(dir, &p); err != nil && !errors.Is(err, ErrNotFound) {
		return Process{}, err
	}
	cgroup, err := r.read(dir, "cgroup", r.buffer[:])
	if err != nil && !errors.Is(err, ErrNotFound) { // a kernel may have no cgroups
		return Process{}, err
	}
	if len(cgroup) == len(r.buffer) {
		cgroup = cgroup[:bytes.LastIndexByte(cgroup, '\n')+1]
	}
	p.Cgroup = cgroup
	return p, nil
}

// parent finds the parent's name. A process whose parent ends gets another one before the old one's pid is
// free (forget_original_parent in kernel/exit.c), so the pid was the parent's if it still is afterwards.
func (r *Reader) parent(dir directory, p *Process) error {
	candidate := p.Parent
	p.Parent = 0
	for range parentTries {
		if candidate == 0 {
			return nil
		}
		parent, err := r.parentStat(candidate)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		now, verifyErr := r.stat(dir)
		if verifyErr != nil {
			return verifyErr
		}
		if err == nil && now.Parent == candidate {
			p.Parent, p.ParentComm = candidate, parent.Comm
			return nil
		}
		candidate = now.Parent
	}
	return ErrNotFound
}

func (r *Reader) parentStat(pid uint32) (Stat, error) {
	dir, err := r.open(pid)
	if err != nil {
		return Stat{}, err
	}
	defer dir.close()
	return r.stat(dir)
}

// directory is an open /proc/<pid>. It stays that process's, also when the process is gone and the pid is
// another's: the inode holds on to the struct pid (fs/proc/base.c).
type directory int

func (d directory) close() { _ = unix.Close(int(d)) }

func (r *Reader) open(pid uint32) (directory, error) {
	path := r.root + "/" + strconv.FormatUint(uint64(pid), 10)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, translate("open "+path, err)
	}
	return directory(fd), nil
}

func (r *Reader) stat(dir directory) (Stat, error) {
	content, err := r.read(dir, "stat", r.buffer[:statLimit])
	if err != nil {
		return Stat{}, translate("read stat", err)
	}
	return ParseStat(content)
}

// executable fails with ErrNotFound for a process that has ended and not been waited for.
func (r *Reader) executable(dir directory) (string, error) {
	n, err := unix.Readlinkat(int(dir), "exe", r.buffer[:linkLimit])
	if err != nil {
		return "", translate("read exe link", err)
	}
	return executableName(r.buffer[:n]), nil
}

// read returns what of the file fits in buffer.
func (r *Reader) read(dir directory, name string, buffer []byte) ([]byte, error) {
	fd, err := unix.Openat(int(dir), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, translate("open "+name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	length := 0
	for length < len(buffer) {
		n, err := unix.Read(fd, buffer[length:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, translate("read "+name, err)
		}
		if n == 0 {
			break
		}
		length += n
	}
	return buffer[:length], nil
}

func translate(what string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return ErrNotFound
	}
	return fmt.Errorf("%s: %w", what, err)
}
