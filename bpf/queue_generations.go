//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ErrClaimed says that another process takes elements out of a queue.
var ErrClaimed = errors.New("another running process takes events out of it")

// queueState is what all generations of a queue share: the books, and which lanes others push to.
type queueState struct {
	group   *group
	memory  memory
	sources *sources
	claimed bool
	users   int
}

func (s *queueState) books() *queueKpBooks { return as[queueKpBooks](s.memory) }

func (s *queueState) release() {
	if s.users--; s.users == 0 {
		s.unlock()
		s.memory.unmap()
		s.group.Close()
	}
}

func (s *queueState) lock() error {
	if !s.group.pinned() || s.claimed {
		return nil
	}
	if err := claim(s.group.dir); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%s: %w: stop it first", s.group.path(), ErrClaimed)
		}
		return fmt.Errorf("lock %s: %w", s.group.path(), err)
	}
	s.claimed = true
	there, err := s.group.isPinned()
	if err == nil && !there {
		err = fmt.Errorf("%s was removed: %w", s.group.path(), fs.ErrNotExist)
	}
	if err != nil {
		s.unlock()
	}
	return err
}

func (s *queueState) unlock() {
	if s.claimed {
		_ = unix.Flock(s.group.dir.fd(), unix.LOCK_UN) // it can't fail
		s.claimed = false
	}
}

