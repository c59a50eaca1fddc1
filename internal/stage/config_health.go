package stage

import (
	"errors"
	"fmt"
	"time"

	"github.com/kernelpipe/kernelpipe/internal/health"
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
	losses := health.NewConfig()
	return HealthConfig{MaxDepthRatio: 0.9, MaxLoss: losses.MaxLoss, LossWindow: losses.LossWindow}
}

// Validate reports everything that is wrong.
func (c *HealthConfig) Validate() error {
	var errs []error
	if !(c.MaxDepthRatio > 0 && c.MaxDepthRatio <= 1) {
		errs = append(errs, fmt.Errorf("max_depth_ratio is %v, must be above 0 and at most 1; with 1 a full queue is healthy",
			c.MaxDepthRatio))
	}
	losses := c.Losses()
	errs = append(errs, losses.Validate())
	return errors.Join(errs...)
}

// Losses is the part that is about losses.
func (c *HealthConfig) Losses() health.Config {
	return health.Config{MaxLoss: c.MaxLoss, LossWindow: c.LossWindow}
}
