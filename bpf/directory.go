//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Directory is where the kernel objects of one component are pinned. While it is open no other process can
// open it. One that pins nothing is made by an empty path: then the objects die with the process.
type Directory struct {
	path string
	lock *os.File
}

// OpenDirectory opens, and makes if need be, the directory of a component below pinPath, with mode 0700.
// component is any text; it becomes one file name. It fails if pinPath is not on a BPF file system, and if
// another live process has the directory open; a dead one's claim is gone with it. Before Linux 5.11 it also raises the
// process's limit of locked memory, which BPF maps count to there.
func OpenDirectory(pinPath, component string) (*Directory, error) {
	if err := raiseMemoryLimit(); err != nil {
		return nil, err
	}
	if pinPath == "" {
		return &Directory{}, nil
	}
	if err := onBPFFS(pinPath); err != nil {
		return nil, err
	}
	path := filepath.Join(pinPath, fileName(component))
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	lock, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	if err := claim(lock); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another running process: stop it, or give this component another name or pin_path", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	d := &Directory{path: path, lock: lock}
	if err := d.sweep(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// sweep removes what killed processes left unfinished. Nobody else makes anything here, and a consumer that is removing a
// drained queue at this moment does not mind help.
func (d *Directory) sweep() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("pin directory: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), unfinished) {
			continue
		}
		if err := os.RemoveAll(d.join(entry.Name())); err != nil {
			return fmt.Errorf("remove what is unfinished: %w", err)
		}
	}
	return nil
}

// patience is how long a claim waits for a process that is about to end, or only looks (Orphans).
const patience = time.Second

// claim locks a directory. flock(2) belongs to the open file, so the kernel lifts it when the process dies, however
// it dies.
func claim(directory *os.File) error {
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(directory.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Since(start) > patience {
			return err
		}
	}
}

// Pinned reports whether objects outlive the process.
func (d *Directory) Pinned() bool { return d.path != "" }

// Path returns the directory's path; empty if nothing is pinned.
func (d *Directory) Path() string { return d.path }

// Close gives the directory up to others. What is pinned stays.
func (d *Directory) Close() error {
	if d == nil || d.lock == nil {
		return nil
	}
	err := d.lock.Close()
	d.lock = nil
	return err
}

// RemoveIfEmpty removes the directory unless something is pinned in it.
func (d *Directory) RemoveIfEmpty() error {
	if !d.Pinned() {
		return nil
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// join returns the path of an object, empty if nothing is pinned.
func (d *Directory) join(name string) string {
	if !d.Pinned() {
		return ""
	}
	return filepath.Join(d.path, name)
}

// numbered returns the numbers n of the entries prefix-n, in rising order.
func (d *Directory) numbered(prefix string) ([]int, error) {
	if !d.Pinned() {
		return nil, nil
	}
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	return numbersOf(entries, prefix+"-"), nil
}

// Orphan is a component's directory that no running process has open.
type Orphan struct {
	Path     string
	Attached bool // probes of it are still attached, and fill its ring buffer
}

// Orphans returns the directories below pinPath that no running process has open or drains a queue of: left by
// components that are no longer configured, or whose process is not running at the moment.
func Orphans(pinPath string) ([]Orphan, error) {
	if pinPath == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(pinPath)
	if err != nil {
		return nil, fmt.Errorf("orphans: %w", err)
	}
	var orphans []Orphan
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		path := filepath.Join(pinPath, entry.Name())
		free, err := unclaimed(path)
		if err != nil {
			return nil, fmt.Errorf("orphans: %w", err)
		}
		if !free {
			continue
		}
		attached, err := probesAttached(path)
		if err != nil {
			return nil, fmt.Errorf("orphans: %w", err)
		}
		orphans = append(orphans, Orphan{Path: path, Attached: attached})
	}
	return orphans, nil
}

// ProbesAttached reports whether probes that are pinned in the directory are attached, also where nobody has opened them.
func (d *Directory) ProbesAttached() (bool, error) {
	if !d.Pinned() {
		return false, nil
	}
	return probesAttached(d.path)
}

func probesAttached(path string) (bool, error) {
	links, err := filepath.Glob(filepath.Join(path, probesLinks+"-*", "*"))
	return len(links) > 0, err
}

// unclaimed reports whether nobody has a component's directory open as its Directory, or consumes a queue in it.
func unclaimed(path string) (bool, error) {
	queues, err := filepath.Glob(filepath.Join(path, booksName("*")))
	if err != nil {
		return false, err
	}
	for _, claimable := range append(queues, path) {
		if free, err := unlocked(claimable); err != nil || !free {
			return false, err
		}
	}
	return true, nil
}

// unlocked reports whether nobody has locked a directory. One that is gone is nobody's business.
func unlocked(path string) (bool, error) {
	at, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = at.Close() }() // which also unlocks it
	err = unix.Flock(int(at.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// fileName turns a component's name into a file name, one to one. The BPF file system reserves dots
// (bpf_lookup in kernel/bpf/inode.c).
func fileName(component string) string {
	return strings.NewReplacer("%", "%25", ".", "%2E", "@", "%40", "/", "@").Replace(component)
}

// onBPFFS checks the nearest ancestor of path that exists.
func onBPFFS(path string) error {
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		var stat unix.Statfs_t
		err := unix.Statfs(at, &stat)
		switch {
		case errors.Is(err, unix.ENOENT) && at != filepath.Dir(at):
			continue
		case err != nil:
			return fmt.Errorf("pin_path %s: %w", path, err)
		case stat.Type != unix.BPF_FS_MAGIC:
			return fmt.Errorf("pin_path %s is not on a BPF file system (%s is of another type): "+
				"mount one with `mount -t bpf bpf /sys/fs/bpf`, or set pin_path to \"\" to keep nothing across a restart", path, at)
		}
		return nil
	}
}
