package stage

import (
	"errors"
	"fmt"
	"path"
	"time"

	"go.opentelemetry.io/collector/config/configretry"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// DefaultPinPath is where components keep their state across restarts, unless they are told otherwise.
const DefaultPinPath = "/sys/fs/bpf/kernelpipe"

// ValidatePinPath accepts an absolute path, and the empty one, which means that nothing is kept. Whether it
// is on a BPF file system shows at the start.
func ValidatePinPath(pinPath string) error {
	if pinPath != "" && !path.IsAbs(pinPath) {
		return fmt.Errorf("pin_path is %q, must be an absolute path on a BPF file system such as %s, or empty to keep nothing across a restart", pinPath, DefaultPinPath)
	}
	return nil
}

// NewRetryConfig returns the defaults for the delivery to the next component: it is tried again for ever.
func NewRetryConfig() configretry.BackOffConfig {
	config := configretry.NewDefaultBackOffConfig()
	config.InitialInterval = 100 * time.Millisecond // the next component is in this process
	config.MaxElapsedTime = 0
	return config
}

// ValidateRetry refuses what config's own Validate allows and would have a worker try again without a pause.
func ValidateRetry(config configretry.BackOffConfig) error {
	if !config.Enabled {
		return nil
	}
	var errs []error
	for _, interval := range []struct {
		key   string
		value time.Duration
	}{{"initial_interval", config.InitialInterval}, {"max_interval", config.MaxInterval}} {
		if interval.value == 0 {
			errs = append(errs, fmt.Errorf("retry_on_failure: %s is 0s, which means tries without a pause: use 100ms or more, or enabled: false for no second try", interval.key))
		}
	}
	if config.Multiplier >= 0 && config.Multiplier < 1 {
		errs = append(errs, fmt.Errorf("retry_on_failure: multiplier is %v, which shortens the pauses to none: use 1 or more", config.Multiplier))
	}
	return errors.Join(errs...)
}

// Distribution says how events spread over the lanes of a queue.
type Distribution string

// The distributions.
const (
	// RoundRobin deals events out in turn.
	RoundRobin Distribution = "round_robin"
	// Hash keeps the events of one process in one lane, and so in order.
	Hash Distribution = "hash"
)

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

func (f OnFull) validate() error {
	if f != Block && f != DropNewest && f != DropOldest {
		return fmt.Errorf("on_full is %q, must be %s, %s or %s", string(f), Block, DropNewest, DropOldest)
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
