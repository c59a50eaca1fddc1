package stage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"go.opentelemetry.io/collector/config/configretry"
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

// DefaultShutdownTimeout is how long a graceful stop may take, unless a component is told otherwise: short, as the
// components of a pipeline stop one after the other.
const DefaultShutdownTimeout = 10 * time.Second

// ValidateShutdownTimeout refuses a negative one.
func ValidateShutdownTimeout(timeout time.Duration) error {
	if timeout < 0 {
		return fmt.Errorf("shutdown_timeout: %s is negative: use 0 for no limit", timeout)
	}
	return nil
}

// WithShutdownTimeout returns the context of a graceful stop. It ends with ctx, to which the Collector gives no end, or after
// timeout, unless that is 0.
func WithShutdownTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
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
