package stage

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// HealthConfig is the `health` block of a component: what makes it report a recoverable error as its status,
// until it has passed.
type HealthConfig struct {
	// MaxDepthRatio is how full the queue may be, from 0 to 1. Above it the component is unhealthy.
	MaxDepthRatio float64 `mapstructure:"max_depth_ratio"`
	// MaxLoss is how many events may be dropped or go to the dead letter within LossWindow.
	MaxLoss int64 `mapstructure:"max_loss"`
	// LossWindow is how long a loss is remembered.
	LossWindow time.Duration `mapstructure:"loss_window"`
}

// NewHealthConfig returns the defaults: any loss shows, for a minute.
func NewHealthConfig() HealthConfig {
	return HealthConfig{MaxDepthRatio: 0.9, MaxLoss: 0, LossWindow: time.Minute}
}

// Validate reports everything that is wrong.
func (c *HealthConfig) Validate() error {
	var errs []error
	if !(c.MaxDepthRatio > 0 && c.MaxDepthRatio <= 1) {
		errs = append(errs, fmt.Errorf("max_depth_ratio is %v, must be above 0 and at most 1; with 1 a full queue is healthy", c.MaxDepthRatio))
	}
	if c.MaxLoss < 0 {
		errs = append(errs, fmt.Errorf("max_loss is %d, must not be negative: use %d where losses are no reason for concern", c.MaxLoss, math.MaxInt64))
	}
	if c.LossWindow < healthInterval {
		errs = append(errs, fmt.Errorf("loss_window is %s, must be at least %s", c.LossWindow, healthInterval))
	}
	return errors.Join(errs...)
}

// healthInterval is how often the state of the queue is looked at.
const healthInterval = time.Second
