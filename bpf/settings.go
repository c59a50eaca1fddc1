//go:build linux

package bpf

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Category numbers, as on the wire: enum kp_category.
const (
	categorySyscall = iota + 1
	categoryNetwork
	categoryFilesystem
	categoryProcess
	categories
)

// MaxCommands is how many commands a Filter can name.
const MaxCommands = 16

// maxSyscalls is MAX_SYSCALLS: one more than the largest number that is traced.
const maxSyscalls = 512

// The flags of a filter; enum filter_flag.
const (
	filterEnabled = 1 << iota
	filterErrorsOnly
	filterPID
	filterUID
	filterCommand
)

// Range is an inclusive range of pids or uids.
type Range struct{ Min, Max uint32 }

// Filter says which events of a category are wanted. Conditions that are not set are met by all.
type Filter struct {
	// Operations has bit n set if operation n is wanted; 0: all. In the syscall category it has no meaning.
	Operations  uint32
	ErrorsOnly  bool
	MinDuration time.Duration
	PID, UID    *Range
	Commands    []string // exact, at most 15 bytes each, at most MaxCommands
}

// Settings say what the probes emit. A nil Filter switches its category off.
type Settings struct {
	Syscall, Network, Filesystem, Process *Filter
	// Syscalls are the numbers of the system calls wanted in the syscall category.
	Syscalls []int
}

// active reports whether any category is on.
func (s *Settings) active() bool {
	return s.Syscall != nil || s.Network != nil || s.Filesystem != nil || s.Process != nil
}

// filters returns the filters by category number.
func (s *Settings) filters() [categories]*Filter {
	return [categories]*Filter{categorySyscall: s.Syscall, categoryNetwork: s.Network, categoryFilesystem: s.Filesystem, categoryProcess: s.Process}
}

// programs returns the probes that the settings need: nothing is attached that is not asked for.
func (s *Settings) programs(taskStorage bool) []string {
	var names []string
	if s.Syscall != nil || s.Network != nil || s.Filesystem != nil {
		if taskStorage {
			names = append(names, probesProgSysEnter, probesProgSysExit)
		} else {
			names = append(names, probesProgSysEnterByTid, probesProgSysExitByTid)
		}
	}
	if s.Network != nil {
		names = append(names, probesProgInetSockSetState, probesProgTcpRetransmitSkb)
	}
	if s.Process != nil {
		names = append(names, probesProgSchedProcessFork, probesProgSchedProcessExec, probesProgSchedProcessExit)
	}
	return names
}

// kernel translates the settings. Generation and self are set by the caller.
func (s *Settings) kernel() (*probesKpSettings, error) {
	var k probesKpSettings
	for category, filter := range s.filters() {
		if filter == nil {
			continue
		}
		to := &k.Filter[category]
		to.Flags = filterEnabled
		to.Operations = ^uint32(0)
		if filter.Operations != 0 {
			to.Operations = filter.Operations
		}
		if filter.ErrorsOnly {
			to.Flags |= filterErrorsOnly
		}
		to.MinDurationNs = uint64(filter.MinDuration)
		if r := filter.PID; r != nil {
			to.Flags |= filterPID
			to.PidMin, to.PidMax = r.Min, r.Max
		}
		if r := filter.UID; r != nil {
			to.Flags |= filterUID
			to.UidMin, to.UidMax = r.Min, r.Max
		}
		if len(filter.Commands) > MaxCommands {
			return nil, fmt.Errorf("%d commands in one filter, at most %d", len(filter.Commands), MaxCommands)
		}
		for i, command := range filter.Commands {
			var name [16]byte
			if copy(name[:15], command) < len(command) {
				return nil, fmt.Errorf("command %q has %d bytes, the kernel keeps 15", command, len(command))
			}
			to.Flags |= filterCommand
			to.Commands = uint32(i + 1)
			to.Command[i] = [2]uint64{binary.NativeEndian.Uint64(name[:8]), binary.NativeEndian.Uint64(name[8:])}
		}
	}
	return &k, s.rules(&k)
}

// rules sets, for each system call, what it does and which categories may want it.
func (s *Settings) rules(k *probesKpSettings) error {
	for number, kind := range syscallKinds() {
		rule := &k.Rule[number]
		rule.Kind = uint8(kind)
		if s.Network != nil && kind.network() {
			rule.Wanted |= 1 << categoryNetwork
		}
		if s.Filesystem != nil && kind.filesystem() {
			rule.Wanted |= 1 << categoryFilesystem
		}
	}
	if s.Syscall == nil {
		return nil
	}
	for _, number := range s.Syscalls {
		if number < 0 || number >= maxSyscalls {
			return fmt.Errorf("system call number %d is not below %d", number, maxSyscalls)
		}
		k.Rule[number].Wanted |= 1 << categorySyscall
	}
	return nil
}
