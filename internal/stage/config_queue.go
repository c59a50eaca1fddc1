package stage

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// Distribution says how events spread over the lanes of a queue.
type Distribution string

// The distributions.
const (
	// RoundRobin deals events out in turn.
	RoundRobin Distribution = "round_robin"
	// Hash keeps events that have the same key in one lane, and so in order.
	Hash Distribution = "hash"
)

// HashBy is the key of the distribution Hash.
type HashBy string

// The keys.
const (
	// HashByPID keeps the events of a process together.
	HashByPID HashBy = "pid"
	// HashByTID keeps the events of a thread together.
	HashByTID HashBy = "tid"
	// HashByUID keeps the events of a user together.
	HashByUID HashBy = "uid"
	// HashByCgroup keeps the events of a cgroup together, and so those of a container.
	HashByCgroup HashBy = "cgroup"
	// HashByCommand keeps the events of all processes with one command name together.
	HashByCommand HashBy = "command"
	// HashByRemoteAddress keeps what is exchanged with one address together; other events go by pid.
	HashByRemoteAddress HashBy = "remote_address"
)

var hashKeys = []HashBy{HashByPID, HashByTID, HashByUID, HashByCgroup, HashByCommand, HashByRemoteAddress}

// OnFull says what happens to events that find their lane full.
type OnFull string

// The policies. What is dropped is counted.
const (
	// Block waits for room; the pressure reaches back to the ring buffer.
	Block OnFull = "block"
	// DropNewest drops the events that find no room.
	DropNewest OnFull = "drop_newest"
	// DropOldest makes room by dropping the events that have waited longest.
	DropOldest OnFull = "drop_oldest"
	// DropLowPriority keeps room for what matters more: low events are dropped where a lane is three quarters
	// full, medium ones where it is nine tenths full. High ones have all of it, and find no room only where it
	// is full of what came before them; then they are dropped as by DropNewest.
	DropLowPriority OnFull = "drop_low_priority"
)

// maxLanes is the limit of bpf.MaxLanes, here for systems that don't have that package.
const maxLanes = 16

// maxCapacity bounds a queue in the configuration; at the start it is compared with the machine's memory.
const maxCapacity = 1 << 30

// QueueConfig is the `queue` block of a component.
type QueueConfig struct {
	// Capacity is how many events fit, in all lanes together.
	Capacity int `mapstructure:"capacity"`
	// Lanes is how many queues with a worker each there are.
	Lanes int `mapstructure:"lanes"`
	// Distribution says how events spread over the lanes.
	Distribution Distribution `mapstructure:"distribution"`
	// HashBy is what Distribution hash keeps together; empty: pid.
	HashBy HashBy `mapstructure:"hash_by"`
	// OnFull says what happens to events that find their lane full.
	OnFull OnFull `mapstructure:"on_full"`
	// BlockTimeout is how long OnFull block waits before it drops what finds no room; 0: for ever.
	BlockTimeout time.Duration `mapstructure:"block_timeout"`
}

// NewQueueConfig returns the defaults.
func NewQueueConfig() QueueConfig {
	return QueueConfig{Capacity: 10_000, Lanes: 1, Distribution: RoundRobin, OnFull: Block}
}

// Validate reports everything that is wrong.
func (c *QueueConfig) Validate() error {
	var errs []error
	if c.Lanes < 1 || c.Lanes > maxLanes {
		errs = append(errs, fmt.Errorf("lanes is %d, must be 1 to %d", c.Lanes, maxLanes))
	}
	errs = append(errs, validateCapacity(c.Capacity, max(c.Lanes, 1)))
	if c.Distribution != RoundRobin && c.Distribution != Hash {
		errs = append(errs, fmt.Errorf("distribution is %q, must be %s or %s", c.Distribution, RoundRobin, Hash))
	}
	if c.HashBy != "" && !slices.Contains(hashKeys, c.HashBy) {
		errs = append(errs, fmt.Errorf("hash_by is %q, must be one of %s", c.HashBy, join(hashKeys)))
	}
	if c.HashBy != "" && c.Distribution != Hash {
		errs = append(errs, fmt.Errorf("hash_by is set, but distribution is %s: it needs distribution: %s", c.Distribution, Hash))
	}
	errs = append(errs, c.OnFull.validate())
	if c.BlockTimeout < 0 {
		errs = append(errs, fmt.Errorf("block_timeout is %s, must not be negative", c.BlockTimeout))
	}
	if c.BlockTimeout > 0 && c.OnFull != Block {
		errs = append(errs, fmt.Errorf("block_timeout is set, but on_full is %s: it needs on_full: %s", c.OnFull, Block))
	}
	return errors.Join(errs...)
}

func validateCapacity(capacity, lanes int) error {
	switch {
	case capacity < lanes:
		return fmt.Errorf("capacity is %d, must be at least 1 for each lane", capacity)
	case capacity > maxCapacity:
		return fmt.Errorf("capacity is %d, must be at most %d: an event takes up to %d bytes of kernel memory", capacity, maxCapacity, event.EnrichedSize)
	}
	return nil
}

func join[T ~string](names []T) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}

func (f OnFull) validate() error {
	if policies := []OnFull{Block, DropNewest, DropOldest, DropLowPriority}; !slices.Contains(policies, f) {
		return fmt.Errorf("on_full is %q, must be one of %s", f, join(policies))
	}
	return nil
}

// DeadLetterConfig is the `dead_letter` block of a component.
type DeadLetterConfig struct {
	// Capacity is how many events fit.
	Capacity int `mapstructure:"capacity"`
	// OnFull is drop_oldest or drop_newest: the way of the healthy events is not to be blocked.
	OnFull OnFull `mapstructure:"on_full"`
}

// NewDeadLetterConfig returns the defaults.
func NewDeadLetterConfig() DeadLetterConfig {
	return DeadLetterConfig{Capacity: 1_000, OnFull: DropOldest}
}

// Validate reports everything that is wrong.
func (c *DeadLetterConfig) Validate() error {
	err := validateCapacity(c.Capacity, 1)
	if c.OnFull != DropNewest && c.OnFull != DropOldest {
		err = errors.Join(err, fmt.Errorf("on_full is %q, must be %s or %s", string(c.OnFull), DropNewest, DropOldest))
	}
	return err
}
