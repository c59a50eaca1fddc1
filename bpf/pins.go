//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Everything in the BPF file system is reached through a pinDir. Other users may be able to write to that file system, so
// a name is looked up in the directory that was opened and checked, never again by its path, and no symbolic link is followed.

// pinDir is an open directory on a BPF file system that nobody but root and this process's user can change.
type pinDir struct {
	file *os.File
	path string // for people
}

// Who else may make entries in a directory.
type sharing int

const (
	private sharing = iota // nobody, and what is in it can be trusted
	sticky                 // others may, if they can't replace what is ours in it (the sticky bit)
)

// openPinPath opens a directory and every one above it, and makes those that are missing on the BPF file system if make is
// true. It fails where the path leads over a symbolic link, or on the BPF file system through a directory that others can change.
func openPinPath(path string, make bool) (_ *pinDir, err error) {
	if _, err := os.Stat(procDescriptors); err != nil {
		return nil, fmt.Errorf("pin_path %s: %w: objects are pinned through /proc, so it needs to be mounted", path, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("pin_path: %w", err)
	}
	at, err := openRoot()
	if err != nil {
		return nil, fmt.Errorf("pin_path %s: %w", path, err)
	}
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if name == "" {
			break // it is the root
		}
		next, err := at.step(name, make)
		_ = at.close() // opened to look a name up
		if err != nil {
			return nil, fmt.Errorf("pin_path %s: %w", path, err)
		}
		at = next
	}
	if on, err := at.onBPFFS(); err != nil || !on {
		return nil, errors.Join(err, at.notBPFFS(), at.close())
	}
	return at, nil
}

func openRoot() (*pinDir, error) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	return &pinDir{file: os.NewFile(uintptr(fd), "/"), path: "/"}, nil
}

// step opens a directory of a pin path. What is above the BPF file system is not checked: who can change it can keep a
// Collector from starting, but can't make it use what belongs to others.
func (d *pinDir) step(name string, make bool) (*pinDir, error) {
	next, err := d.openAt(name, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		if on, err := d.onBPFFS(); err != nil || !on {
			return nil, errors.Join(err, d.notBPFFS())
		}
		if make {
			next, err = d.makeAndOpen(name, unix.O_PATH)
		}
	}
	if err != nil {
		return nil, err
	}
	if on, err := next.onBPFFS(); err != nil || on {
		if err = errors.Join(err, next.check(sticky)); err != nil {
			return nil, errors.Join(err, next.close())
		}
	}
	return next, nil
}