// OpenQueue opens the queue called name in dir. Queues of another capacity or number of lanes that an
// earlier process pinned under that name are returned as older, oldest first: they are to be drained by Pop,
// before the queue itself, and then removed.
func OpenQueue(dir *Directory, name string, config QueueConfig) (queue *Queue, older []*Queue, err error) {
	if err := config.validate(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	config.Capacity = config.laneCapacity() * config.Lanes
	state, err := openQueueState(dir.join(booksName(name)), config.ElementSize)
	if err != nil {
		return nil, nil, err
	}
	defer state.release()
	defer func() {
		if err != nil {
			for _, q := range older {
				q.Close()
			}
			older = nil
			err = errors.Join(err, state.group.abandon())
		}
	}()
	numbers, err := dir.numbered(name)
	if err != nil {
		return nil, nil, err
	}
	var current, next int
	var damage []error
	for _, n := range numbers {
		next = n + 1
		q, err := adoptQueue(dir.join(generationName(name, n)), state, n, true)
		if errors.Is(err, fs.ErrNotExist) { // whoever drained it has removed it just now
			continue
		}
		if errors.As(err, new(*DamageError)) {
			damage = append(damage, err)
			continue
		}
		if err != nil {
			return nil, older, err
		}
		older, current = append(older, q), n
		damage = append(damage, q.mended...)
	}
	next = max(next, state.afterGenerations())
	if last := len(older) - 1; last >= 0 && older[last].config == config && current == next-1 {
		queue, older = older[last], older[:last]
	} else if queue, err = openQueue(dir.join(generationName(name, next)), state, next, config, openGroup, true); err != nil {
		return nil, older, err
	}
	queue.mended = damage
	if err := queue.offer(); err != nil {
		err = errors.Join(err, queue.group.abandon())
		queue.Close()
		return nil, older, err
	}
	return queue, older, nil
}

func booksName(name string) string { return name + "-books" }

func generationName(name string, n int) string { return fmt.Sprintf("%s-%d", name, n) }

func laneName(i int) string { return fmt.Sprintf("lane_%d", i) }

// validate also compares with the memory there is: a queue is allocated whole when it is made.
func (c QueueConfig) validate() error {
	switch {
	case c.ElementSize <= 0 || c.ElementSize%8 != 0:
		return fmt.Errorf("element size %d is not a positive multiple of 8", c.ElementSize)
	case c.Lanes < 1 || c.Lanes > MaxLanes:
		return fmt.Errorf("lanes is %d, must be 1 to %d", c.Lanes, MaxLanes)
	case c.Capacity < c.Lanes:
		return fmt.Errorf("capacity is %d, must be at least 1 for each of the %d lanes", c.Capacity, c.Lanes)
	case c.laneCapacity() > math.MaxUint32-1:
		return fmt.Errorf("capacity is %d, must be at most %d for each lane", c.Capacity, uint32(math.MaxUint32-1))
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return fmt.Errorf("sysinfo: %w", err)
	}
	memory := uint64(info.Totalram) * uint64(info.Unit) //nolint:unconvert // Totalram has 32 bits on some architectures
	if need := uint64(c.Capacity) * uint64(c.ElementSize); need > memory/2 {
		return fmt.Errorf("capacity %d needs %d MiB of kernel memory, more than half of the %d MiB that this machine has: lower the capacity",
			c.Capacity, need>>20, memory>>20)
	}
	return nil
}

// laneCapacity is rounded up, so that no capacity asked for is missing.
func (c QueueConfig) laneCapacity() int { return (c.Capacity + c.Lanes - 1) / c.Lanes }

func openQueueState(at place, elementSize int) (*queueState, error) {
	specs, err := stateSpecs(elementSize)
	if err != nil {
		return nil, err
	}
	group, err := openGroup(at, specs, func(maps map[string]*ebpf.Map) error {
		id, err := newSourceID(maps[queueMapBooks])
		if err != nil {
			return err
		}
		books := queueKpBooks{Id: id, Format: queueFormat, ElementSize: uint32(elementSize)}
		return maps[queueMapBooks].Put(uint32(0), &books)
	})
	if err != nil {
		return nil, err
	}
	return newQueueState(group, elementSize)
}

// stateSpecs are the maps of a queueState.
func stateSpecs(elementSize int) (map[string]*ebpf.MapSpec, error) {
	spec, err := loadQueue()
	if err != nil {
		return nil, err
	}
	lanes := spec.Maps[queueMapLanes]
	lanes.InnerMap.ValueSize = uint32(elementSize)
	return map[string]*ebpf.MapSpec{queueMapBooks: spec.Maps[queueMapBooks], queueMapLanes: lanes}, nil
}

// newQueueState takes over the group. elementSize 0 accepts any.
func newQueueState(group *group, elementSize int) (*queueState, error) {
	memory, err := mapMemory(group.maps[queueMapBooks])
	if err != nil {
		group.Close()
		return nil, err
	}
	state := &queueState{group: group, memory: memory, users: 1}
	books := state.books()
	if elementSize == 0 {
		elementSize = int(books.ElementSize)
	}
	if books.Id == 0 || books.Format != queueFormat || books.ElementSize != uint32(elementSize) {
		err := shapeError(group.place, queueMapBooks, fmt.Errorf("format %d with elements of %d bytes, this version has format %d with %d",
			books.Format, books.ElementSize, queueFormat, elementSize))
		state.release()
		return nil, err
	}
	if books.Id&0xff != 0 { // for the lanes
		err := damaged(group.place, queueMapBooks, fmt.Errorf("its id is %#x", books.Id))
		state.release()
		return nil, err
	}
	state.sources = newSources(books.Source[:])
	return state, nil
}

// shapeOf reads the shape of a pinned queue off its maps.
func shapeOf(at place) (QueueConfig, error) {
	var config QueueConfig
	pins, err := at.open()
	if err != nil {
		return config, fmt.Errorf("pinned queue: %w", err)
	}
	defer func() { _ = pins.close() }() // it was only read
	for ; config.Lanes < MaxLanes; config.Lanes++ {
		m, err := loadPin(pins, laneName(config.Lanes), ebpf.LoadPinnedMap)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return config, shapeError(at, laneName(config.Lanes), err)
		}
		config.ElementSize = int(m.ValueSize())
		config.Capacity += int(m.MaxEntries())
		_ = m.Close()
	}
	if config.Lanes == 0 {
		return config, shapeError(at, laneName(0), errors.New("there is no such map"))
	}
	return config, nil
}

// adoptQueue opens a generation that is pinned. Where it is gone the error wraps fs.ErrNotExist.
func adoptQueue(at place, state *queueState, generation int, pushing bool) (*Queue, error) {
	q, err := openPinnedQueue(at, state, generation, pushing)
	if err == nil {
		return q, nil
	}
	if there, unknown := at.exists(); unknown != nil || !there { // whoever drained it has removed it meanwhile
		return nil, errors.Join(unknown, fmt.Errorf("pinned queue %s: %w", at.path(), fs.ErrNotExist))
	}
	return nil, err
}

func openPinnedQueue(at place, state *queueState, generation int, pushing bool) (*Queue, error) {
	mended, slabMade, err := mend(at, state)
	if err != nil {
		return nil, err
	}
	shape, err := shapeOf(at)
	if err != nil {
		return nil, err
	}
	if size := state.books().ElementSize; shape.ElementSize != int(size) {
		return nil, shapeError(at, laneName(0), fmt.Errorf("elements of %d bytes, its books say %d", shape.ElementSize, size))
	}
	adopt := func(at place, specs map[string]*ebpf.MapSpec, _ func(map[string]*ebpf.Map) error) (*group, error) {
		return adoptGroup(at, specs)
	}
	q, err := openQueue(at, state, generation, shape, adopt, pushing)
	if err == nil {
		q.mended, q.slabMade = mended, slabMade
	}
	return q, err
}

