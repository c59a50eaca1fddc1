package bpfreceiver

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// Config is the configuration of the receiver, the same on every system.
type Config struct {
	// PinPath is a directory in a BPF file system. What the receiver keeps in the kernel is pinned below it and
	// outlives the process. Empty: it does not.
	PinPath string `mapstructure:"pin_path"`
	// Probes are what to trace. What is named is on.
	Probes ProbesConfig `mapstructure:"probes"`
	// Queue is a queue of another component to drain, beside the probes or without any.
	Queue configoptional.Optional[QueueConfig] `mapstructure:"queue"`
	// RingBuffer holds the events until they are delivered.
	RingBuffer RingBufferConfig `mapstructure:"ring_buffer"`
	// Encoding of the events in the logs that leave the receiver.
	Encoding event.Encoding `mapstructure:"encoding"`
	// PollInterval is how long events wait at most when few come.
	PollInterval time.Duration `mapstructure:"poll_interval"`
	// Health says when the receiver reports to be unhealthy: what is said of a queue there is about the ring buffer.
	Health stage.HealthConfig `mapstructure:"health"`
	// KeepOnShutdown leaves the probes attached at a graceful stop. What they write until the next start waits
	// in the ring buffer.
	KeepOnShutdown bool `mapstructure:"keep_on_shutdown"`
	// ShutdownTimeout is how long a graceful stop may take to deliver what is in the ring buffer; 0: for ever, as
	// the Collector sets no limit.
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`
}

// RingBufferConfig is the `ring_buffer` block.
type RingBufferConfig struct {
	// Size in bytes, a power of two. An event takes 136 bytes.
	Size Size `mapstructure:"size"`
}

// ProbesConfig is the `probes` block: a block for each category of events, and the simulator. A block that is
// named is on, also without a value.
type ProbesConfig struct {
	// Syscall: system calls that are no event of another category that is on.
	Syscall configoptional.Optional[SyscallConfig] `mapstructure:"syscall"`
	// Network: connections, and what goes through sockets.
	Network configoptional.Optional[ProbeConfig] `mapstructure:"network"`
	// Filesystem: operations on files.
	Filesystem configoptional.Optional[ProbeConfig] `mapstructure:"filesystem"`
	// Process: fork, exec and exit.
	Process configoptional.Optional[ProbeConfig] `mapstructure:"process"`
	// Simulate makes events in the kernel.
	Simulate configoptional.Optional[SimulateConfig] `mapstructure:"simulate"`
}

// The limits of a ring buffer. Each power of two between them is a multiple of every page size of Linux.
const (
	minRingBufferSize = 64 * KiB
	maxRingBufferSize = 1 * GiB
)

// minPollInterval is the resolution of the wait.
const minPollInterval = time.Millisecond

// Validate reports everything that is wrong here; blocks and encoding have a Validate of their own.
func (c *Config) Validate() error {
	var errs []error
	if c.PollInterval < minPollInterval {
		errs = append(errs, fmt.Errorf("poll_interval: %s is less than %s: use %[2]s or more", c.PollInterval, minPollInterval))
	}
	errs = append(errs, stage.ValidateShutdownTimeout(c.ShutdownTimeout), stage.ValidatePinPath(c.PinPath))
	switch {
	case !c.Probes.on() && !c.Queue.HasValue():
		errs = append(errs, errNothingOn)
	case c.KeepOnShutdown && !c.Probes.on():
		errs = append(errs, errors.New("keep_on_shutdown: there are no probes that could go on: remove it"))
	case c.KeepOnShutdown && c.PinPath == "":
		errs = append(errs, errors.New("keep_on_shutdown: needs a pin_path: what is not pinned dies with the process"))
	}
	if c.Queue.HasValue() && c.PinPath == "" {
		errs = append(errs, fmt.Errorf("queue: needs a pin_path, the one of the component whose queue it is: use %s", stage.DefaultPinPath))
	}
	return errors.Join(errs...)
}

// Validate wants a size that the kernel accepts and that is worth it.
func (c *RingBufferConfig) Validate() error {
	if c.Size < minRingBufferSize || c.Size > maxRingBufferSize {
		return fmt.Errorf("size: %s is not between %s and %s", c.Size, minRingBufferSize, maxRingBufferSize)
	}
	if c.Size&(c.Size-1) != 0 {
		below := minRingBufferSize
		for below*2 < c.Size {
			below *= 2
		}
		return fmt.Errorf("size: %s is not a power of two: use %s or %s", c.Size, below, below*2)
	}
	return nil
}

var errNothingOn = errors.New("nothing is on: name at least one of syscall, network, filesystem, process, simulate, such as `probes: {process: }`, or a queue to drain, such as `queue: {name: handoff}`")

// Unmarshal refuses unknown names with the valid ones.
func (c *ProbesConfig) Unmarshal(conf *confmap.Conf) error {
	if err := checkKeys(conf, "syscall", "network", "filesystem", "process", "simulate"); err != nil {
		return err
	}
	return conf.Unmarshal(c)
}

// checkKeys refuses all keys but the valid ones, and names these.
func checkKeys(conf *confmap.Conf, valid ...string) error {
	for _, key := range slices.Sorted(maps.Keys(conf.ToStringMap())) {
		if !slices.Contains(valid, key) {
			return fmt.Errorf("unknown key %q: use %s", key, strings.Join(valid, ", "))
		}
	}
	return nil
}

// Validate wants conditions that events of their category can satisfy. syscall and simulate validate themselves.
func (c *ProbesConfig) Validate() error {
	var errs []error
	for _, probe := range c.categories() {
		if config := probe.config.Get(); config != nil {
			if err := config.validate(probe.category); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", probe.category, err))
			}
		}
	}
	return errors.Join(errs...)
}

// on reports whether there is anything to trace.
func (c *ProbesConfig) on() bool {
	return c.Syscall.HasValue() || c.Network.HasValue() || c.Filesystem.HasValue() || c.Process.HasValue() || c.Simulate.HasValue()
}

type categoryConfig struct {
	category event.Category
	config   *configoptional.Optional[ProbeConfig]
}

// categories returns the blocks of one shape.
func (c *ProbesConfig) categories() []categoryConfig {
	return []categoryConfig{
		{event.CategoryNetwork, &c.Network}, {event.CategoryFilesystem, &c.Filesystem}, {event.CategoryProcess, &c.Process},
	}
}
