//go:build linux && kernel

package bpf

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// filled returns n in each byte of a text, so that none of them need be a NUL.
func filled[T [16]int8 | [256]int8](n uint64) (text T) {
	for i := range len(text) {
		text[i] = int8(n)
	}
	return text
}

// change writes what change makes of an entry.
func change[K, V any](t *testing.T, m *ebpf.Map, key K, change func(*V)) {
	t.Helper()
	var value V
	require.NoError(t, m.Lookup(&key, &value))
	change(&value)
	require.NoError(t, m.Put(&key, &value))
}

// fillUp fills a queue with what no entry has.
func fillUp[V any](t *testing.T, queue *ebpf.Map, value V) {
	t.Helper()
	err := error(nil)
	for err == nil {
		err = queue.Update(nil, &value, ebpf.UpdateAny)
	}
	require.ErrorContains(t, err, "argument list too long")
}

// forgeCounts writes n as what one CPU has counted.
func forgeCounts(t *testing.T, table *ProcessTable, n uint64, counts ...uint32) (mend func()) {
	t.Helper()
	var mends []func()
	for _, what := range counts {
		var before, forged []uint64
		require.NoError(t, table.books.maps[processTableMapCounts].Lookup(what, &before))
		forged = append(forged, before...)
		forged[0] = n
		require.NoError(t, table.books.maps[processTableMapCounts].Put(what, forged))
		mends = append(mends, func() { require.NoError(t, table.books.maps[processTableMapCounts].Put(what, before)) })
	}
	return func() {
		for _, mend := range mends {
			mend()
		}
	}
}