// dir opens a directory in this one. It fails where anybody else can change it.
func (d *pinDir) dir(name string) (*pinDir, error) {
	next, err := d.openAt(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return next.ours()
}

// makeDir opens a directory in this one, and makes it if it is missing. It fails where anybody else can change it, and closes it to
// readers, for who can read a directory can lock it.
func (d *pinDir) makeDir(name string) (*pinDir, error) {
	next, err := d.openAt(name, unix.O_RDONLY)
	if errors.Is(err, unix.ENOENT) {
		next, err = d.makeAndOpen(name, unix.O_RDONLY)
	}
	if err != nil {
		return nil, err
	}
	if next, err = next.ours(); err != nil {
		return nil, err
	}
	stat, err := next.stat()
	if err == nil && stat.Mode&0o077 != 0 {
		err = next.file.Chmod(0o700)
	}
	if err != nil {
		err = next.denied(err)
		return nil, errors.Join(err, next.close())
	}
	return next, nil
}

// ours returns the directory, or closes it if anybody else can change it.
func (d *pinDir) ours() (*pinDir, error) {
	on, err := d.onBPFFS()
	if err == nil && !on {
		err = d.notBPFFS()
	}
	if err == nil {
		err = d.check(private)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *pinDir) openAt(name string, how int) (*pinDir, error) {
	path := filepath.Join(d.path, name)
	fd, err := openat(d.fd(), name, how|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return nil, d.explain(name, &fs.PathError{Op: "open", Path: path, Err: err})
	}
	return &pinDir{file: os.NewFile(uintptr(fd), path), path: path}, nil
}

func (d *pinDir) makeAndOpen(name string, how int) (*pinDir, error) {
	if err := unix.Mkdirat(d.fd(), name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) { // another process was faster
		return nil, d.explain(name, &fs.PathError{Op: "make", Path: filepath.Join(d.path, name), Err: err})
	}
	return d.openAt(name, how)
}

func (d *pinDir) fd() int { return int(d.file.Fd()) }

func (d *pinDir) close() error { return d.file.Close() }

func (d *pinDir) stat() (stat unix.Stat_t, err error) {
	if err := unix.Fstat(d.fd(), &stat); err != nil {
		return stat, &fs.PathError{Op: "stat", Path: d.path, Err: err}
	}
	return stat, nil
}

// lookUp looks at an entry itself, which may be a link.
func (d *pinDir) lookUp(name string) (stat unix.Stat_t, err error) {
	if err := unix.Fstatat(d.fd(), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return stat, &fs.PathError{Op: "stat", Path: filepath.Join(d.path, name), Err: err}
	}
	return stat, nil
}

// has reports whether the entry called name is still this directory, and not removed, or another one.
func (d *pinDir) has(name string, entry *pinDir) (bool, error) {
	is, err := entry.stat()
	if err != nil {
		return false, err
	}
	found, err := d.lookUp(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && is.Dev == found.Dev && is.Ino == found.Ino, err
}

func (d *pinDir) onBPFFS() (bool, error) {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(d.fd(), &stat); err != nil {
		return false, &fs.PathError{Op: "statfs", Path: d.path, Err: err}
	}
	return stat.Type == unix.BPF_FS_MAGIC, nil
}

func (d *pinDir) notBPFFS() error {
	return fmt.Errorf("it is not on a BPF file system (%s is of another type): mount one with `mount -t bpf -o mode=0700 bpf /sys/fs/bpf`, "+
		"or set pin_path to \"\" to keep nothing across a restart", d.path)
}

// entries lists the directory.
func (d *pinDir) entries() ([]fs.DirEntry, error) {
	// With a descriptor of its own, which has a position of its own.
	fd, err := openat(d.fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return nil, d.explain(".", &fs.PathError{Op: "open", Path: d.path, Err: err})
	}
	directory := os.NewFile(uintptr(fd), d.path)
	defer func() { _ = directory.Close() }() // it was only read
	return directory.ReadDir(-1)
}

// rename gives an entry another name.
func (d *pinDir) rename(from, to string) error {
	if err := unix.Renameat(d.fd(), from, d.fd(), to); err != nil {
		return d.explain(from, &fs.PathError{Op: "rename", Path: filepath.Join(d.path, from), Err: err})
	}
	return nil
}

// remove removes a pin or a link, or an empty directory.
func (d *pinDir) remove(name string) error {
	err := unix.Unlinkat(d.fd(), name, 0)
	if errors.Is(err, unix.EISDIR) {
		err = unix.Unlinkat(d.fd(), name, unix.AT_REMOVEDIR)
	}
	if err != nil {
		return d.explain(name, &fs.PathError{Op: "remove", Path: filepath.Join(d.path, name), Err: err})
	}
	return nil
}

// removeAll removes an entry with all that is in it. That others remove it at the same time does not matter.
func (d *pinDir) removeAll(name string) error {
	err := d.remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	within, err := d.openAt(name, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = within.close() }() // it is removed
	entries, err := within.entries()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if err := within.removeAll(entry.Name()); err != nil {
			return err
		}
	}
	if err := d.remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// procDescriptors makes an open file's name in an open directory a path, which bpf(2) wants: from Linux 6.6 on it takes a
// descriptor too.
const procDescriptors = "/proc/self/fd"

// pinner is a map, a program or a link.
type pinner interface{ Pin(path string) error }

// pin pins an object in the directory.
func (d *pinDir) pin(object pinner, name string) error {
	if err := object.Pin(filepath.Join(procDescriptors, strconv.Itoa(d.fd()), name)); err != nil {
		return d.explain(name, &fs.PathError{Op: "pin", Path: filepath.Join(d.path, name), Err: err})
	}
	return nil
}

// loadPin opens a pinned object with load, which is ebpf.LoadPinnedMap or ebpf.LoadPinnedProgram.
func loadPin[T any](d *pinDir, name string, load func(string, *ebpf.LoadPinOptions) (T, error)) (object T, err error) {
	path := filepath.Join(d.path, name)
	fd, err := openat(d.fd(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return object, d.explain(name, &fs.PathError{Op: "open", Path: path, Err: err})
	}
	defer func() { _ = unix.Close(fd) }() // the object has a descriptor of its own
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return object, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return object, fmt.Errorf("%s is no pinned object", path)
	}
	if object, err = load(filepath.Join(procDescriptors, strconv.Itoa(fd)), nil); err != nil {
		return object, d.explain(name, &fs.PathError{Op: "open", Path: path, Err: err})
	}
	return object, nil
}

func openat(dir int, name string, flags int) (fd int, err error) {
	for {
		if fd, err = unix.Openat(dir, name, flags, 0); !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// check fails where anybody but root and this process's user can change the directory.
func (d *pinDir) check(sharing sharing) error {
	stat, err := d.stat()
	if err != nil {
		return err
	}
	if stat.Uid != 0 && stat.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s, and only root and this process's user %s may own it, for its owner can replace what is pinned there. "+
			"If all that is in it is to be trusted, give it away with `chown -R`; else set another pin_path", owned(d.path, stat), userName(uint32(os.Geteuid())))
	}
	if stat.Mode&0o022 != 0 && (sharing == private || stat.Mode&unix.S_ISVTX == 0) {
		return fmt.Errorf("%s, so that others can replace what is pinned there. If all that is in it is to be trusted, close it with `chmod 0700 %s`; "+
			"else set another pin_path", owned(d.path, stat), d.path)
	}
	return nil
}

// explain adds to an error about an entry what the kernel does not say: that it is a link, or whose it is.
func (d *pinDir) explain(name string, err error) error {
	stat, unseen := d.lookUp(name)
	switch {
	case unseen == nil && stat.Mode&unix.S_IFMT == unix.S_IFLNK && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)):
		path := filepath.Join(d.path, name)
		target := make([]byte, unix.PathMax)
		n, _ := unix.Readlinkat(d.fd(), name, target) // what it leads to is only told
		return fmt.Errorf("%s is a symbolic link to %s, made by user %s, and links are not followed here: "+
			"name the directory itself in pin_path, or remove the link", path, target[:max(n, 0)], userName(stat.Uid))
	case !errors.Is(err, fs.ErrPermission):
		return err
	case unseen == nil && name != ".":
		return denied(filepath.Join(d.path, name), stat, err)
	default:
		return d.denied(err)
	}
}

func (d *pinDir) denied(err error) error {
	stat, unseen := d.stat()
	if unseen != nil {
		return err
	}
	return denied(d.path, stat, err)
}

func denied(path string, stat unix.Stat_t, err error) error {
	return fmt.Errorf("%w: %s; this process has user %s. Run it as that user, or let it have what is pinned with `chown -R`",
		err, owned(path, stat), userName(uint32(os.Geteuid())))
}

func owned(path string, stat unix.Stat_t) string {
	return fmt.Sprintf("%s belongs to user %s, mode %04o", path, userName(stat.Uid), stat.Mode&0o7777)
}

func userName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if known, err := user.LookupId(number); err == nil {
		return number + " (" + known.Username + ")"
	}
	return number
}

// place is where a group of objects is pinned, or may be: a name in a component's directory. The zero place is nowhere, and what
// is made there is not pinned.
type place struct {
	in   *pinDir
	name string
}

func (p place) pinned() bool { return p.in != nil }

// path is for people.
func (p place) path(name ...string) string {
	return filepath.Join(append([]string{p.in.path, p.name}, name...)...)
}

func (p place) exists() (bool, error) {
	_, err := p.in.lookUp(p.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (p place) open() (*pinDir, error) { return p.in.dir(p.name) }

func (p place) unfinished() place { return place{p.in, p.name + unfinished} }

// loadMap opens one map of the group. Where it is missing the error wraps fs.ErrNotExist.
func (p place) loadMap(name string) (*ebpf.Map, error) {
	dir, err := p.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.close() }() // it was only looked into
	return loadPin(dir, name, ebpf.LoadPinnedMap)
}

// entries lists the group.
func (p place) entries() ([]fs.DirEntry, error) {
	dir, err := p.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.close() }() // it was only read
	return dir.entries()
}

func (p place) removeAll() error { return p.in.removeAll(p.name) }
