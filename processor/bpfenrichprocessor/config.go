package bpfenrichprocessor

import (
	"errors"
	"fmt"
	"path"
	"time"

	"go.opentelemetry.io/collector/config/configretry"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// Config is the configuration of bpf_enrich.
type Config struct {
	// PinPath is where the queue and the books are kept across restarts, on a BPF file system; empty: nowhere.
	PinPath string `mapstructure:"pin_path"`
	// Cache bounds what is remembered.
	Cache CacheConfig `mapstructure:"cache"`
	// ProcessTable is the table of processes in the kernel.
	ProcessTable ProcessTableConfig `mapstructure:"process_table"`
	// Ancestor chooses an ancestor of the process.
	Ancestor AncestorConfig `mapstructure:"ancestor"`
	// CommandLine is the command line of the process.
	CommandLine CommandLineConfig `mapstructure:"command_line"`
	// LookupTimeout is how long a batch of up to 1,024 events waits, in all, for lookups of what is not
	// remembered. After it events leave without; what is found later serves the events that follow. 0: it
	// never waits.
	LookupTimeout time.Duration `mapstructure:"lookup_timeout"`
	// PasswdFile is where user names come from, passwd(5); empty: there are none.
	PasswdFile string `mapstructure:"passwd_file"`
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

// CacheConfig is the `cache` block. What was unused for longest makes room.
type CacheConfig struct {
	// Processes is how many processes are remembered.
	Processes int `mapstructure:"processes"`
	// Cgroups is how many cgroups are remembered.
	Cgroups int `mapstructure:"cgroups"`
}

// The highest sizes: as many processes as Linux can have (PID_MAX_LIMIT in include/linux/threads.h), and more
// cgroups than a machine has.
const (
	maxProcesses = 1 << 22
	maxCgroups   = 1 << 20
)

// Validate reports everything that is wrong.
func (c *CacheConfig) Validate() error {
	var errs []error
	for _, size := range []struct {
		key        string
		value, max int
	}{{"processes", c.Processes, maxProcesses}, {"cgroups", c.Cgroups, maxCgroups}} {
		if size.value < 1 || size.value > size.max {
			errs = append(errs, fmt.Errorf("%s is %d, must be 1 to %d", size.key, size.value, size.max))
		}
	}
	return errors.Join(errs...)
}

// ProcessTableConfig is the `process_table` block. With the table, processes are known that have ended long ago.
type ProcessTableConfig struct {
	// Enabled: without it, processes are looked up in /proc, which is too late for those that live shortly.
	Enabled bool `mapstructure:"enabled"`
	// Processes is how many the table keeps, living and ended. Those that ended first make room.
	Processes int `mapstructure:"processes"`
	// Cgroups is how many cgroups it keeps, also removed ones.
	Cgroups int `mapstructure:"cgroups"`
	// KeepOnShutdown lets the kernel go on keeping the table when the Collector is stopped, as it does after a crash.
	KeepOnShutdown bool `mapstructure:"keep_on_shutdown"`
}

// Validate reports everything that is wrong.
func (c *ProcessTableConfig) Validate() error {
	if !c.Enabled {
		return nil
	}
	var errs []error
	for _, size := range []struct {
		key        string
		value, max int
	}{{"processes", c.Processes, maxProcesses}, {"cgroups", c.Cgroups, maxCgroups}} {
		if size.value < 64 || size.value > size.max {
			errs = append(errs, fmt.Errorf("%s is %d, must be 64 to %d", size.key, size.value, size.max))
		}
	}
	return errors.Join(errs...)
}

// AncestorConfig is the `ancestor` block: the nearest ancestor counts that meets one of its conditions. Without any there
// is none.
type AncestorConfig struct {
	// Command has names of which the ancestor has one.
	Command []string `mapstructure:"command"`
	// ChildOf has names of which the ancestor's parent has one. Then it may be the process itself.
	ChildOf []string `mapstructure:"child_of"`
}

// Validate reports everything that is wrong.
func (c *AncestorConfig) Validate() error {
	var errs []error
	for _, list := range []struct {
		key   string
		names []string
	}{{"command", c.Command}, {"child_of", c.ChildOf}} {
		for _, name := range list.names {
			if name == "" || len(name) >= event.CommLen {
				errs = append(errs, fmt.Errorf("%s: %q has %d bytes, must have 1 to %d: the kernel keeps no more of a name", list.key, name, len(name), event.CommLen-1))
			}
		}
	}
	return errors.Join(errs...)
}

// CommandLineConfig is the `command_line` block.
type CommandLineConfig struct {
	// Enabled: arguments can be secrets, so they are kept and passed on only where it is set.
	Enabled bool `mapstructure:"enabled"`
	// RedactDefaults hides what usually is a secret.
	RedactDefaults bool `mapstructure:"redact_defaults"`
	// Redact has regular expressions (RE2). What they match in an argument is hidden too; of one with groups, what the groups
	// match.
	Redact []string `mapstructure:"redact"`
	// RedactOptions has options and variables whose values are hidden too: --pin, -k, LICENSE_KEY.
	RedactOptions []string `mapstructure:"redact_options"`
}

// Validate reports everything that is wrong.
func (c *CommandLineConfig) Validate() error {
	_, err := newRedaction(c)
	return err
}

// Validate reports what is wrong beyond that which the blocks report themselves.
func (c *Config) Validate() error {
	errs := []error{stage.ValidatePinPath(c.PinPath)}
	if c.LookupTimeout < 0 {
		errs = append(errs, fmt.Errorf("lookup_timeout is %s, must not be negative: use 0s to never wait", c.LookupTimeout))
	}
	if c.PasswdFile != "" && !path.IsAbs(c.PasswdFile) {
		errs = append(errs, fmt.Errorf("passwd_file is %q, must be an absolute path such as /etc/passwd, or empty for no user names", c.PasswdFile))
	}
	if !c.ProcessTable.Enabled && len(c.Ancestor.Command)+len(c.Ancestor.ChildOf) > 0 {
		errs = append(errs, errors.New("ancestor is set, which needs process_table: { enabled: true }"))
	}
	if c.CommandLine.Enabled && !c.ProcessTable.Enabled {
		errs = append(errs, errors.New("command_line is enabled, which needs process_table: { enabled: true }"))
	}
	if c.CommandLine.Enabled && c.Encoding != event.EncodingRecords {
		errs = append(errs, errors.New("command_line is enabled, which needs encoding: records: the events of frames have no room for it"))
	}
	return errors.Join(append(errs, stage.ValidateRetry(c.Retry), stage.ValidateShutdownTimeout(c.ShutdownTimeout))...)
}
