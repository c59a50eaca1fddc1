//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Limits of a queue; KP_BATCH and KP_MAX_LANES.
const (
	MaxBatch = 1024 // elements that one run moves at most
	MaxLanes = 16
)

const queueFormat = 1 // KP_QUEUE_FORMAT

// OnFull says what a push does when the lane is full; enum kp_on_full.
type OnFull uint32

// What a push can do when the lane is full.
const (
	Block OnFull = iota
	DropNewest
	DropOldest
)

// Verdict says what becomes of an entry that is pushed: a lane's number, or one of these; enum kp_verdict.
type Verdict uint32

// The verdicts that push to no lane.
const (
	Filtered     Verdict = 0x100
	DeadLettered Verdict = 0x101
	skipped      Verdict = 0x102
)

// QueueConfig is the shape of a queue.
type QueueConfig struct {
	ElementSize int // bytes
	Capacity    int // elements in all lanes together
	Lanes       int
}

// Queue is a bounded queue of fixed-size elements in the kernel, with one or more lanes. Batches move in
// and out by one BPF program run each, in which the books are kept as well. One goroutine at a time may push,
// and one at a time pop from each lane.
type Queue struct {
	config   QueueConfig
	group    *group // of this generation: the lanes and what is in flight
	state    *queueState
	programs *ebpf.Collection
	outgoing memory
	inFlight memory
}

// queueState is what all generations of a queue share: the books.
type queueState struct {
	group   *group
	memory  memory
	sources sources
	users   int
}

func (s *queueState) books() *queueKpBooks { return as[queueKpBooks](s.memory) }

func (s *queueState) release() {
	if s.users--; s.users == 0 {
		s.memory.unmap()
		s.group.Close()
	}
}

// OpenQueue opens the queue called name in dir. Queues of another capacity or number of lanes that an
// earlier process pinned under that name are returned as older, oldest first: they are to be drained by Pop,
// before the queue itself, and then removed.
func OpenQueue(dir *Directory, name string, config QueueConfig) (queue *Queue, older []*Queue, err error) {
	if err := config.validate(); err != nil {
		return nil, nil, fmt.Errorf("queue %s: %w", name, err)
	}
	config.Capacity = config.laneCapacity() * config.Lanes
	state, err := openQueueState(dir.join(name+"-books"), config.ElementSize)
	if err != nil {
		return nil, nil, err
	}
	defer state.release()
	defer func() {
		if err != nil {
			for _, q := range older {
				q.Close()
			}
		}
	}()
	numbers, err := dir.numbered(name)
	if err != nil {
		return nil, nil, err
	}
	next := 0
	for _, n := range numbers {
		path := dir.join(fmt.Sprintf("%s-%d", name, n))
		shape, err := shapeOf(path)
		if err != nil {
			return nil, older, err
		}
		q, err := openQueue(path, state, shape)
		if err != nil {
			return nil, older, err
		}
		older = append(older, q)
		next = n + 1
	}
	if last := len(older) - 1; last >= 0 && older[last].config == config {
		return older[last], older[:last], nil
	}
	queue, err = openQueue(dir.join(fmt.Sprintf("%s-%d", name, next)), state, config)
	return queue, older, err
}

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
	memory := uint64(info.Totalram) * uint64(info.Unit)
	if need := uint64(c.Capacity) * uint64(c.ElementSize); need > memory/2 {
		return fmt.Errorf("capacity %d needs %d MiB of kernel memory, more than half of the %d MiB that this machine has: lower the capacity",
			c.Capacity, need>>20, memory>>20)
	}
	return nil
}

// laneCapacity is rounded up, so that no capacity asked for is missing.
func (c QueueConfig) laneCapacity() int { return (c.Capacity + c.Lanes - 1) / c.Lanes }

