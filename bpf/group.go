//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	path    string // empty: not pinned
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

// openGroup adopts the maps of spec that are pinned at path under their names, or makes them, fills them
// with initialize, and pins them. Where path is empty they are made and not pinned.
func openGroup(path string, specs map[string]*ebpf.MapSpec, initialize func(map[string]*ebpf.Map) error) (*group, error) {
	if path != "" {
		switch _, err := os.Stat(path); {
		case err == nil:
			return adoptGroup(path, specs)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("pinned maps: %w", err)
		}
	}
	return makeGroup(path, specs, initialize)
}

func makeGroup(path string, specs map[string]*ebpf.MapSpec, initialize func(map[string]*ebpf.Map) error) (_ *group, err error) {
	g := &group{path: path, maps: map[string]*ebpf.Map{}}
	defer func() {
		if err != nil {
			g.Close()
			if path != "" {
				err = errors.Join(err, os.RemoveAll(path+unfinished))
			}
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
	if path == "" {
		return g, nil
	}
	if err := os.Mkdir(path+unfinished, 0o700); err != nil {
		return nil, fmt.Errorf("pin: %w", err)
	}
	for name, m := range g.maps {
		if err := m.Pin(filepath.Join(path+unfinished, pinName(name))); err != nil {
			return nil, fmt.Errorf("pin: %w", err)
		}
	}
	// The rename is what makes the group exist, whole.
	if err := os.Rename(path+unfinished, path); err != nil {
		return nil, fmt.Errorf("pin: %w", err)
	}
	return g, nil
}

func adoptGroup(path string, specs map[string]*ebpf.MapSpec) (_ *group, err error) {
	g := &group{path: path, maps: map[string]*ebpf.Map{}, adopted: true}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	for name, spec := range specs {
		at := filepath.Join(path, pinName(name))
		m, err := ebpf.LoadPinnedMap(at, nil)
		if err != nil {
			return nil, &ShapeError{Path: at, Err: err}
		}
		g.maps[name] = m
		if err := spec.Compatible(m); err != nil {
			return nil, &ShapeError{Path: at, Err: err}
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
}

// remove unpins the group; its maps die when they are closed.
func (g *group) remove() error {
	if g.path == "" {
		return nil
	}
	// Out of sight in one step, so that a kill here leaves no half of a group behind.
	if err := os.Rename(g.path, g.path+unfinished); err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	if err := os.RemoveAll(g.path + unfinished); err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// unpin removes the pin of one map of the group.
func (g *group) unpin(name string) error {
	if g.path == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(g.path, pinName(name))); err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// pinName is the file name of a map: the BPF file system reserves dots.
func pinName(name string) string {
	return strings.ReplaceAll(strings.TrimPrefix(name, "."), ".", "_")
}

func numbersOf(entries []fs.DirEntry, prefix string) []int {
	var numbers []int
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), prefix)
		if n, err := strconv.Atoi(rest); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}
