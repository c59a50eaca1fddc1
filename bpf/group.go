//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// unfinished marks a group that is being made or removed: nothing uses it yet, or any more. One that its process did not live
// to make or to remove goes when its directory is opened next.
const unfinished = "-unfinished"

// group is a set of maps that are made, pinned and adopted together: all of them or none.
type group struct {
	place           // where it is pinned, or nowhere
	dir     *pinDir // what is pinned there, as it was when the group was opened; nil: it is not pinned
	maps    map[string]*ebpf.Map
	adopted bool
}

// ShapeError says that a pinned object is not what this process would make.
type ShapeError struct {
	Path string // of the object
	Err  error  // the difference
}

// Error names the object, the difference and the way out.
func (e *ShapeError) Error() string {
	return fmt.Sprintf("%s was pinned by another version or configuration: %v. Start the version or configuration that pinned it once more "+
		"and stop it gracefully, which delivers what waits in it; then remove it with `rm -r %s`, which throws away what it holds still",
		e.Path, e.Err, filepath.Dir(e.Path))
}

// Unwrap returns the difference.
func (e *ShapeError) Unwrap() error { return e.Err }

// shapeError says what is wrong with an object of a group. That it may not be opened says nothing about its shape.
func shapeError(at place, name string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("pinned maps: %w", err)
	}
	return &ShapeError{Path: at.path(pinName(name)), Err: err}
}

// openGroup adopts the maps of spec that are pinned there under their names, or makes them, fills them
// with initialize, and pins them.
func openGroup(at place, specs map[string]*ebpf.MapSpec, initialize func(map[string]*ebpf.Map) error) (*group, error) {
	if at.pinned() {
		switch exists, err := at.exists(); {
		case err != nil:
			return nil, fmt.Errorf("pinned maps: %w", err)
		case exists:
			return adoptGroup(at, specs)
		}
	}
	return makeGroup(at, specs, initialize)
}

func makeGroup(at place, specs map[string]*ebpf.MapSpec, initialize func(map[string]*ebpf.Map) error) (_ *group, err error) {
	g := &group{place: at, maps: map[string]*ebpf.Map{}}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	for name, spec := range specs {
		spec.Pinning = ebpf.PinNone
		m, err := ebpf.NewMap(spec)
		if err != nil {
			return nil, fmt.Errorf("make BPF map %s (%s, %d entries of %d bytes): %w", name, spec.Type, spec.MaxEntries, spec.ValueSize, err)
		}
		g.maps[name] = m
	}
	if initialize != nil {
		if err := initialize(g.maps); err != nil {
			return nil, err
		}
	}
	if at.pinned() {
		err = g.pin()
	}
	return g, err
}

// pin pins the maps in a directory with another name first.
func (g *group) pin() (err error) {
	making := g.unfinished()
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("pin: %w", err), making.removeAll())
		}
	}()
	if g.dir, err = making.in.makeDir(making.name); err != nil {
		return err
	}
	for name, m := range g.maps {
		if err := g.dir.pin(m, pinName(name)); err != nil {
			return err
		}
	}
	// The rename is what makes the group exist, whole.
	if err := g.in.rename(making.name, g.name); err != nil {
		return err
	}
	g.dir.path = g.path()
	return nil
}

func adoptGroup(at place, specs map[string]*ebpf.MapSpec) (_ *group, err error) {
	g := &group{place: at, maps: map[string]*ebpf.Map{}, adopted: true}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if g.dir, err = at.open(); err != nil {
		return nil, fmt.Errorf("pinned maps: %w", err)
	}
	for name, spec := range specs {
		m, err := loadPin(g.dir, pinName(name), ebpf.LoadPinnedMap)
		if err != nil {
			return nil, shapeError(at, name, err)
		}
		g.maps[name] = m
		if err := spec.Compatible(m); err != nil {
			return nil, shapeError(at, name, err)
		}
	}
	return g, nil
}

// mmapable gives the map of a section of global variables the flag that the collection loader gives it.
func mmapable(section *ebpf.MapSpec) { section.Flags |= unix.BPF_F_MMAPABLE }

// Close closes the maps; those that are pinned live on.
func (g *group) Close() {
	for _, m := range g.maps {
		_ = m.Close() // closing a descriptor has nothing left to fail on
	}
	if g.dir != nil {
		_ = g.dir.close() // likewise
	}
}

// abandon removes the pins of a group that this process has made. What an earlier process left stays.
func (g *group) abandon() error {
	if g.dir == nil || g.adopted {
		return nil
	}
	if there, err := g.isPinned(); err != nil || !there {
		return err
	}
	return g.remove()
}

// isPinned reports whether the maps are still what is pinned at the group's place.
func (g *group) isPinned() (bool, error) { return g.in.has(g.name, g.dir) }

// remove unpins the group that is pinned there; its maps die when they are closed.
func (p place) remove() error {
	if !p.pinned() {
		return nil
	}
	// Out of sight in one step, so that a kill here leaves no half of a group behind.
	removing := p.unfinished()
	if err := p.in.rename(p.name, removing.name); err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	if err := removing.removeAll(); err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// pinName is the file name of a map: the BPF file system reserves dots.
func pinName(name string) string {
	return strings.ReplaceAll(strings.TrimPrefix(name, "."), ".", "_")
}

// maxNumber is more than any entry has: a number can be counted on for as long as anybody starts.
const maxNumber = 1 << 30

func numbersOf(entries []fs.DirEntry, prefix string) []int {
	var numbers []int
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), prefix)
		if n, err := strconv.Atoi(rest); ok && err == nil && strconv.Itoa(n) == rest && n >= 0 && n < maxNumber {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}
