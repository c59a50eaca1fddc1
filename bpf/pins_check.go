//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
)

// CheckPins reports whether the directory, and what is pinned in it, was removed or moved while this process has it open. The
// process goes on with what it has open, but with the process it dies.
func (d *Directory) CheckPins() error {
	if !d.Pinned() {
		return nil
	}
	there, err := d.isThere()
	if err != nil || !there {
		return errors.Join(removed(d.dir.path), err)
	}
	return nil
}

// isThere reports whether the next start would find the directory by its path. It fails where it would fail.
func (d *Directory) isThere() (bool, error) {
	parent, err := openPinPath(d.parent.path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = parent.close() }() // it was only read
	return parent.has(d.name, d.dir)
}

func removed(path string) error {
	return fmt.Errorf("%s was removed or moved while it is in use: all goes on, but is kept no more when this process is killed. "+
		"Stop the Collector gracefully, which delivers what there is, and start it again", path)
}

// checkPins is CheckPins for a group.
func (g *group) checkPins() error {
	if g == nil || !g.pinned() {
		return nil
	}
	if there, err := g.isPinned(); err != nil || !there {
		return errors.Join(err, removed(g.path()))
	}
	for name := range g.maps {
		if _, err := g.dir.lookUp(pinName(name)); errors.Is(err, fs.ErrNotExist) {
			return removed(g.path(pinName(name)))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// CheckPins is Directory.CheckPins, for the queue and its books.
func (q *Queue) CheckPins() error { return errors.Join(q.state.group.checkPins(), q.group.checkPins()) }

// CheckPins is Directory.CheckPins, for the stats.
func (s *Stats) CheckPins() error { return s.group.checkPins() }

// CheckPins is Directory.CheckPins, for the ring buffer in use, its books, and the links of the probes: without its link a
// probe is detached, unless this process has attached it itself.
func (p *Probes) CheckPins() error {
	p.mu.Lock()
	attached := p.attached
	if p.detached {
		attached = nil
	}
	p.mu.Unlock()
	return errors.Join(p.state.checkPins(), p.Ring().group.checkPins(), attached.checkPins())
}

// CheckPins is Directory.CheckPins, for the table and the links of its programs.
func (t *ProcessTable) CheckPins() error {
	return errors.Join(t.books.checkPins(), t.entries.checkPins(), t.attached.checkPins())
}

func (a *attachment) checkPins() error {
	if a == nil || !a.dir.Pinned() || len(a.programs) == 0 {
		return nil
	}
	at := linksPlace(a.dir, a.generation)
	pins, err := at.entries()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(pins) < 2*len(a.programs) { // a link and its program each
		return removed(at.path())
	}
	return nil
}
