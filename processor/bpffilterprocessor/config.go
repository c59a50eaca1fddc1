package bpffilterprocessor

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/config/configretry"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// Config is the configuration of bpf_filter.
type Config struct {
	// PinPath is where the queue and the books are kept across restarts, on a BPF file system; empty: nowhere.
	PinPath string `mapstructure:"pin_path"`
	// Priority is the rules by which events get another priority than that of their category.
	Priority []PriorityRule `mapstructure:"priority"`
	// Drop says which events are dropped: those that match one of the entries, with the priority they then have.
	Drop []match.Config `mapstructure:"drop"`
	// Queue is the queue in front of the next component.
	Queue stage.QueueConfig `mapstructure:"queue"`
	// DeadLetter is the queue of events that the next component refuses for good.
	DeadLetter stage.DeadLetterConfig `mapstructure:"dead_letter"`
	// Health says when the processor reports to be unhealthy.
	Health stage.HealthConfig `mapstructure:"health"`
	// Retry is how deliveries that fail are tried again.
	Retry configretry.BackOffConfig `mapstructure:"retry_on_failure"`
	// ShutdownTimeout is how long a graceful stop may take to deliver what is in the queue; 0: for ever, as the
	// Collector sets no limit. What is left then stays pinned for the next start.
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`
	// Encoding is how events go to the next component.
	Encoding event.Encoding `mapstructure:"encoding"`
}

// PriorityRule gives a priority to the events that match; the first rule that does so decides.
type PriorityRule struct {
	// Match says which events. Without a condition: all that no rule before has decided.
	Match match.Config `mapstructure:"match"`
	// Set is the priority: high, medium or low.
	Set string `mapstructure:"set"`
}

// Validate refuses a priority that is none.
func (r *PriorityRule) Validate() error {
	if _, err := event.ParsePriority(r.Set); err != nil {
		return fmt.Errorf("set: %w", err)
	}
	return nil
}

// Validate reports what is wrong beyond that which the blocks report themselves.
func (c *Config) Validate() error {
	errs := []error{stage.ValidatePinPath(c.PinPath)}
	for i := range c.Priority {
		if last := len(c.Priority) - 1; i < last && c.Priority[i].Match.IsEmpty() {
			errs = append(errs, fmt.Errorf("priority: entry %d has no condition and so decides for every event, and the %d after it never do: move it to the end, or give it a match", i, last-i))
		}
	}
	for i := range c.Drop {
		if c.Drop[i].IsEmpty() {
			errs = append(errs, fmt.Errorf("drop: entry %d has no condition and would drop every event: give it one, or use drop: [] to drop nothing", i))
		}
	}
	return errors.Join(append(errs, stage.ValidateRetry(c.Retry), stage.ValidateShutdownTimeout(c.ShutdownTimeout))...)
}
