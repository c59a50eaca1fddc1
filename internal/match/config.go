package match

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/syscalls"
)

// The kernel's limits; bpf/c/settings.h and event.h.
const (
	// MaxCommands is how many commands a Config can name.
	MaxCommands = 16
	// MaxCommandLen is how many bytes the name of a command can have.
	MaxCommandLen = event.CommLen - 1
	// MaxSyscalls is one more than the highest number of a system call that can be named.
	MaxSyscalls = 512
)

// Config says which events are meant: those that satisfy every condition that is set. An empty Config
// means all events. Of the entries in a list, one must fit.
type Config struct {
	// Category: syscall, network, filesystem, process.
	Category []string `mapstructure:"category"`
	// Operation: connect, open, exec, …; names of system calls too. A name that several categories have
	// means it in each of them that Category allows.
	Operation []string `mapstructure:"operation"`
	// Priority: high, medium, low.
	Priority []string `mapstructure:"priority"`
	// PID is that of the process (of all its threads).
	PID Range `mapstructure:"pid"`
	// UID is the real user ID.
	UID Range `mapstructure:"uid"`
	// Command: the thread's name, compared exactly; the kernel keeps at most 15 bytes of it.
	Command []string `mapstructure:"command"`
	// ErrorsOnly: system calls that returned an error, exits with a status other than 0.
	ErrorsOnly bool `mapstructure:"errors_only"`
	// MinDuration: at least so long. An event without a duration does not satisfy it; 0 is no condition.
	MinDuration time.Duration `mapstructure:"min_duration"`
}

// Range is a range of the kernel's unsigned 32-bit numbers, both ends included. An end that is not set is
// open. The ends are wider than the numbers: the Collector's decoder takes a uint32 modulo 2^32, in silence.
type Range struct {
	Min *int64 `mapstructure:"min"`
	Max *int64 `mapstructure:"max"`
}

// IsSet reports whether the range is a condition.
func (r Range) IsSet() bool { return r.Min != nil || r.Max != nil }

// Bounds returns both ends of a valid range, 0 and the highest number for an open one.
func (r Range) Bounds() (lowest, highest uint32) {
	highest = math.MaxUint32
	if r.Min != nil {
		lowest = uint32(*r.Min)
	}
	if r.Max != nil {
		highest = uint32(*r.Max)
	}
	return lowest, highest
}

// IsEmpty reports whether no condition is set, so that every event is meant.
func (c *Config) IsEmpty() bool {
	return len(c.Category) == 0 && len(c.Operation) == 0 && len(c.Priority) == 0 && !c.PID.IsSet() && !c.UID.IsSet() &&
		len(c.Command) == 0 && !c.ErrorsOnly && c.MinDuration == 0
}

// Validate reports everything that is wrong: unknown names and conditions that no event can satisfy.
func (c *Config) Validate() error {
	categories, errs := parseAll("category", c.Category, event.ParseCategory)
	_, priorityErrs := parseAll("priority", c.Priority, event.ParsePriority)
	errs = append(errs, priorityErrs...)
	if len(errs) == 0 { // only then it is known which operations there can be
		errs = append(errs, c.validateOperations(categories)...)
	}
	errs = append(errs, c.validateCommands()...)
	errs = append(errs, c.PID.validate("pid"), c.UID.validate("uid"))
	if c.MinDuration < 0 {
		errs = append(errs, fmt.Errorf("min_duration: %s is negative: use 0 for any duration", c.MinDuration))
	}
	return errors.Join(errs...)
}

func parseAll[T any](key string, names []string, parse func(string) (T, error)) (values []T, errs []error) {
	for _, name := range names {
		value, err := parse(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
			continue
		}
		values = append(values, value)
	}
	return values, errs
}

func (c *Config) validateOperations(categories []event.Category) (errs []error) {
	if len(categories) == 0 {
		categories = event.Categories()
	}
	for _, name := range c.Operation {
		if !slices.ContainsFunc(categories, func(category event.Category) bool { return hasOperation(category, name) }) {
			errs = append(errs, operationError(categories, name))
		}
	}
	return errs
}

// hasOperation accepts every name of a system call where the names are not known: a configuration is
// valid or not wherever it is looked at.
func hasOperation(c event.Category, name string) bool {
	if c == event.CategorySyscall && len(syscalls.Names()) == 0 {
		return name != ""
	}
	operation, ok := event.ParseOperation(c, name)
	return ok && (c != event.CategorySyscall || operation < MaxSyscalls)
}

func operationError(categories []event.Category, name string) error {
	var valid []string
	for _, category := range categories {
		if category == event.CategorySyscall {
			valid = append(valid, fmt.Sprintf("for %s the name of a system call such as openat", category))
			continue
		}
		valid = append(valid, fmt.Sprintf("for %s %s", category, strings.Join(event.Operations(category), ", ")))
	}
	for _, other := range event.Categories() {
		if !slices.Contains(categories, other) && hasOperation(other, name) {
			return fmt.Errorf("operation: %q is one of category %s, which is not listed: add %s to category, or use %s",
				name, other, other, strings.Join(valid, "; "))
		}
	}
	return fmt.Errorf("operation: unknown operation %q: use %s", name, strings.Join(valid, "; "))
}

func (c *Config) validateCommands() (errs []error) {
	if len(c.Command) > MaxCommands {
		errs = append(errs, fmt.Errorf("command: %d names, and there is room for %d: remove some", len(c.Command), MaxCommands))
	}
	for _, name := range c.Command {
		switch {
		case name == "":
			errs = append(errs, errors.New("command: a name is empty: remove it"))
		case strings.IndexByte(name, 0) >= 0:
			errs = append(errs, fmt.Errorf("command: %q has a NUL byte, which no command has: remove it", name))
		case len(name) > MaxCommandLen:
			errs = append(errs, fmt.Errorf("command: %q has %d bytes, and the kernel keeps %d of a command's name: use %q",
				name, len(name), MaxCommandLen, name[:MaxCommandLen]))
		}
	}
	return errs
}

func (r Range) validate(key string) error {
	for _, end := range []struct {
		name  string
		value *int64
	}{{"min", r.Min}, {"max", r.Max}} {
		if end.value != nil && (*end.value < 0 || *end.value > math.MaxUint32) {
			return fmt.Errorf("%s: %s %d is not between 0 and %d: leave it out for no limit", key, end.name, *end.value, uint32(math.MaxUint32))
		}
	}
	if lowest, highest := r.Bounds(); lowest > highest {
		return fmt.Errorf("%s: min %d is greater than max %d: no process has such a %s, swap them", key, lowest, highest, key)
	}
	return nil
}
