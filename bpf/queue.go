//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"
)

// Limits of a queue; KP_BATCH and KP_MAX_LANES.
const (
	MaxBatch = 1024 // elements that one run moves at most
	MaxLanes = 16
)

const queueFormat = 2 // KP_QUEUE_FORMAT

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
// and one at a time pop from each lane; Claim keeps other processes from popping.
type Queue struct {
	config     QueueConfig
	generation uint64
	group      *group // of this generation: the lanes and what is in flight
	state      *queueState
	programs   *ebpf.Collection
	outgoing   memory // where it is pushed to
	inFlight   memory
	mended     []error // what was missing when it was opened, and was made anew
	slabMade   bool    // … the memory of what is in flight among it
}

// Config returns the queue's shape; its capacity is rounded up to a multiple of the lanes.
func (q *Queue) Config() QueueConfig { return q.config }

// Outgoing returns the memory of entry i, 0 ≤ i < MaxBatch, for the next Push to take the element from.
func (q *Queue) Outgoing(i int) []byte {
	stride := 8 + q.config.ElementSize
	return q.outgoing.bytes[i*stride+8 : (i+1)*stride : (i+1)*stride]
}

// SetVerdict says what becomes of entry i.
func (q *Queue) SetVerdict(i int, verdict Verdict) { q.SetLane(i, verdict, 0) }

// SetLane sends entry i to a lane. Where limit or more elements wait there it is dropped, and counted as
// DroppedOverLimit; 0: only where onFull of the Push says so. What waits in an older queue counts too.
func (q *Queue) SetLane(i int, lane Verdict, limit uint32) {
	*as[[2]uint32](memory{q.outgoing.bytes[i*(8+q.config.ElementSize):]}) = [2]uint32{uint32(lane), limit}
}

// Settled returns how many of the n elements from number sequence of a source were settled by an earlier
// push. source 0 is none, and then the answer is 0. The error wraps ErrSources where there is no room for the source.
func (q *Queue) Settled(source, sequence uint64, n int) (int, error) {
	slot, err := q.state.sources.slot(source)
	if err != nil {
		return 0, err
	}
	return q.state.sources.settled(slot, sequence, n), nil
}

// Sources returns how many sources the queue has been pushed to by, those that are gone among them until room is needed.
func (q *Queue) Sources() int { return q.state.sources.inUse() }

// Push settles the entries [first, end) of Outgoing in order, in one program run, and notes how far the
// source has been settled; entry 0 is number sequence of it. It returns the first entry that is not settled:
// end, or less when a lane is full and onFull is Block. Its error wraps ErrSources where there is no room for the source, and
// then nothing is settled.
func (q *Queue) Push(first, end int, source, sequence uint64, onFull OnFull) (int, error) {
	slot, err := q.state.sources.slot(source)
	if err != nil {
		return first, err
	}
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
// returns those; after a restart they may be what an earlier process popped and did not acknowledge. It fails with a
// DamageError where more is in flight than can be.
func (q *Queue) Pop(lane, max int) (InFlight, error) {
	books := q.state.books()
	if err := q.state.checkInFlight(lane); err != nil {
		return InFlight{}, err
	}
	n, err := run(q.programs.Programs[queueProgPop], uint64(lane), uint64(max), q.generation)
	if err != nil {
		return InFlight{}, err
	}
	if err := q.state.checkInFlight(lane); err != nil {
		return InFlight{}, err
	}
	n = min(n, MaxBatch) // whatever somebody writes into the books in this moment
	start := lane * MaxBatch * q.config.ElementSize
	return InFlight{
		Data:     q.inFlight.bytes[start : start+n*q.config.ElementSize],
		Source:   books.Id + uint64(lane),
		Sequence: books.Lane[lane].Popped - uint64(n),
	}, nil
}

// Pending reports whether elements of a lane are in flight.
func (q *Queue) Pending(lane int) bool {
	books := &q.state.books().Lane[lane]
	return atomic.LoadUint64(&books.InFlight) > 0 && atomic.LoadUint64(&books.Generation) == q.generation
}

// Oldest returns a copy of the element that has waited longest in a lane, one in flight before all others; nil
// where the lane is empty. The lane stays as it is.
func (q *Queue) Oldest(lane int) ([]byte, error) {
	if q.Pending(lane) {
		start := lane * MaxBatch * q.config.ElementSize
		return append([]byte(nil), q.inFlight.bytes[start:start+q.config.ElementSize]...), nil
	}
	return q.peek(lane)
}

// peek returns a copy of the element that has waited longest in a lane, nil where none waits.
func (q *Queue) peek(lane int) ([]byte, error) {
	element := make([]byte, q.config.ElementSize)
	switch err := q.group.maps[laneName(lane)].Lookup(nil, element); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("peek into lane %d: %w", lane, err)
	}
	return element, nil
}

// Empty reports whether nothing waits in this queue and nothing is in flight. Books don't say it: they are of
// older queues too.
func (q *Queue) Empty() (bool, error) {
	empty, damaged, err := q.emptyButForDamage()
	return empty && !damaged, err
}

