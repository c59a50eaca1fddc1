//go:build linux && kernel

package bpf

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/internal/syscalls"
)

func haveTaskStorage() bool {
	return features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnTaskStorageGet) == nil
}

// The start of a system call is kept in its task, or where the kernel can't do that in a hash: the events are
// the same. A kernel that can't uses the hash unasked.
func TestStartsOfSystemCalls(t *testing.T) {
	for name, without := range map[string]bool{"in the task": false, "by thread": true} {
		t.Run(name, func(t *testing.T) {
			const writes, size = 50, 100
			dd, err := exec.LookPath("dd")
			require.NoError(t, err)
			command := filepath.Join(t.TempDir(), "kp-writes")
			require.NoError(t, os.Symlink(dd, command))
			p, err := OpenProbes(directory(t, ""), ProbesConfig{
				RingSize: 1 << 20, ElementSize: eventSize, withoutTaskStorage: without,
				Settings: Settings{Filesystem: &Filter{Commands: []string{"kp-writes"}, Operations: 1 << filesystemWrite}},
			})
			require.NoError(t, err)
			defer p.Close()
			require.Equal(t, haveTaskStorage() && !without, p.taskStorage)
			require.NoError(t, p.Attach())
			output, err := exec.Command(command, "if=/dev/zero", "of="+filepath.Join(t.TempDir(), "file"), "bs=100", "count=50", "status=none").CombinedOutput()
			require.NoError(t, err, "%s", output)
			require.NoError(t, p.Detach())

			records := p.Ring().Read(MaxBatch).Records
			assert.Len(t, records, writes)
			for _, record := range records {
				assert.NotZero(t, binary.NativeEndian.Uint64(record[8:]), "duration")
				assert.EqualValues(t, size, binary.NativeEndian.Uint64(record[16:]), "bytes")
				assert.Zero(t, record[85], "flags")
			}
			counts, err := p.Counts()
			require.NoError(t, err)
			assert.Equal(t, Counts{Produced: writes}, counts[categoryFilesystem])
			missed, err := p.Missed()
			require.NoError(t, err)
			assert.Zero(t, missed.Starts)
		})
	}
}

// Nothing is loaded and attached that is not asked for.
func TestProgramsBySettings(t *testing.T) {
	all := &Filter{}
	systemCalls := []string{"signal_deliver", "sys_enter", "sys_exit"}
	connections := append(slices.Clone(systemCalls), "inet_sock_set_state", "tcp_retransmit_skb", "tcp_retransmit_synack", "io_uring")
	transfers := append(slices.Clone(systemCalls), "io_uring")
	for _, test := range []struct {
		name     string
		settings Settings
		want     []string
	}{
		{"nothing", Settings{}, nil},
		{"system calls", Settings{Syscall: all, Syscalls: []int{1}}, systemCalls},
		{"no system call", Settings{Syscall: all}, nil},
		{"network", Settings{Network: all}, connections},
		{"bytes", Settings{Network: &Filter{Operations: 1<<networkSend | 1<<networkReceive}}, transfers},
		{"retransmissions", Settings{Network: &Filter{Operations: 1 << networkRetransmit}}, connections},
		{"filesystem", Settings{Filesystem: all}, transfers},
		{"process", Settings{Process: all}, []string{"sched_process_fork", "sched_process_exec", "sched_process_exit"}},
		{"exits", Settings{Process: &Filter{Operations: 1 << processExit}}, []string{"sched_process_exit"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, test.settings.programs(true, []string{"io_uring"}))
		})
	}
}

// A category that is on for some operations leaves the other system calls alone.
func TestRulesBySettings(t *testing.T) {
	settings := Settings{
		Filesystem: &Filter{Operations: 1 << filesystemOpen}, Network: &Filter{Operations: 1 << networkClose}, Process: &Filter{},
		Syscall: &Filter{}, Syscalls: []int{numberOf(t, "execve"), numberOf(t, "getpid")},
	}
	wanted := map[int]uint8{}
	for number, rule := range settings.rules() {
		if rule.wanted != 0 {
			wanted[number] = rule.wanted
		}
	}
	want := map[int]uint8{
		numberOf(t, "execve"): 1<<categorySyscall | 1<<categoryProcess, numberOf(t, "getpid"): 1 << categorySyscall,
		numberOf(t, "openat"): 1 << categoryFilesystem, numberOf(t, "openat2"): 1 << categoryFilesystem,
		numberOf(t, "accept"): 1 << categoryNetwork, numberOf(t, "accept4"): 1 << categoryNetwork, // to know whose a connection is
	}
	for number, kind := range syscallKinds() {
		if kind == syscallOpen {
			want[number] = 1 << categoryFilesystem
		}
	}
	assert.Equal(t, want, wanted)
}

func numberOf(t *testing.T, name string) int {
	t.Helper()
	number, ok := syscalls.Number(name)
	require.True(t, ok, name)
	return number
}