type openFunc func(place, map[string]*ebpf.MapSpec, func(map[string]*ebpf.Map) error) (*group, error)

func openQueue(at place, state *queueState, generation int, config QueueConfig, open openFunc, pushing bool) (_ *Queue, err error) {
	spec, err := loadQueue()
	if err != nil {
		return nil, err
	}
	lane := spec.Maps[queueMapLanes].InnerMap
	lane.Name = "kp_lane"
	lane.ValueSize = uint32(config.ElementSize)
	lane.MaxEntries = uint32(config.laneCapacity())
	inFlight := spec.Maps[queueMapInFlight]
	inFlight.ValueSize = uint32(config.ElementSize)
	inFlight.MaxEntries = uint32(MaxBatch * config.Lanes)

	pinned := map[string]*ebpf.MapSpec{queueMapInFlight: inFlight}
	for i := range config.Lanes {
		pinned[laneName(i)] = lane.Copy()
	}
	q := &Queue{config: config, generation: uint64(generation), state: state}
	state.users++
	defer func() {
		if err != nil {
			if q.group != nil {
				err = errors.Join(err, q.group.abandon())
			}
			q.Close()
		}
	}()
	if q.group, err = open(at, pinned, nil); err != nil {
		return nil, err
	}
	for i := range config.Lanes {
		outer := spec.Maps[queueMapLanes]
		outer.Contents = append(outer.Contents, ebpf.MapKV{Key: uint32(i), Value: q.group.maps[laneName(i)]})
	}
	if pushing {
		spec.Maps[queueMapOutgoing].ValueSize = uint32(8 + config.ElementSize)
		spec.Maps[queueMapDiscarded].ValueSize = uint32(config.ElementSize)
	} else {
		delete(spec.Programs, queueProgPush)
		delete(spec.Maps, queueMapOutgoing)
		delete(spec.Maps, queueMapDiscarded)
	}
	q.programs, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		queueMapInFlight: q.group.maps[queueMapInFlight],
		queueMapBooks:    state.group.maps[queueMapBooks],
	}})
	if err != nil {
		return nil, fmt.Errorf("load queue programs: %w", err)
	}
	if pushing {
		if q.outgoing, err = mapMemory(q.programs.Maps[queueMapOutgoing]); err != nil {
			return nil, err
		}
	}
	if q.inFlight, err = mapMemory(q.group.maps[queueMapInFlight]); err != nil {
		return nil, err
	}
	return q, nil
}

// offer makes the lanes of this generation those that programs of others push to.
func (q *Queue) offer() error {
	if !q.group.pinned() {
		return nil
	}
	offered := q.state.group.maps[queueMapLanes]
	for i := range MaxLanes {
		id, err := offeredID(offered, i)
		if err != nil {
			return err
		}
		if i >= q.config.Lanes {
			if id != 0 {
				err = offered.Delete(uint32(i))
			}
		} else if own, is := q.group.maps[laneName(i)], uint32(0); true {
			if is, err = idOf(own); err == nil && is != id {
				err = offered.Put(uint32(i), own)
			}
		}
		if err != nil {
			return fmt.Errorf("offer lane %d to others: %w", i, err)
		}
	}
	atomic.StoreUint32(&q.state.books().Lanes, uint32(q.config.Lanes))
	return nil
}

// offered reports whether others may still push to a lane of this generation.
func (q *Queue) offered() (bool, error) {
	for i := range q.config.Lanes {
		id, err := offeredID(q.state.group.maps[queueMapLanes], i)
		if err != nil {
			return false, err
		}
		own, err := idOf(q.group.maps[laneName(i)])
		if err != nil || own == id {
			return true, err
		}
	}
	return false, nil
}

// offeredID returns the kernel's id of the map in slot i; 0: there is none.
func offeredID(offered *ebpf.Map, i int) (uint32, error) {
	var id uint32
	if err := offered.Lookup(uint32(i), &id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, fmt.Errorf("look up lane %d: %w", i, err)
	}
	return id, nil
}

func idOf(m *ebpf.Map) (uint32, error) {
	info, err := m.Info()
	if err != nil {
		return 0, err
	}
	id, ok := info.ID()
	if !ok {
		return 0, errors.New("the kernel tells no map ids")
	}
	return uint32(id), nil
}
