//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"github.com/cilium/ebpf"
)

// What is pinned may be incomplete or wrong: other processes of root can remove pins and write into maps. Here is what a
// queue makes of that. No number is used before it is checked, and what is gone is counted.

// checkInFlight fails where more of a lane is in flight than can be.
func (s *queueState) checkInFlight(lane int) error {
	books := &s.books().Lane[lane]
	inFlight, popped := atomic.LoadUint64(&books.InFlight), atomic.LoadUint64(&books.Popped)
	if inFlight <= min(popped, MaxBatch) {
		return nil
	}
	return damaged(s.group.place, queueMapBooks, fmt.Errorf("lane %d has %d events in flight of %d that were taken out, and %d at most can be: the lane stands still",
		lane, inFlight, popped, MaxBatch))
}

// CheckLane fails with a DamageError where more of a lane is in flight than can be: it stands still, whoever takes its elements out.
func (q *Queue) CheckLane(lane int) error { return q.state.checkInFlight(lane) }

// afterGenerations returns a number that no generation had whose elements are in flight still.
func (s *queueState) afterGenerations() int {
	next := 0
	for i := range s.books().Lane {
		lane := &s.books().Lane[i]
		if lane.InFlight > 0 && lane.Generation < maxNumber {
			next = max(next, int(lane.Generation)+1)
		}
	}
	return next
}

// Damage returns what was missing of this queue and the older ones when they were opened.
func (q *Queue) Damage() []error { return q.mended }

// Reconcile counts as lost what waited or was in flight in queues of this name whose pins somebody has removed. older is all
// that OpenQueue has returned, and the queue is claimed. It returns a DamageError that says how much that was; nil: nothing.
func (q *Queue) Reconcile(older []*Queue) error {
	return q.state.reconcile(append(older[:len(older):len(older)], q))
}

func (s *queueState) reconcile(all []*Queue) error {
	var queued, inFlight uint64
	for i := range s.books().Lane {
		lane := &s.books().Lane[i]
		n := atomic.LoadUint64(&lane.InFlight)
		if n > 0 && s.checkInFlight(i) == nil && !hasInFlight(all, i, lane.Generation) {
			atomic.AddUint64(&lane.LostInFlight, n)
			atomic.StoreUint64(&lane.InFlight, 0)
			inFlight += n
		}
		n = s.lane(i).Queued // before the look into the queues: what comes meanwhile is in them
		if n == 0 {
			continue
		}
		empty, err := allEmpty(all, i)
		if err != nil {
			return err
		}
		if empty {
			atomic.AddUint64(&lane.LostQueued, n)
			queued += n
		}
	}
	if queued+inFlight == 0 {
		return nil
	}
	return damaged(s.group.place, queueMapBooks, fmt.Errorf("of %d events that waited, and %d in flight, somebody has removed the pins: they are counted as lost",
		queued, inFlight))
}

// hasInFlight reports whether one of the queues has the memory of what a lane had in flight in a generation.
func hasInFlight(all []*Queue, lane int, generation uint64) bool {
	for _, q := range all {
		if q.generation == generation && lane < q.config.Lanes && !q.slabMade {
			return true
		}
	}
	return false
}

func allEmpty(all []*Queue, lane int) (bool, error) {
	for _, q := range all {
		if lane >= q.config.Lanes {
			continue
		}
		if waiting, err := q.peek(lane); err != nil || waiting != nil {
			return false, err
		}
	}
	return true, nil
}

// mend completes a generation of which pins are missing: with the lane that the kernel has still, as programs of others push
// to it, or else with an empty one. It returns what it has found missing. A generation without any pin is a DamageError.
func mend(at place, state *queueState) (missing []error, slabMade bool, err error) {
	pins, err := at.open()
	if err != nil {
		return nil, false, fmt.Errorf("pinned queue: %w", err)
	}
	defer func() { _ = pins.close() }() // it was only used to look and to pin
	var maps [MaxLanes]*ebpf.Map
	slab, err := loadIfThere(pins, queueMapInFlight)
	defer func() {
		for _, m := range append(maps[:], slab) {
			_ = m.Close() // a descriptor; nil has none
		}
	}()
	if err != nil {
		return nil, false, shapeError(at, queueMapInFlight, err)
	}
	lanes, some := 0, (*ebpf.Map)(nil)
	for i := range maps {
		if maps[i], err = loadIfThere(pins, laneName(i)); err != nil {
			return nil, false, shapeError(at, laneName(i), err)
		}
		if maps[i] != nil {
			lanes, some = i+1, maps[i]
		}
	}
	if slab != nil {
		lanes = int(slab.MaxEntries()) / MaxBatch
		if lanes < 1 || lanes > MaxLanes {
			return nil, false, shapeError(at, queueMapInFlight, fmt.Errorf("it has %d entries", slab.MaxEntries()))
		}
	}
	spec := ebpf.MapSpec{Name: "kp_lane", Type: ebpf.Queue} // without another lane its capacity is not known
	switch {
	case some != nil:
		spec.ValueSize, spec.MaxEntries = some.ValueSize(), some.MaxEntries()
	case slab != nil:
		spec.ValueSize = slab.ValueSize()
	default:
		return nil, false, damaged(at, "", errors.New("nothing is pinned in it"))
	}
	for i := range lanes {
		if maps[i] != nil {
			continue
		}
		what := "a lane without a pin, which the kernel had still"
		if maps[i] = state.offeredMap(i, &spec); maps[i] == nil {
			what = "a lane without a pin: what waited in it is gone"
			empty := spec
			empty.MaxEntries = max(spec.MaxEntries, 1)
			if maps[i], err = ebpf.NewMap(&empty); err != nil {
				return nil, false, fmt.Errorf("make lane %d anew: %w", i, err)
			}
		}
		if err := pins.pin(maps[i], laneName(i)); err != nil {
			return nil, false, err
		}
		missing = append(missing, damaged(at, laneName(i), errors.New(what)))
	}
	if slab != nil {
		return missing, false, nil
	}
	queue, err := loadQueue()
	if err != nil {
		return nil, false, err
	}
	made := queue.Maps[queueMapInFlight]
	made.ValueSize, made.MaxEntries = spec.ValueSize, uint32(lanes*MaxBatch)
	if slab, err = ebpf.NewMap(made); err != nil {
		return nil, false, fmt.Errorf("make %s anew: %w", queueMapInFlight, err)
	}
	if err := pins.pin(slab, queueMapInFlight); err != nil {
		return nil, false, err
	}
	return append(missing, damaged(at, queueMapInFlight, errors.New("its pin was removed: what was in flight is gone"))), true, nil
}

func loadIfThere(pins *pinDir, name string) (*ebpf.Map, error) {
	m, err := loadPin(pins, name, ebpf.LoadPinnedMap)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return m, err
}

// offeredMap returns the lane that programs of others push to, if it is of this shape; nil: there is none, or the process may
// not ask for it (CAP_SYS_ADMIN).
func (s *queueState) offeredMap(lane int, spec *ebpf.MapSpec) *ebpf.Map {
	id, err := offeredID(s.group.maps[queueMapLanes], lane)
	if err != nil || id == 0 {
		return nil
	}
	m, err := ebpf.NewMapFromID(ebpf.MapID(id))
	if err != nil {
		return nil
	}
	if m.Type() != spec.Type || m.ValueSize() != spec.ValueSize || spec.MaxEntries != 0 && m.MaxEntries() != spec.MaxEntries {
		_ = m.Close() // it is of another generation
		return nil
	}
	return m
}
