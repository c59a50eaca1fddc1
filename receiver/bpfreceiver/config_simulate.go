package bpfreceiver

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/confmap"
)

// SimulateConfig is the `simulate` block: events that the kernel makes up and that go the way of real ones.
type SimulateConfig struct {
	// Events is how many in all. After them the simulator is silent.
	Events int64 `mapstructure:"events"`
	// Rate in events per second; 0: as fast as it goes.
	Rate int64 `mapstructure:"rate"`
	// Seed: the same seed gives the same events, but for their times.
	Seed int64 `mapstructure:"seed"`
	// PID is the range of the events' pids.
	PID SimulatedPIDs `mapstructure:"pid"`
	// Mix weighs the categories.
	Mix SimulatedMix `mapstructure:"mix"`
}

// SimulatedPIDs is a range of pids, both ends included.
type SimulatedPIDs struct {
	Min int64 `mapstructure:"min"`
	Max int64 `mapstructure:"max"`
}

// SimulatedMix has a weight for each category; 0: none of it.
type SimulatedMix struct {
	Syscall    int64 `mapstructure:"syscall"`
	Network    int64 `mapstructure:"network"`
	Filesystem int64 `mapstructure:"filesystem"`
	Process    int64 `mapstructure:"process"`
}

// maxPID is the kernel's PID_MAX_LIMIT, include/linux/threads.h.
const maxPID = 4 << 20

// maxWeight keeps the sum of the weights in 32 bits.
const maxWeight = 1_000_000

// Unmarshal refuses unknown names with the valid ones.
func (c *SimulateConfig) Unmarshal(conf *confmap.Conf) error {
	if err := checkKeys(conf, "events", "rate", "seed", "pid", "mix"); err != nil {
		return err
	}
	return conf.Unmarshal(c)
}

// Validate reports everything that is wrong.
func (c *SimulateConfig) Validate() error {
	var errs []error
	if c.Events < 1 {
		errs = append(errs, fmt.Errorf("events: %d is not positive: say how many to make, or leave out simulate", c.Events))
	}
	if c.Rate < 0 {
		errs = append(errs, fmt.Errorf("rate: %d is negative: use 0 for as fast as it goes", c.Rate))
	}
	return errors.Join(errs...)
}

// Validate wants pids that processes can have.
func (c *SimulatedPIDs) Validate() error {
	if c.Min < 1 || c.Max > maxPID || c.Min > c.Max {
		return fmt.Errorf("min %d and max %d are no range of pids: both are between 1 and %d, and min is not above max", c.Min, c.Max, maxPID)
	}
	return nil
}

// Validate wants at least one category.
func (c *SimulatedMix) Validate() error {
	var sum int64
	for _, weight := range c.weights() {
		if weight < 0 || weight > maxWeight {
			return fmt.Errorf("weight %d is not between 0 and %d", weight, maxWeight)
		}
		sum += weight
	}
	if sum == 0 {
		return errors.New("all weights are 0: give at least one of syscall, network, filesystem, process a weight")
	}
	return nil
}

// weights returns the weights in the order of the categories' numbers.
func (c *SimulatedMix) weights() [4]int64 {
	return [4]int64{c.Syscall, c.Network, c.Filesystem, c.Process}
}
