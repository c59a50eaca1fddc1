// Package health turns the losses of a component into its status and into warnings in its log.
package health

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Interval is how often a component's counters are looked at.
const Interval = time.Second

// Config says which losses make a component report a recoverable error as its status, until they have passed.
type Config struct {
	// MaxLoss is how many events may be lost within LossWindow.
	MaxLoss int64 `mapstructure:"max_loss"`
	// LossWindow is how long a loss is remembered.
	LossWindow time.Duration `mapstructure:"loss_window"`
}

// NewConfig returns the defaults: any loss shows, for a minute.
func NewConfig() Config {
	return Config{MaxLoss: 0, LossWindow: time.Minute}
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error {
	var errs []error
	if c.MaxLoss < 0 {
		errs = append(errs, fmt.Errorf("max_loss is %d, must not be negative: use %d where losses are no reason for concern",
			c.MaxLoss, math.MaxInt64))
	}
	if c.LossWindow < Interval {
		errs = append(errs, fmt.Errorf("loss_window is %s, must be at least %s", c.LossWindow, Interval))
	}
	return errors.Join(errs...)
}
