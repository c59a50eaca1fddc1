//go:build linux && kernel

package bpf

import (
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkExec is a process that is forked, executes a program, and ends: without the table, and with it. ns/table is
// what the table's three programs took of that, as the kernel measures it.
func BenchmarkExec(b *testing.B) {
	for _, bench := range []struct {
		name   string
		config *ProcessTableConfig
	}{
		{"without", nil},
		{"table", &ProcessTableConfig{Processes: 1 << 15, Cgroups: 1 << 12}},
		{"table_full", &ProcessTableConfig{Processes: 1 << 10, Cgroups: 1 << 12}},
		{"table_arguments", &ProcessTableConfig{Processes: 1 << 15, Cgroups: 1 << 12, Arguments: true}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			program := brief(b, "brief")
			spent := func() (total float64) { return 0 }
			if bench.config != nil {
				table := openTable(b, directory(b, ""), *bench.config)
				defer table.Close()
				stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
				require.NoError(b, err)
				defer func() { require.NoError(b, stats.Close()) }()
				spent = func() (total float64) {
					for _, name := range []string{processTableProgTableFork, processTableProgTableExec, processTableProgTableExit} {
						stats, err := table.programs.Programs[name].Stats()
						require.NoError(b, err)
						total += float64(stats.Runtime) / float64(max(stats.RunCount, 1)) // others fork, too
						if name == processTableProgTableExec {
							b.ReportMetric(float64(stats.Runtime)/float64(max(stats.RunCount, 1)), "ns/exec-program")
						}
					}
					return total
				}
			}
			attributes := &syscall.ProcAttr{Files: []uintptr{0, 1, 2}}
			for b.Loop() {
				pid, err := syscall.ForkExec(program, []string{program}, attributes)
				require.NoError(b, err)
				var status syscall.WaitStatus
				_, err = syscall.Wait4(pid, &status, 0, nil)
				require.NoError(b, err)
			}
			if bench.config != nil {
				b.ReportMetric(spent(), "ns/table")
			}
		})
	}
}

// BenchmarkLookUp is a process that is looked up: alone, and with 63 others.
func BenchmarkLookUp(b *testing.B) {
	table := openTable(b, directory(b, ""), sizes)
	defer table.Close()
	var ids []ProgramID
	require.NoError(b, all(table.entries.maps[processTableMapProcesses], func(id processTableKpProcessId, _ processTableKpProcessEntry) error {
		ids = append(ids, ProgramID{ProcessID: ProcessID{Start: id.StartNs, TGID: id.Tgid}})
		return nil
	}))
	for len(ids) < maxAsked {
		ids = append(ids, ids...)
	}
	for name, n := range map[string]int{"alone": 1, "together": maxAsked} {
		b.Run(name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				require.NoError(b, table.LookUp(ids[:n], func(int, *ProcessEntry) { found++ }))
			}
			require.Positive(b, found)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/process")
		})
	}
}

// What 100,000 processes cost, as the kernel states it.
func TestMemoryOfTheTable(t *testing.T) {
	table := openTable(t, directory(t, ""), ProcessTableConfig{Processes: 100_000, Cgroups: 4096})
	defer table.Close()
	t.Logf("%d bytes", table.Memory())
	require.Greater(t, table.Memory(), uint64(100_000*500))
	require.Less(t, table.Memory(), uint64(100_000*1400))
}
