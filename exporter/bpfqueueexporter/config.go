package bpfqueueexporter

import (
	"errors"
	"fmt"

	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// Config is the configuration of bpf_queue.
type Config struct {
	// Name of the queue, by which the receiver finds it.
	Name string `mapstructure:"name"`
	// PinPath is the directory in a BPF file system below which the queue is pinned.
	PinPath string `mapstructure:"pin_path"`
	// Queue is the shape of the queue, and what happens when it is full.
	Queue stage.QueueConfig `mapstructure:"queue"`
	// Health says when the exporter reports to be unhealthy.
	Health stage.HealthConfig `mapstructure:"health"`
}

// Validate reports what is wrong beyond that which the blocks report themselves.
func (c *Config) Validate() error {
	errs := []error{stage.ValidateQueueName(c.Name), stage.ValidatePinPath(c.PinPath)}
	if c.PinPath == "" {
		errs = append(errs, fmt.Errorf("pin_path is empty: a queue for another process has to be pinned, use %s", stage.DefaultPinPath))
	}
	return errors.Join(errs...)
}
