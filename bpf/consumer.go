//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
)

// ErrNoQueue says that there is no such queue, or not yet.
var ErrNoQueue = errors.New("there is no such queue")

// Consumer takes elements out of a pinned queue that belongs to another component, which may run or not. It
// makes nothing. There is one at a time, and one goroutine may use it.
type Consumer struct {
	owner Directory // the owner's, not locked
	name  string
	state *queueState
	queue *Queue // the oldest generation there is
}

// OpenConsumer claims the queue called name of a component below pinPath. The error wraps ErrNoQueue where it is
// not there, and ErrClaimed where another process takes its elements out.
func OpenConsumer(pinPath, component, name string) (_ *Consumer, err error) {
	if err := raiseMemoryLimit(); err != nil {
		return nil, err
	}
	c := &Consumer{name: name}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := c.openState(pinPath, component); err != nil {
		return nil, err
	}
	numbers, err := c.generations()
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%w: nothing is pinned at %s", ErrNoQueue, c.owner.join(name+"-*").path())
	}
	c.queue, err = c.adopt(numbers[0])
	return c, err
}

// Reconcile is Queue.Reconcile. Where there is more than one queue it does nothing: once Follow has come to the last one it does.
func (c *Consumer) Reconcile() error {
	numbers, err := c.generations()
	if err != nil || len(numbers) > 1 {
		return err // what is in the later ones is not known yet
	}
	return c.state.reconcile([]*Queue{c.queue})
}

// Damage is Queue.Damage, of the queue that elements are taken out of: after Follow it is another one.
func (c *Consumer) Damage() []error { return c.queue.Damage() }

// openState opens the queue's books and claims it.
func (c *Consumer) openState(pinPath, component string) error {
	parent, err := openPinPath(pinPath, false)
	if err != nil {
		return noQueue(err)
	}
	defer func() { _ = parent.close() }() // it was only read
	if c.owner.dir, err = parent.dir(fileName(component)); err != nil {
		return noQueue(err)
	}
	specs, err := stateSpecs(0)
	if err != nil {
		return err
	}
	group, err := adoptGroup(c.owner.join(booksName(c.name)), specs)
	if err != nil {
		return noQueue(err)
	}
	if c.state, err = newQueueState(group, 0); err != nil {
		return err
	}
	return noQueue(c.state.lock())
}

// noQueue tells the error of what is not there.
func noQueue(err error) error {
	if shape := (*ShapeError)(nil); errors.Is(err, fs.ErrNotExist) && !errors.As(err, &shape) {
		return fmt.Errorf("%w: %w", ErrNoQueue, err)
	}
	return err
}

func (c *Consumer) generations() ([]int, error) { return c.owner.numbered(c.name) }

func (c *Consumer) adopt(n int) (*Queue, error) {
	return adoptQueue(c.owner.join(generationName(c.name, n)), c.state, n, false)
}

// ElementSize returns the size of an element in bytes.
func (c *Consumer) ElementSize() int { return c.queue.config.ElementSize }

// Lanes returns how many lanes there are until the next call of Follow.
func (c *Consumer) Lanes() int { return c.queue.config.Lanes }

// Capacity returns how many elements fit.
func (c *Consumer) Capacity() int { return c.queue.config.Capacity }

// Pop is Queue.Pop.
func (c *Consumer) Pop(lane, max int) (InFlight, error) { return c.queue.Pop(lane, max) }

// Pending is Queue.Pending.
func (c *Consumer) Pending(lane int) bool { return c.queue.Pending(lane) }

// Ack is Queue.Ack.
func (c *Consumer) Ack(lane int) { c.queue.Ack(lane) }

// Oldest is Queue.Oldest.
func (c *Consumer) Oldest(lane int) ([]byte, error) { return c.queue.Oldest(lane) }

// Books returns the account of the queue.
func (c *Consumer) Books() QueueBooks { return c.state.account() }

// Follow goes on to the next generation, if the owner was started with another shape and this one is empty but for lanes that
// Pop fails for with a DamageError. It removes this one then, unless it has such a lane, and returns true. Call it when Pop
// finds nothing in any lane. The error wraps ErrNoQueue where someone has removed the queue.
func (c *Consumer) Follow() (bool, error) {
	if there, err := c.state.group.isPinned(); err != nil || !there {
		return false, errors.Join(err, fmt.Errorf("%w any more", ErrNoQueue))
	}
	numbers, err := c.generations()
	if err != nil {
		return false, err
	}
	next := -1
	for _, n := range numbers {
		if uint64(n) > c.queue.generation {
			next = n
			break
		}
	}
	if next < 0 {
		return false, nil
	}
	// In this order: once nobody pushes to it any more, empty is for ever.
	if offered, err := c.queue.offered(); err != nil || offered {
		return false, err
	}
	waitForPrograms() // one that looked the lane up before may be about to push to it
	empty, damaged, err := c.queue.emptyButForDamage()
	if err != nil || !empty {
		return false, err
	}
	queue, err := c.adopt(next)
	if err != nil {
		return false, err
	}
	if !damaged {
		if err := c.queue.Remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			queue.Close()
			return false, err
		}
	}
	c.queue.Close()
	c.queue = queue
	return true, nil
}

// Memory returns what the queue costs in kernel memory, in bytes.
func (c *Consumer) Memory() uint64 {
	maps := []*ebpf.Map{c.state.group.maps[queueMapBooks], c.state.group.maps[queueMapLanes]}
	for _, m := range c.queue.group.maps {
		maps = append(maps, m)
	}
	return memoryOf(maps...)
}

// Close gives up the claim. What is in flight stays so, and the next consumer finds it.
func (c *Consumer) Close() {
	if c.queue != nil {
		c.queue.Close()
		c.queue = nil
	}
	if c.state != nil {
		c.state.release()
		c.state = nil
	}
	_ = c.owner.release() // it was only read
}
