//go:build linux

package bpf

import (
	"encoding/binary"
	"fmt"
	"slices"
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

// wants reports whether the filter wants any of operations; a nil Filter wants none.
func (f *Filter) wants(operations uint32) bool {
	return f != nil && operations != 0 && (f.Operations == 0 || f.Operations&operations != 0)
}

// filters returns the filters by category number.
func (s *Settings) filters() [categories]*Filter {
	return [categories]*Filter{categorySyscall: s.Syscall, categoryNetwork: s.Network, categoryFilesystem: s.Filesystem, categoryProcess: s.Process}
}

// programs returns the probes that the settings need: nothing is attached that is not asked for. uring are those for io_uring.
func (s *Settings) programs(taskStorage bool, uring []string) []string {
	var names []string
	need := func(needed bool, programs ...string) {
		if needed {
			names = append(names, programs...)
		}
	}
	systemCalls := slices.ContainsFunc(s.rules(), func(rule syscallRule) bool { return rule.wanted != 0 })
	need(systemCalls, probesProgSignalDeliver)
	need(systemCalls && taskStorage, probesProgSysEnter, probesProgSysExit)
	need(systemCalls && !taskStorage, probesProgSysEnterByTid, probesProgSysExitByTid)
	// Whose a connection is that ends or retransmits is known from its beginning.
	need(s.Network.wants(1<<networkConnect|1<<networkClose|1<<networkRetransmit), probesProgInetSockSetState)
	need(s.Network.wants(1<<networkRetransmit), probesProgTcpRetransmitSkb, probesProgTcpRetransmitSynack)
	need(s.Network != nil || s.Filesystem != nil, uring...)
	need(s.Process.wants(1<<processFork), probesProgSchedProcessFork)
	need(s.Process.wants(1<<processExec), probesProgSchedProcessExec)
	need(s.Process.wants(1<<processExit), probesProgSchedProcessExit)
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
	for _, number := range s.Syscalls {
		if number < 0 || number >= maxSyscalls {
			return nil, fmt.Errorf("system call number %d is not below %d", number, maxSyscalls)
		}
	}
	for number, rule := range s.rules() {
		k.Rule[number].Kind, k.Rule[number].Wanted = uint8(rule.kind), rule.wanted
	}
	return &k, nil
}

// syscallRule says what a system call does and which categories may want it; struct syscall_rule.
type syscallRule struct {
	kind   syscallKind
	wanted uint8 // bit n: category n
}

// rules returns the rules by the number of the system call.
func (s *Settings) rules() []syscallRule {
	rules := make([]syscallRule, maxSyscalls)
	if s.Syscall != nil {
		for _, number := range s.Syscalls {
			if number >= 0 && number < maxSyscalls {
				rules[number].wanted = 1 << categorySyscall
			}
		}
	}
	for number, kind := range syscallKinds() {
		rule, can := &rules[number], syscallOperations[kind]
		rule.kind = kind
		if s.Network.wants(can[categoryNetwork]) {
			rule.wanted |= 1 << categoryNetwork
		}
		if s.Filesystem.wants(can[categoryFilesystem]) {
			rule.wanted |= 1 << categoryFilesystem
		}
		if rule.wanted != 0 && s.Process.wants(can[categoryProcess]) { // process events have tracepoints of their own
			rule.wanted |= 1 << categoryProcess
		}
	}
	return rules
}
