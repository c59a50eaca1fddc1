//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/boottime"
)

// How a table is brought up to date that other programs, or none at all, have kept for a while, and how it is moved to
// one of another size.

// pinnedSizes returns how many entries the maps of a group have that is pinned.
func pinnedSizes(at place, names map[string]uint32) (map[string]uint32, error) {
	shape := map[string]uint32{}
	for name := range names {
		m, err := at.loadMap(pinName(name))
		if err != nil {
			return nil, shapeError(at, name, err)
		}
		shape[name] = m.MaxEntries()
		_ = m.Close()
	}
	return shape, nil
}

func sameSizes(a, b map[string]uint32) bool {
	for name, entries := range a {
		if b[name] != entries {
			return false
		}
	}
	return true
}

// moveEarlier moves the entries of tables of another size, and removes those.
func (t *ProcessTable) moveEarlier() error {
	for len(t.earlier) > 0 {
		t.entries.adopted = true            // they have what was there
		from := t.earlier[len(t.earlier)-1] // what is newer counts
		if err := t.moveProcesses(from); err != nil {
			return fmt.Errorf("move %s: %w", from.path(), err)
		}
		if err := t.moveCgroups(from); err != nil {
			return fmt.Errorf("move %s: %w", from.path(), err)
		}
		if err := t.movePrograms(from); err != nil {
			return fmt.Errorf("move %s: %w", from.path(), err)
		}
		if err := from.remove(); err != nil {
			return err
		}
		from.Close()
		t.earlier = t.earlier[:len(t.earlier)-1]
	}
	return nil
}

