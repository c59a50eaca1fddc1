package bpfreceiver

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/confmap"

	"github.com/kernelpipe/kernelpipe/internal/match"
	"github.com/kernelpipe/kernelpipe/internal/syscalls"
)

// SyscallConfig says which system calls are wanted. The conditions are those of ProbeConfig.
type SyscallConfig struct {
	// Include names the system calls that are wanted, and no others are. Empty: all but the excluded ones.
	Include []string `mapstructure:"include"`
	// Exclude names system calls that are not wanted. Without Include it has a default.
	Exclude     []string      `mapstructure:"exclude"`
	PID         match.Range   `mapstructure:"pid"`
	UID         match.Range   `mapstructure:"uid"`
	Command     []string      `mapstructure:"command"`
	ErrorsOnly  bool          `mapstructure:"errors_only"`
	MinDuration time.Duration `mapstructure:"min_duration"`
}

// Unmarshal refuses unknown names with the valid ones. With an include list the default of exclude is void.
func (c *SyscallConfig) Unmarshal(conf *confmap.Conf) error {
	if err := checkKeys(conf, "include", "exclude", "pid", "uid", "command", "errors_only", "min_duration"); err != nil {
		return err
	}
	if conf.IsSet("include") && !conf.IsSet("exclude") {
		c.Exclude = nil
	}
	return conf.Unmarshal(c)
}

// neverReturns are the system calls that have no end to report.
var neverReturns = map[string]string{
	"exit":         "an exit of a process is an event of category process",
	"exit_group":   "an exit of a process is an event of category process",
	"rt_sigreturn": "it goes back to what a signal interrupted",
}

// Validate reports everything that is wrong.
func (c *SyscallConfig) Validate() error {
	var errs []error
	for _, list := range []struct {
		key   string
		names []string
	}{{"include", c.Include}, {"exclude", c.Exclude}} {
		for _, name := range list.names {
			if !knownSyscall(name) {
				errs = append(errs, fmt.Errorf("%s: %w", list.key, unknownSyscall(name)))
			}
		}
	}
	for _, name := range c.Include {
		if why, ok := neverReturns[name]; ok {
			errs = append(errs, fmt.Errorf("include: %s never returns, so it has no event: remove it (%s)", name, why))
		}
		if slices.Contains(c.Exclude, name) {
			errs = append(errs, fmt.Errorf("include and exclude both name %s: remove it from one of them", name))
		}
	}
	conditions := match.Config{PID: c.PID, UID: c.UID, Command: c.Command, ErrorsOnly: c.ErrorsOnly, MinDuration: c.MinDuration}
	errs = append(errs, conditions.Validate())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(syscalls.Names()) > 0 && len(c.numbers()) == 0 {
		return errors.New("every system call is excluded: shorten exclude, or leave out syscall")
	}
	return nil
}

// numbers returns the numbers of the system calls that are wanted, of those that this architecture has.
func (c *SyscallConfig) numbers() []int {
	names := c.Include
	if len(names) == 0 {
		names = syscalls.Names()
	}
	var numbers []int
	for _, name := range names {
		number, ok := syscalls.Number(name)
		if _, never := neverReturns[name]; ok && !never && number < match.MaxSyscalls && !slices.Contains(c.Exclude, name) {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// knownSyscall accepts the names of this architecture and those of the default list, which other architectures
// have; and every name where none is known, for a configuration is valid or not wherever it is looked at.
func knownSyscall(name string) bool {
	if _, ok := syscalls.Number(name); ok {
		return true
	}
	return name != "" && (len(syscalls.Names()) == 0 || slices.Contains(defaultExclude(), name))
}

// suggestionDistance is how many letters may differ in a name that is suggested.
const suggestionDistance = 3

func unknownSyscall(name string) error {
	stem := strings.TrimPrefix(strings.TrimPrefix(name, "__x64_"), "sys_")
	best, distance := "", suggestionDistance+1
	for _, candidate := range syscalls.Names() {
		if d := editDistance(stem, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return fmt.Errorf("unknown system call %q on %s: see syscalls(2) for names", name, runtime.GOARCH)
	}
	return fmt.Errorf("unknown system call %q on %s: did you mean %s?", name, runtime.GOARCH, best)
}

// editDistance is how many letters to insert, remove or replace to turn a into b (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