// Whatever is written into the process table, opening it ends and succeeds, what is read from it has its bounds, no count becomes
// negative, and the processes that start from then on are in it.
func TestDamagedProcessTable(t *testing.T) {
	type state = processTableKpTableState
	type entry = processTableKpProcessEntry
	type cgroup = processTableKpCgroupEntry
	type forgery struct {
		state  func(*state, uint64)
		entry  func(*entry, uint64)
		cgroup func(*cgroup, uint64)
		table  func(*testing.T, *ProcessTable, uint64) (mend func())
	}
	forgeries := map[string]forgery{
		"generation":        {state: func(s *state, n uint64) { s.Generation = uint32(n) }},
		"with arguments":    {state: func(s *state, n uint64) { s.WithArguments = uint16(n) }},
		"living":            {state: func(s *state, n uint64) { s.Living = uint16(n) }},
		"since":             {state: func(s *state, n uint64) { s.SinceNs = n }},
		"eviction":          {state: func(s *state, n uint64) { s.EvictedExitNs, s.EvictedAfterNs = n, n }},
		"missed":            {state: func(s *state, n uint64) { s.MissedFirstNs, s.MissedLastNs = n, n }},
		"left out":          {state: func(s *state, n uint64) { s.LeftOut, s.CgroupsLeftOut, s.ProgramsLeftOut = n, n, n }},
		"moves of all":      {state: func(s *state, n uint64) { s.Moves = n }},
		"id":                {entry: func(e *entry, n uint64) { e.Id.StartNs = n }},
		"id again":          {entry: func(e *entry, n uint64) { e.StartAgainNs = n }},
		"parent":            {entry: func(e *entry, n uint64) { e.Parent.StartNs, e.Parent.Tgid = n, n }},
		"cgroups":           {entry: func(e *entry, n uint64) { e.CgroupId, e.CgroupV1.Id, e.CgroupV1.Hierarchy = n, n, n }},
		"exec":              {entry: func(e *entry, n uint64) { e.ExecNs = n }},
		"exit":              {entry: func(e *entry, n uint64) { e.ExitNs = n }},
		"version":           {entry: func(e *entry, n uint64) { e.Version = uint32(n) }},
		"moves":             {entry: func(e *entry, n uint64) { e.Moves, e.Earlier[3].UntilNs = uint32(n), n }},
		"flags, seen":       {entry: func(e *entry, n uint64) { e.Flags, e.Seen, e.Program.Flags = uint8(n), uint8(n), uint8(n) }},
		"names without end": {entry: func(e *entry, n uint64) { e.Comm, e.ParentComm = filled[[16]int8](n), filled[[16]int8](n) }},
		"path without end":  {entry: func(e *entry, n uint64) { e.Program.Path, e.Program.Base = filled[[256]int8](n), uint16(n) }},
		"exec number":       {entry: func(e *entry, n uint64) { e.Program.ExecNumber = uint16(n) }},
		"cgroup": {cgroup: func(c *cgroup, n uint64) {
			c.Path, c.Cut, c.Seen, c.Gone = filled[[256]int8](n), uint8(n), uint8(n), uint8(n)
		}},
		"cgroup id": {cgroup: func(c *cgroup, n uint64) { c.Id.Id, c.Again.Hierarchy = n, n }},
		"counts": {table: func(t *testing.T, table *ProcessTable, n uint64) func() {
			return forgeCounts(t, table, n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		}},
		"evictions alone": {table: func(t *testing.T, table *ProcessTable, n uint64) func() { return forgeCounts(t, table, n, 2, 6, 9) }},
		"arguments": {table: func(t *testing.T, table *ProcessTable, n uint64) func() {
			id := processOf(t, table, os.Getpid())
			arguments := processTableKpArguments{StartNs: id.Start, StartAgainNs: id.Start, Length: uint32(n), Text: filled[[256]int8](n)}
			require.NoError(t, table.entries.maps[processTableMapArguments].Put(&processTableKpProcessId{StartNs: id.Start, Tgid: id.TGID}, &arguments))
			return func() {}
		}},
		"who ended": {table: func(t *testing.T, table *ProcessTable, n uint64) func() {
			fillUp(t, table.entries.maps[processTableMapEnded], processTableKpProcessId{StartNs: n, Tgid: n})
			return func() {}
		}},
		"what was replaced": {table: func(t *testing.T, table *ProcessTable, n uint64) func() {
			fillUp(t, table.entries.maps[processTableMapReplaced], processTableKpProgramId{StartNs: n})
			return func() {}
		}},
		"what was removed": {table: func(t *testing.T, table *ProcessTable, n uint64) func() {
			fillUp(t, table.entries.maps[processTableMapRemoved], processTableKpCgroupId{Id: n})
			return func() {}
		}},
	}
	config := ProcessTableConfig{Processes: 4096, Cgroups: 1024, Arguments: true}
	dir := directory(t, pinPath(t))
	table := openTable(t, dir, config)
	defer func() { table.Close() }()
	program := brief(t, "follows")
	// damage writes n where the forgery says, and returns what writes back what was there.
	damage := func(forge forgery, n uint64) (mend func()) {
		t.Helper()
		switch {
		case forge.state != nil:
			before := *table.state()
			forge.state(table.state(), n)
			mend = func() { *table.state() = before }
		case forge.entry != nil:
			own := processOf(t, table, os.Getpid())
			processes, id := table.entries.maps[processTableMapProcesses], processTableKpProcessId{StartNs: own.Start, Tgid: own.TGID}
			var before entry
			change(t, processes, id, func(e *entry) { before = *e; forge.entry(e, n) })
			mend = func() { require.NoError(t, processes.Put(&id, &before)) }
		case forge.cgroup != nil:
			var key processTableKpCgroupId
			cgroups := table.entries.maps[processTableMapCgroups]
			require.NoError(t, cgroups.NextKey(nil, &key))
			var before cgroup
			change(t, cgroups, key, func(c *cgroup) { before = *c; forge.cgroup(c, n) })
			path, _, _, err := table.Cgroup(CgroupID{ID: key.Id, Hierarchy: key.Hierarchy})
			require.NoError(t, err)
			assert.LessOrEqual(t, len(path), 256)
			mend = func() { require.NoError(t, cgroups.Put(&key, &before)) }
		default:
			mend = forge.table(t, table, n)
		}
		return mend
	}
	look := func(what string) {
		t.Helper()
		own := processOf(t, table, os.Getpid())
		for _, number := range []uint16{0, 1, math.MaxUint16} {
			entry := programOf(t, table, own, number)
			if entry == nil {
				continue
			}
			path, _ := entry.Path()
			arguments, _, _ := entry.ArgumentList()
			places, _ := entry.EarlierV1()
			assert.LessOrEqual(t, len(path)+len(entry.BaseName()), 512, what)
			assert.LessOrEqual(t, len(entry.Comm())+len(entry.ParentComm()), 32, what)
			assert.LessOrEqual(t, len(arguments), 256, what)
			assert.LessOrEqual(t, len(places), 4, what)
		}
		counts, err := table.Counts()
		require.NoError(t, err)
		if what != "counts" { // there is no more in it than was put in
			assert.LessOrEqual(t, max(counts.Entries(), counts.Cgroups.Entries(), counts.Programs.Entries()), uint64(1<<20), what)
		}
		assert.False(t, counts.Kept < 0, "%s: %s", what, counts.Kept)
		table.Had(own)
		table.Moves(uint32(own.TGID))
	}
	reopen := func(what string, leave func()) {
		t.Helper()
		leave()
		table.Close()
		table = openTable(t, dir, config)
		look(what)
		links := 0
		for _, pin := range entriesOf(t, dir.Path()) {
			if strings.HasPrefix(pin, probesLinks) {
				links++
			}
		}
		assert.Equal(t, 1, links, "%s: generations that are attached", what)
	}
	for name, forge := range forgeries {
		for _, n := range []uint64{0, 0xa5a5_a5a5_5a5a_5a5a, math.MaxUint64} {
			mend := damage(forge, n)
			look(name)
			mend()
		}
	}
	// Those that have been written back have left the table as it was; the queues are full of nonsense.
	reopen("a kill", func() {})
	for _, n := range []uint64{math.MaxUint64, 0xa5a5_a5a5_5a5a_5a5a} {
		for name, forge := range forgeries {
			if name != "counts" && (forge.entry == nil || name != "id") { // without an id there is no entry to look at
				damage(forge, n)
			}
		}
		reopen("everything", func() {
			require.NoError(t, table.Detach())
			require.NoError(t, exec.Command(program).Run())
			config.Processes, config.Cgroups = config.Processes/2, config.Cgroups/2
		})
	}
	damage(forgeries["generation"], math.MaxUint64)
	reopen("generation", func() {})
	cmd := exec.Command(program)
	require.NoError(t, cmd.Run())
	last := entryOf(t, table, processOf(t, table, cmd.Process.Pid))
	require.NotNil(t, last)
	assert.Equal(t, filepath.Base(program), last.BaseName())
	assert.NotZero(t, last.Exit())
	require.NoError(t, table.Detach())
}