func openQueueState(path string, elementSize int) (*queueState, error) {
	spec, err := loadQueue()
	if err != nil {
		return nil, err
	}
	group, err := openGroup(path, map[string]*ebpf.MapSpec{queueMapBooks: spec.Maps[queueMapBooks]}, func(maps map[string]*ebpf.Map) error {
		books := queueKpBooks{Id: newID(), Format: queueFormat, ElementSize: uint32(elementSize)}
		return maps[queueMapBooks].Put(uint32(0), &books)
	})
	if err != nil {
		return nil, err
	}
	memory, err := mapMemory(group.maps[queueMapBooks])
	if err != nil {
		group.Close()
		return nil, err
	}
	state := &queueState{group: group, memory: memory, users: 1}
	state.sources = newSources(state.books().Source[:])
	if books := state.books(); books.Id == 0 || books.Format != queueFormat || books.ElementSize != uint32(elementSize) {
		err := &ShapeError{Path: path + "/" + queueMapBooks, Err: fmt.Errorf("format %d with elements of %d bytes, this version has format %d with %d",
			books.Format, books.ElementSize, queueFormat, elementSize)}
		state.release()
		return nil, err
	}
	return state, nil
}

func laneName(i int) string { return fmt.Sprintf("lane_%d", i) }

// shapeOf reads the shape of a pinned queue off its maps.
func shapeOf(path string) (QueueConfig, error) {
	var config QueueConfig
	for ; config.Lanes < MaxLanes; config.Lanes++ {
		m, err := ebpf.LoadPinnedMap(path+"/"+laneName(config.Lanes), nil)
		if errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return config, &ShapeError{Path: path + "/" + laneName(config.Lanes), Err: err}
		}
		config.ElementSize = int(m.ValueSize())
		config.Capacity += int(m.MaxEntries())
		_ = m.Close()
	}
	if config.Lanes == 0 {
		return config, &ShapeError{Path: path + "/" + laneName(0), Err: errors.New("there is no such map")}
	}
	return config, nil
}

func openQueue(path string, state *queueState, config QueueConfig) (_ *Queue, err error) {
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
	spec.Maps[queueMapOutgoing].ValueSize = uint32(8 + config.ElementSize)
	spec.Maps[queueMapDiscarded].ValueSize = uint32(config.ElementSize)

	pinned := map[string]*ebpf.MapSpec{queueMapInFlight: inFlight}
	for i := range config.Lanes {
		pinned[laneName(i)] = lane.Copy()
	}
	q := &Queue{config: config, state: state}
	state.users++
	defer func() {
		if err != nil {
			q.Close()
		}
	}()
	if q.group, err = openGroup(path, pinned, nil); err != nil {
		return nil, err
	}
	for i := range config.Lanes {
		outer := spec.Maps[queueMapLanes]
		outer.Contents = append(outer.Contents, ebpf.MapKV{Key: uint32(i), Value: q.group.maps[laneName(i)]})
	}
	q.programs, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		queueMapInFlight: q.group.maps[queueMapInFlight],
		queueMapBooks:    state.group.maps[queueMapBooks],
	}})
	if err != nil {
		return nil, fmt.Errorf("load queue programs: %w", err)
	}
	if q.outgoing, err = mapMemory(q.programs.Maps[queueMapOutgoing]); err != nil {
		return nil, err
	}
	if q.inFlight, err = mapMemory(q.group.maps[queueMapInFlight]); err != nil {
		return nil, err
	}
	return q, nil
}

// Config returns the queue's shape; its capacity is rounded up to a multiple of the lanes.
func (q *Queue) Config() QueueConfig { return q.config }

// Outgoing returns the memory of entry i, 0 ≤ i < MaxBatch, for the next Push to take the element from.
func (q *Queue) Outgoing(i int) []byte {
	stride := 8 + q.config.ElementSize
	return q.outgoing.bytes[i*stride+8 : (i+1)*stride : (i+1)*stride]
}

// SetVerdict says what becomes of entry i.
func (q *Queue) SetVerdict(i int, verdict Verdict) {
	*as[Verdict](memory{q.outgoing.bytes[i*(8+q.config.ElementSize):]}) = verdict
}

// Settled returns how many of the n elements from number sequence of a source were settled by an earlier
// push. source 0 is none, and then the answer is 0.
func (q *Queue) Settled(source, sequence uint64, n int) int {
	return q.state.sources.settled(q.state.sources.slot(source), sequence, n)
}