// emptyButForDamage is Empty without the lanes that stand still, and reports whether there are any.
func (q *Queue) emptyButForDamage() (empty, damaged bool, err error) {
	for lane := range q.config.Lanes {
		if q.CheckLane(lane) != nil {
			damaged = true
		} else if oldest, err := q.Oldest(lane); err != nil || oldest != nil {
			return false, damaged, err
		}
	}
	return true, damaged, nil
}

// Claim makes sure that no other process pops from this queue, all generations of it, until Close. It fails with
// an error that wraps ErrClaimed where one does. A dead process's claim is gone with it.
func (q *Queue) Claim() error { return q.state.lock() }

// Disclaim ends a Claim.
func (q *Queue) Disclaim() { q.state.unlock() }

// Ack says that what is in flight in a lane has been delivered. One store does it, so it happens or it does not.
func (q *Queue) Ack(lane int) { atomic.StoreUint64(&q.state.books().Lane[lane].InFlight, 0) }

// QueueBooks is the account of a queue, over its whole life, all generations and processes:
// Received = Filtered + DeadLettered + DroppedNewest + DroppedOldest + DroppedOverLimit + Delivered + Queued + InFlight + Lost.
type QueueBooks struct {
	Received, Filtered, DeadLettered, Delivered, Queued, InFlight uint64
	DroppedNewest, DroppedOldest, DroppedOverLimit                uint64
	// Lost elements waited or were in flight where somebody has removed the pins.
	Lost uint64
	// Redelivered elements came a second time, were recognised, and are in Received once.
	Redelivered uint64
}

// Books returns the account. It balances exactly when nobody pushes or pops at the moment.
func (q *Queue) Books() QueueBooks { return q.state.account() }

func (s *queueState) account() QueueBooks {
	books := s.books()
	total := QueueBooks{
		Received:     atomic.LoadUint64(&books.Received),
		Filtered:     atomic.LoadUint64(&books.Filtered),
		DeadLettered: atomic.LoadUint64(&books.DeadLettered),
		Redelivered:  atomic.LoadUint64(&books.Redelivered),
	}
	for i := range books.Lane {
		lane := s.lane(i)
		total.DroppedNewest += lane.DroppedNewest
		total.DroppedOldest += lane.DroppedOldest
		total.DroppedOverLimit += lane.DroppedOverLimit
		total.InFlight += lane.InFlight
		total.Delivered += lane.Delivered
		total.Queued += lane.Queued
		total.Lost += lane.Lost
	}
	return total
}

// LaneBooks returns the part of the account that is kept by lane: all but Received, Filtered, DeadLettered and
// Redelivered.
func (q *Queue) LaneBooks(lane int) QueueBooks { return q.state.lane(lane) }

func (s *queueState) lane(i int) QueueBooks {
	lane := &s.books().Lane[i]
	for {
		popped, inFlight, dropped := atomic.LoadUint64(&lane.Popped), atomic.LoadUint64(&lane.InFlight), atomic.LoadUint64(&lane.DroppedOldest)
		lostQueued, lostInFlight := atomic.LoadUint64(&lane.LostQueued), atomic.LoadUint64(&lane.LostInFlight)
		books := QueueBooks{
			DroppedNewest:    atomic.LoadUint64(&lane.DroppedNewest),
			DroppedOldest:    dropped,
			DroppedOverLimit: atomic.LoadUint64(&lane.DroppedOverLimit),
			InFlight:         inFlight,
			Delivered:        beyond(popped, inFlight, lostInFlight),
			Queued:           beyond(atomic.LoadUint64(&lane.Pushed), popped, dropped, lostQueued), // others count a moment after they push
			Lost:             lostQueued + lostInFlight,
		}
		// A program may have run in between; then these numbers are of different moments.
		if popped == atomic.LoadUint64(&lane.Popped) && dropped == atomic.LoadUint64(&lane.DroppedOldest) {
			return books
		}
	}
}

// beyond returns what of n is left after each of these, and never less than 0.
func beyond(n uint64, taken ...uint64) uint64 {
	for _, t := range taken {
		n -= min(t, n)
	}
	return n
}

// Memory returns what the queue costs in kernel memory, in bytes.
func (q *Queue) Memory() uint64 {
	maps := []*ebpf.Map{q.state.group.maps[queueMapBooks], q.state.group.maps[queueMapLanes], q.programs.Maps[queueMapOutgoing], q.programs.Maps[queueMapDiscarded]}
	for _, m := range q.group.maps {
		maps = append(maps, m)
	}
	return memoryOf(maps...)
}

// Remove unpins a queue that has been drained. Its books stay: they are the next one's too.
func (q *Queue) Remove() error { return q.group.remove() }

// Abandon removes what OpenQueue has pinned, for a start that fails: the queue, if it is empty, and its books, if nothing was ever
// pushed. What an earlier process left stays. Nobody may push or pop any more.
func (q *Queue) Abandon() error {
	if empty, err := q.Empty(); err != nil || !empty {
		return err
	}
	err := q.group.abandon()
	if q.state.account() == (QueueBooks{}) {
		err = errors.Join(err, q.state.group.abandon())
	}
	return err
}

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
