package bpfreceiver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/confmap"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

// ProbeConfig says which events of a category are wanted: those that satisfy every condition that is set. The
// others are dropped in the kernel, before the ring buffer. The conditions mean what they mean in the filter
// processor; see match.Config.
type ProbeConfig struct {
	// Operation: connect, open, exec, …
	Operation []string `mapstructure:"operation"`
	// PID is that of the process (of all its threads), in the host's initial pid namespace.
	PID match.Range `mapstructure:"pid"`
	// UID is the real user ID.
	UID match.Range `mapstructure:"uid"`
	// Command: the thread's name, compared exactly; the kernel keeps at most 15 bytes of it.
	Command []string `mapstructure:"command"`
	// ErrorsOnly: results that are an error, exits with a status other than 0.
	ErrorsOnly bool `mapstructure:"errors_only"`
	// MinDuration: at least so long. An event without a duration does not satisfy it; 0 is no condition.
	MinDuration time.Duration `mapstructure:"min_duration"`
}

// Unmarshal refuses unknown names with the valid ones.
func (c *ProbeConfig) Unmarshal(conf *confmap.Conf) error {
	if err := checkKeys(conf, "operation", "pid", "uid", "command", "errors_only", "min_duration"); err != nil {
		return err
	}
	return conf.Unmarshal(c)
}

func (c *ProbeConfig) validate(category event.Category) error {
	var errs []error
	known := event.Operations(category)
	for _, name := range c.Operation {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("operation: unknown operation %q: use %s", name, strings.Join(known, ", ")))
		}
	}
	conditions := match.Config{PID: c.PID, UID: c.UID, Command: c.Command, ErrorsOnly: c.ErrorsOnly, MinDuration: c.MinDuration}
	errs = append(errs, conditions.Validate())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.validateTogether(category)
}

// Operations whose events never have an error, and never a duration.
var (
	neverFails = map[event.Category][]string{
		event.CategoryNetwork: {"close", "retransmit"},
		event.CategoryProcess: {"fork", "exec"},
	}
	neverTimed = map[event.Category][]string{
		event.CategoryNetwork: {"retransmit"},
		event.CategoryProcess: {"fork", "exec"},
	}
)

// validateTogether refuses conditions that exclude each other.
func (c *ProbeConfig) validateTogether(category event.Category) error {
	only := func(names []string) bool {
		return len(c.Operation) > 0 && !slices.ContainsFunc(c.Operation, func(name string) bool { return !slices.Contains(names, name) })
	}
	var errs []error
	if c.ErrorsOnly && only(neverFails[category]) {
		errs = append(errs, fmt.Errorf("errors_only: %s never has an error, so there would be no events: remove one of the two conditions", strings.Join(c.Operation, ", ")))
	}
	if c.MinDuration > 0 && only(neverTimed[category]) {
		errs = append(errs, fmt.Errorf("min_duration: %s never has a duration, so there would be no events: remove one of the two conditions", strings.Join(c.Operation, ", ")))
	}
	return errors.Join(errs...)
}