func (t *ProcessTable) moveProcesses(from *group) error {
	type key = processTableKpProcessId
	entries := map[key]processTableKpProcessEntry{}
	var order []key
	err := all(from.maps[processTableMapProcesses], func(id key, entry processTableKpProcessEntry) error {
		entries[id] = entry
		if entry.ExitNs == 0 {
			order = append(order, id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	ended, err := drain[key](from.maps[processTableMapEnded])
	if err != nil {
		return err
	}
	slices.Reverse(ended) // where there is not room for all, those that ended last stay
	moved, movedEnded := 0, []key{}
	for _, id := range append(order, ended...) {
		entry, ok := entries[id]
		if !ok {
			continue
		}
		entry.Seen = 0
		ok, err := insert(t.entries.maps[processTableMapProcesses], id, entry)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		moved++
		if entry.ExitNs != 0 {
			movedEnded = append(movedEnded, id)
		}
		if err := t.moveArguments(from, id); err != nil {
			return err
		}
	}
	for _, id := range slices.Backward(movedEnded) {
		if err := t.pushEnded(id); err != nil {
			return err
		}
	}
	atomic.AddUint64(&t.state().LeftOut, uint64(len(entries)-moved))
	return nil
}

func (t *ProcessTable) moveArguments(from *group, id processTableKpProcessId) error {
	var kept processTableKpArguments
	err := from.maps[processTableMapArguments].Lookup(&id, &kept)
	if errors.Is(err, ebpf.ErrKeyNotExist) || !t.config.Arguments {
		return nil
	}
	if err == nil {
		_, err = insert(t.entries.maps[processTableMapArguments], id, kept)
	}
	return err
}

func (t *ProcessTable) pushEnded(id processTableKpProcessId) error {
	err := note(t.entries.maps[processTableMapEnded], t.entries.maps[processTableMapProcesses], id, &t.state().LeftOut)
	if err != nil {
		return fmt.Errorf("note the end of process %d: %w", id.Tgid, err)
	}
	return nil
}

// note puts the key of an entry into the queue of those that make room. A queue has room for all entries, unless somebody has
// filled it with others; then the entry is left out, as nobody would ever throw it out.
func note[K any](queue, entries *ebpf.Map, key K, leftOut *uint64) error {
	err := queue.Update(nil, &key, ebpf.UpdateAny)
	if !errors.Is(err, unix.E2BIG) {
		return err
	}
	if err := entries.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	atomic.AddUint64(leftOut, 1)
	return nil
}

// movePrograms moves the programs that processes have replaced; where there is not room for all, the last of them.
func (t *ProcessTable) movePrograms(from *group) error {
	programs, replaced := t.entries.maps[processTableMapPrograms], t.entries.maps[processTableMapReplaced]
	order, err := drain[processTableKpProgramId](from.maps[processTableMapReplaced])
	if err != nil {
		return err
	}
	var moved []processTableKpProgramId
	for _, id := range slices.Backward(order) {
		var program processTableKpProgram
		err := from.maps[processTableMapPrograms].Lookup(&id, &program)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		ok, err := insert(programs, id, program)
		if err != nil {
			return err
		}
		if ok {
			moved = append(moved, id)
		}
	}
	for _, id := range slices.Backward(moved) {
		if err := note(replaced, programs, id, &t.state().ProgramsLeftOut); err != nil {
			return fmt.Errorf("note a program of process %d: %w", id.Tgid, err)
		}
	}
	atomic.AddUint64(&t.state().ProgramsLeftOut, uint64(len(order)-len(moved)))
	return nil
}

func (t *ProcessTable) moveCgroups(from *group) error {
	type key = processTableKpCgroupId
	removed, err := drain[key](from.maps[processTableMapRemoved])
	if err != nil {
		return err
	}
	slices.Reverse(removed)
	entries := map[key]processTableKpCgroupEntry{}
	gone := map[key]bool{}
	for _, id := range removed {
		gone[id] = true
	}
	var order []key
	err = all(from.maps[processTableMapCgroups], func(id key, entry processTableKpCgroupEntry) error {
		entries[id] = entry
		if !gone[id] {
			order = append(order, id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	moved, movedRemoved := 0, []key{}
	for _, id := range append(order, removed...) {
		entry, ok := entries[id]
		if !ok {
			continue
		}
		if ok, err = insert(t.entries.maps[processTableMapCgroups], id, entry); err != nil {
			return err
		}
		if ok {
			moved++
			if gone[id] {
				movedRemoved = append(movedRemoved, id)
			}
		}
	}
	for _, id := range slices.Backward(movedRemoved) {
		if err := note(t.entries.maps[processTableMapRemoved], t.entries.maps[processTableMapCgroups], id, &t.state().CgroupsLeftOut); err != nil {
			return fmt.Errorf("note the removal of cgroup %d: %w", id.Id, err)
		}
	}
	atomic.AddUint64(&t.state().CgroupsLeftOut, uint64(len(entries)-moved))
	return nil
}

// insert reports whether there was room, and no such key.
func insert[K, V any](m *ebpf.Map, key K, value V) (bool, error) {
	switch err := m.Update(&key, &value, ebpf.UpdateNoExist); {
	case err == nil:
		return true, nil
	case errors.Is(err, ebpf.ErrKeyExist), errors.Is(err, unix.E2BIG):
		return false, nil
	default:
		return false, err
	}
}

// drain empties a queue.
func drain[V any](queue *ebpf.Map) ([]V, error) {
	var values []V
	for {
		var value V
		switch err := queue.LookupAndDelete(nil, &value); {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return values, nil
		case err != nil:
			return nil, fmt.Errorf("read queue: %w", err)
		}
		values = append(values, value)
	}
}

// all shows every entry of a hash map that is there from beginning to end.
func all[K comparable, V any](m *ebpf.Map, visit func(K, V) error) error {
	const chunk = 1024
	keys, values := make([]K, chunk), make([]V, chunk)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		for i := range n {
			if err := visit(keys[i], values[i]); err != nil {
				return err
			}
		}
		if err != nil { // that was the last of them
			return nil
		}
	}
}

// countLiving puts the processes in that run and are missing, renews what the table has of the others if it was not kept, and
// notes the end of those that run no more: nobody saw it.
func (t *ProcessTable) countLiving() error {
	type key = processTableKpProcessId
	state := t.state()
	state.Living = state.Living%255 + 1
	if err := t.iterate(); err != nil {
		return err
	}
	now := boottime.Now()
	processes := t.entries.maps[processTableMapProcesses]
	return all(processes, func(id key, entry processTableKpProcessEntry) error {
		if entry.Id != id || entry.ExitNs != 0 || uint16(entry.Seen) == state.Living { // being made, noted before, or alive
			return nil
		}
		entry.ExitNs = now
		switch err := processes.Update(&id, &entry, ebpf.UpdateExist); {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("note the end of process %d: %w", id.Tgid, err)
		}
		return t.pushEnded(id)
	})
}

// countCgroups notes as removed the cgroups in which no process is: which of them are gone nobody saw, and an empty one tells
// least. What is noted can still be asked for, until it makes room.
func (t *ProcessTable) countCgroups() error {
	type key = processTableKpCgroupId
	cgroups := t.entries.maps[processTableMapCgroups]
	return all(cgroups, func(id key, entry processTableKpCgroupEntry) error {
		if entry.Id != id || entry.Gone != 0 || uint16(entry.Seen) == t.state().Living {
			return nil
		}
		err := t.entries.maps[processTableMapRemoved].Update(nil, &id, ebpf.UpdateAny)
		if errors.Is(err, unix.E2BIG) { // there is enough that can make room
			return nil
		}
		if err == nil {
			entry.Gone = 1
			err = cgroups.Update(&id, &entry, ebpf.UpdateExist)
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("note the removal of cgroup %d: %w", id.Id, err)
		}
		return nil
	})
}