// Push settles the entries [first, end) of Outgoing in order, in one program run, and notes how far the
// source has been settled; entry 0 is number sequence of it. It returns the first entry that is not settled:
// end, or less when a lane is full and onFull is Block.
func (q *Queue) Push(first, end int, source, sequence uint64, onFull OnFull) (int, error) {
	slot := q.state.sources.slot(source)
	return run(q.programs.Programs[queueProgPush], uint64(first), uint64(end), uint64(slot), sequence, uint64(onFull))
}

// Skip marks entry i as settled before, so that a push that covers it counts it nowhere.
func (q *Queue) Skip(i int) { q.SetVerdict(i, skipped) }

// InFlight is a batch that was popped and is not yet acknowledged.
type InFlight struct {
	// Data holds the packed elements, in kernel memory: valid until Ack.
	Data []byte
	// Source and Sequence tell the next stage which elements these are.
	Source, Sequence uint64
}

// Pop moves up to max elements, at most MaxBatch, of a lane into flight and returns them. If there are elements in flight it
// returns those; after a restart they may be what an earlier process popped and did not acknowledge.
func (q *Queue) Pop(lane, max int) (InFlight, error) {
	n, err := run(q.programs.Programs[queueProgPop], uint64(lane), uint64(max))
	if err != nil {
		return InFlight{}, err
	}
	start := lane * MaxBatch * q.config.ElementSize
	books := q.state.books()
	return InFlight{
		Data:     q.inFlight.bytes[start : start+n*q.config.ElementSize],
		Source:   books.Id + uint64(lane),
		Sequence: books.Lane[lane].Popped - uint64(n),
	}, nil
}

// Pending reports whether elements of a lane are in flight.
func (q *Queue) Pending(lane int) bool {
	return atomic.LoadUint64(&q.state.books().Lane[lane].InFlight) > 0
}

// Ack says that what is in flight in a lane has been delivered. One store does it, so it happens or it does not.
func (q *Queue) Ack(lane int) { atomic.StoreUint64(&q.state.books().Lane[lane].InFlight, 0) }

// QueueBooks is the account of a queue, over its whole life, all generations and processes:
// Received = Filtered + DeadLettered + DroppedNewest + DroppedOldest + Delivered + Queued + InFlight.
type QueueBooks struct {
	Received, Filtered, DeadLettered, DroppedNewest, DroppedOldest, Delivered, Queued, InFlight uint64
	// Redelivered elements came a second time, were recognised, and are in Received once.
	Redelivered uint64
}

// Books returns the account. It balances exactly when nobody pushes or pops at the moment.
func (q *Queue) Books() QueueBooks {
	books := q.state.books()
	total := QueueBooks{
		Received:     atomic.LoadUint64(&books.Received),
		Filtered:     atomic.LoadUint64(&books.Filtered),
		DeadLettered: atomic.LoadUint64(&books.DeadLettered),
		Redelivered:  atomic.LoadUint64(&books.Redelivered),
	}
	for i := range books.Lane {
		lane := &books.Lane[i]
		inFlight, popped := atomic.LoadUint64(&lane.InFlight), atomic.LoadUint64(&lane.Popped)
		dropped := atomic.LoadUint64(&lane.DroppedOldest)
		total.DroppedNewest += atomic.LoadUint64(&lane.DroppedNewest)
		total.DroppedOldest += dropped
		total.InFlight += inFlight
		total.Delivered += popped - inFlight
		total.Queued += atomic.LoadUint64(&lane.Pushed) - popped - dropped
	}
	return total
}

// Memory returns what the queue costs in kernel memory, in bytes.
func (q *Queue) Memory() uint64 {
	maps := []*ebpf.Map{q.state.group.maps[queueMapBooks], q.programs.Maps[queueMapOutgoing], q.programs.Maps[queueMapDiscarded]}
	for _, m := range q.group.maps {
		maps = append(maps, m)
	}
	return memoryOf(maps...)
}

// Remove unpins a queue that has been drained. Its books stay: they are the next one's too.
func (q *Queue) Remove() error { return q.group.remove() }

// Close lets go of the queue. If it is pinned it lives on with all that it holds.
func (q *Queue) Close() {
	q.outgoing.unmap()
	q.inFlight.unmap()
	if q.programs != nil {
		q.programs.Close()
	}
	if q.group != nil {
		q.group.Close()
	}
	q.state.release()
}
