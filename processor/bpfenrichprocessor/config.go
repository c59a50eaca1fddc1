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

// Validate reports what is wrong beyond that which the blocks report themselves.
func (c *Config) Validate() error {
	errs := []error{stage.ValidatePinPath(c.PinPath)}
	if c.LookupTimeout < 0 {
		errs = append(errs, fmt.Errorf("lookup_timeout is %s, must not be negative: use 0s to never wait", c.LookupTimeout))
	}
	if c.PasswdFile != "" && !path.IsAbs(c.PasswdFile) {
		errs = append(errs, fmt.Errorf("passwd_file is %q, must be an absolute path such as /etc/passwd, or empty for no user names", c.PasswdFile))
	}
	return errors.Join(append(errs, stage.ValidateRetry(c.Retry))...)
}
