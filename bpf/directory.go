//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Directory is where the kernel objects of one component are pinned. While it is open no other process can
// open it. One that pins nothing is made by an empty path: then the objects die with the process.
type Directory struct {
	parent *pinDir
	name   string  // in parent
	dir    *pinDir // locked; nil: nothing is pinned
}

// OpenDirectory opens, and makes if need be, the directory of a component below pinPath, with mode 0700.
// component is any text; it becomes one file name. It fails if pinPath is not on a BPF file system, if another user can
// change a directory of it, and if another live process has the directory open; a dead one's claim is gone with it. Before
// Linux 5.11 it also raises the process's limit of locked memory, which BPF maps count to there.
func OpenDirectory(pinPath, component string) (*Directory, error) {
	if err := raiseMemoryLimit(); err != nil {
		return nil, err
	}
	if pinPath == "" {
		return &Directory{}, nil
	}
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		d, err := openDirectory(pinPath, fileName(component))
		if errors.Is(err, fs.ErrNotExist) && time.Since(start) < patience {
			continue // another process has removed it just now
		}
		if err != nil {
			return nil, err
		}
		return d, nil
	}
}

// openDirectory opens and locks a directory. Where it is removed meanwhile the error wraps fs.ErrNotExist.
func openDirectory(pinPath, name string) (_ *Directory, err error) {
	d := &Directory{name: name}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.release())
		}
	}()
	if d.parent, err = openPinPath(pinPath, true); err != nil {
		return nil, err
	}
	if d.dir, err = d.parent.makeDir(name); err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	if err := claim(d.dir); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another running process: stop it, or give this component another name or pin_path", d.dir.path)
		}
		return nil, fmt.Errorf("lock %s: %w", d.dir.path, err)
	}
	// Who had it locked before may have removed it, and what another process makes at its place is another directory.
	there, err := d.parent.has(name, d.dir)
	if err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	if !there {
		return nil, fmt.Errorf("pin directory %s was removed: %w", d.dir.path, fs.ErrNotExist)
	}
	if err := d.sweep(); err != nil {
		return nil, err
	}
	return d, nil
}

// sweep removes what killed processes left unfinished. Nobody else makes anything here, and a consumer that is removing a
// drained queue at this moment does not mind help.
func (d *Directory) sweep() error {
	entries, err := d.dir.entries()
	if err != nil {
		return fmt.Errorf("pin directory: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), unfinished) {
			continue
		}
		if err := d.dir.removeAll(entry.Name()); err != nil {
			return fmt.Errorf("remove what is unfinished: %w", err)
		}
	}
	return nil
}

// patience is how long a claim waits for a process that is about to end, or only looks (Orphans).
const patience = time.Second

// claim locks a directory. flock(2) belongs to the open file, so the kernel lifts it when the process dies, however
// it dies.
func claim(directory *pinDir) error {
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(directory.fd(), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Since(start) > patience {
			return err
		}
	}
}

// Pinned reports whether objects outlive the process.
func (d *Directory) Pinned() bool { return d.dir != nil }

// Path returns the directory's path; empty if nothing is pinned.
func (d *Directory) Path() string {
	if !d.Pinned() {
		return ""
	}
	return d.dir.path
}

// Close gives the directory up to others. What is pinned stays; where nothing is, the directory is removed.
func (d *Directory) Close() error {
	if d == nil || !d.Pinned() {
		return nil
	}
	return errors.Join(d.removeIfEmpty(), d.release())
}

func (d *Directory) release() error {
	var err error
	for _, open := range []*pinDir{d.dir, d.parent} {
		if open != nil {
			err = errors.Join(err, open.close())
		}
	}
	d.dir, d.parent = nil, nil
	return err
}

func (d *Directory) removeIfEmpty() error {
	if there, err := d.parent.has(d.name, d.dir); err != nil || !there {
		return err
	}
	if err := d.parent.remove(d.name); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// join returns the place of a group, which is nowhere if nothing is pinned.
func (d *Directory) join(name string) place {
	if !d.Pinned() {
		return place{}
	}
	return place{d.dir, name}
}

// numbered returns the numbers n of the entries prefix-n, in rising order.
func (d *Directory) numbered(prefix string) ([]int, error) {
	if !d.Pinned() {
		return nil, nil
	}
	entries, err := d.dir.entries()
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
// components that are no longer configured, or whose process is not running at the moment. What another user can change is
// none of them.
func Orphans(pinPath string) ([]Orphan, error) {
	if pinPath == "" {
		return nil, nil
	}
	parent, err := openPinPath(pinPath, false)
	if err != nil {
		return nil, fmt.Errorf("orphans: %w", err)
	}
	defer func() { _ = parent.close() }() // it was only read
	entries, err := parent.entries()
	if err != nil {
		return nil, fmt.Errorf("orphans: %w", err)
	}
	var orphans []Orphan
	for _, entry := range entries {
		dir, err := parent.dir(entry.Name())
		if err != nil {
			continue // it is gone, or no component's
		}
		orphan, free, err := lookAt(&Directory{dir: dir})
		_ = dir.close() // which also unlocks it
		if err != nil {
			return nil, fmt.Errorf("orphans: %w", err)
		}
		if free {
			orphans = append(orphans, orphan)
		}
	}
	return orphans, nil
}

func lookAt(d *Directory) (orphan Orphan, free bool, err error) {
	if free, err = d.unclaimed(); err != nil || !free {
		return Orphan{}, false, err
	}
	orphan.Path = d.Path()
	orphan.Attached, err = d.ProbesAttached()
	return orphan, true, err
}

// ProbesAttached reports whether probes that are pinned in the directory are attached, also where nobody has opened them.
func (d *Directory) ProbesAttached() (bool, error) {
	numbers, err := d.numbered(probesLinks)
	if err != nil {
		return false, err
	}
	for _, n := range numbers {
		links, err := linksPlace(d, uint32(n)).entries()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if len(links) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// unclaimed reports whether nobody has a component's directory open as its Directory, or consumes a queue in it.
func (d *Directory) unclaimed() (bool, error) {
	if free, err := unlocked(d.dir); err != nil || !free {
		return false, err
	}
	entries, err := d.dir.entries()
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), booksName("")) {
			continue
		}
		books, err := d.dir.dir(entry.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		free, err := unlocked(books)
		_ = books.close() // which also unlocks it
		if err != nil || !free {
			return false, err
		}
	}
	return true, nil
}

// unlocked locks a directory if nobody has, until it is closed.
func unlocked(dir *pinDir) (bool, error) {
	err := unix.Flock(dir.fd(), unix.LOCK_SH|unix.LOCK_NB)
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
