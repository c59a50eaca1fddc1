//go:build linux && kernel

package bpf

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/boottime"
	"github.com/kernelpipe/kernelpipe/internal/testprogram"
)

func openTable(t testing.TB, dir *Directory, config ProcessTableConfig) *ProcessTable {
	t.Helper()
	table, err := OpenProcessTable(dir, config)
	require.NoError(t, err)
	return table
}

// processOf returns the process with a pid: of those that had it, the last to be started.
func processOf(t testing.TB, table *ProcessTable, pid int, message ...any) ProcessID {
	t.Helper()
	var found ProcessID
	require.NoError(t, all(table.entries.maps[processTableMapProcesses], func(id processTableKpProcessId, _ processTableKpProcessEntry) error {
		if id.Tgid == uint64(pid) && id.StartNs > found.Start {
			found = ProcessID{Start: id.StartNs, TGID: id.Tgid}
		}
		return nil
	}))
	require.NotZero(t, found, message...)
	return found
}

// entryOf returns the entry of a process with the program that it runs, or ran last.
func entryOf(t testing.TB, table *ProcessTable, id ProcessID) *ProcessEntry {
	t.Helper()
	return programOf(t, table, id, 0)
}

func programOf(t testing.TB, table *ProcessTable, id ProcessID, number uint16) *ProcessEntry {
	t.Helper()
	var got *ProcessEntry
	require.NoError(t, table.LookUp([]ProgramID{{id, number}}, func(_ int, entry *ProcessEntry) {
		copied := *entry
		got = &copied
	}))
	return got
}

// brief returns the path of a program that ends at once.
func brief(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, testprogram.Write(path, testprogram.Brief))
	return path
}

// sizes leave room for what else starts and ends while a test runs.
var sizes = ProcessTableConfig{Processes: 1 << 14, Cgroups: 1024}

func TestTableHasWhatRunsAlready(t *testing.T) {
	table := openTable(t, directory(t, ""), sizes)
	defer table.Close()
	own := entryOf(t, table, processOf(t, table, os.Getpid()))
	require.NotNil(t, own)
	executable, err := os.Executable()
	require.NoError(t, err)
	path, cut := own.Path()
	assert.Equal(t, executable, path)
	assert.False(t, cut)
	assert.Equal(t, filepath.Base(executable), own.BaseName())
	assert.EqualValues(t, os.Getppid(), own.Parent().TGID)
	assert.True(t, own.Found())
	assert.False(t, own.Nameless())
	assert.Zero(t, own.Exit())
	kthread := entryOf(t, table, processOf(t, table, 2))
	if kthread != nil && kthread.Comm() == "kthreadd" {
		assert.True(t, kthread.Nameless())
		assert.Empty(t, kthread.BaseName())
	}
	counts, err := table.Counts()
	require.NoError(t, err)
	assert.Positive(t, counts.Found)
	assert.Positive(t, counts.Cgroups.Put)
	t.Logf("%+v, %d bytes", counts, table.Memory())
}

func TestTableFollowsAProcess(t *testing.T) {
	config := sizes
	config.Arguments = true
	table := openTable(t, directory(t, ""), config)
	defer table.Close()
	first, program := brief(t, "first"), brief(t, "second program")
	before := boottime.Now()
	cmd := exec.Command(first, program)
	require.NoError(t, cmd.Start())
	require.NoError(t, cmd.Wait())
	id := processOf(t, table, cmd.Process.Pid)
	entry := entryOf(t, table, id)
	require.NotNil(t, entry)
	path, cut := entry.Path()
	assert.Equal(t, program, path)
	assert.False(t, cut)
	assert.Equal(t, "second program", entry.BaseName())
	assert.Equal(t, "second program", entry.Comm())
	assert.EqualValues(t, os.Getpid(), entry.Parent().TGID)
	assert.Equal(t, processOf(t, table, os.Getpid()), entry.Parent())
	own, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSuffix(string(own), "\n"), entry.ParentComm())
	assert.Greater(t, entry.Exit(), entry.Since())
	assert.Greater(t, entry.Since(), before)
	assert.False(t, entry.Found())
	number := entry.ExecNumber()
	self, err := os.Executable()
	require.NoError(t, err)
	for i, want := range []string{program, first, self} {
		before := programOf(t, table, id, number-uint16(i))
		path, cut := before.Path()
		assert.Equal(t, want, path)
		assert.False(t, cut)
		assert.Equal(t, filepath.Base(want), before.BaseName())
		assert.Equal(t, entry.Parent(), before.Parent())
		_, _, ok := before.ArgumentList()
		assert.Equal(t, i == 0, ok)
	}
	assert.Equal(t, entryOf(t, table, entry.Parent()).ExecNumber(), number-2, "it began with its parent's program")
	assert.True(t, programOf(t, table, id, number-3).Forgotten(), "what it never ran is not known")
	assert.Nil(t, programOf(t, table, id, number+1), "what it does not run yet is not there yet")
	arguments, cut, ok := entry.ArgumentList()
	assert.True(t, ok)
	assert.False(t, cut)
	assert.Equal(t, program+"\x00", string(arguments))
}

func TestHostilePaths(t *testing.T) {
	table := openTable(t, directory(t, ""), sizes)
	defer table.Close()
	long := strings.Repeat("x", 255)
	for name, test := range map[string]struct {
		dir, base string
		cut       bool
	}{
		"newlines, escapes, invalid UTF-8": {"a\n\x1b[31mb", "c\xff\xfe\r\n", false},
		"longest name":                     {"a", long, true},
		"254 bytes":                        {"a", long[1:], true},
		"253 bytes":                        {"a", long[2:], true},
		"4,096 characters":                 {strings.Repeat(strings.Repeat("d", 99)+"/", 39), "end", true},
		"many components":                  {strings.Repeat("d/", 100), "end", true},
	} {
		t.Run(name, func(t *testing.T) {
			// Below a short directory, entered step by step: no path of a system call may be that long.
			root := t.TempDir()
			dir := filepath.Join(root, test.dir)
			program := filepath.Join(dir, test.base)
			require.NoError(t, os.MkdirAll(dir, 0o700))
			require.NoError(t, testprogram.Write(program, testprogram.Brief))
			cmd := exec.Command(program)
			require.NoError(t, cmd.Run())
			entry := entryOf(t, table, processOf(t, table, cmd.Process.Pid))
			require.NotNil(t, entry)
			path, cut := entry.Path()
			assert.Equal(t, test.cut, cut)
			assert.Equal(t, test.base, entry.BaseName())
			if cut {
				assert.True(t, strings.HasSuffix(program, path), "%q", path)
			} else {
				assert.Equal(t, program, path)
			}
		})
	}
}

func TestExecutableInNoDirectory(t *testing.T) {
	table := openTable(t, directory(t, ""), sizes)
	defer table.Close()
	content, err := os.ReadFile(brief(t, "any"))
	require.NoError(t, err)
	fd, err := unix.MemfdCreate("hidden", 0)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fd), "hidden")
	defer func() { _ = file.Close() }()
	_, err = file.Write(content)
	require.NoError(t, err)
	cmd := exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd))
	require.NoError(t, cmd.Run())
	path, _ := entryOf(t, table, processOf(t, table, cmd.Process.Pid)).Path()
	assert.Equal(t, "memfd:hidden", path)
}

// The table is full of processes that have ended, and goes on: those that ended first make room. Processes of others end
// meanwhile, any number of them, so what is asked is asked while it is sure to be there, or in an order in which that does not matter.
func TestEvictionInTheOrderOfTheEnds(t *testing.T) {
	running, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	config := ProcessTableConfig{Processes: len(running) + 300, Cgroups: 1024}
	table := openTable(t, directory(t, ""), config)
	defer table.Close()
	endless := filepath.Join(t.TempDir(), "endless")
	require.NoError(t, testprogram.Write(endless, testprogram.Endless))
	var ids []ProcessID
	for len(ids) < 2*config.Processes { // one after the other
		cmd := exec.Command(endless)
		require.NoError(t, cmd.Start())
		ids = append(ids, processOf(t, table, cmd.Process.Pid, "what lives is not thrown out"))
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	counts, err := table.Counts()
	require.NoError(t, err)
	t.Logf("%+v", counts)
	assert.Positive(t, counts.Kept)
	assert.Zero(t, counts.Full)
	there := map[ProcessID]bool{}
	slices.Reverse(ids) // what is thrown out meanwhile has been asked for last
	var programs []ProgramID
	for _, id := range ids {
		programs = append(programs, ProgramID{ProcessID: id})
	}
	require.NoError(t, table.LookUp(programs, func(i int, entry *ProcessEntry) {
		there[ids[i]] = true
		assert.Equal(t, ids[i].TGID, entry.Process.Id.Tgid)
	}))
	kept := 0
	for kept < len(ids) && there[ids[kept]] {
		kept++
	}
	assert.Len(t, there, kept, "one that ended earlier is there, one that ended later is not")
	assert.Less(t, kept, config.Processes)
	for _, id := range ids[kept:] {
		assert.True(t, table.Had(id))
		assert.False(t, table.Had(ProcessID{Start: 1, TGID: id.TGID}), "before the table was made")
	}
	require.Eventually(t, func() bool { // as soon as nothing starts or ends for a moment
		before, err := table.Counts()
		require.NoError(t, err)
		entries := uint64(0)
		require.NoError(t, all(table.entries.maps[processTableMapProcesses], func(processTableKpProcessId, processTableKpProcessEntry) error {
			entries++
			return nil
		}))
		after, err := table.Counts()
		require.NoError(t, err)
		return before == after && entries == before.Entries()
	}, 20*time.Second, time.Millisecond)
}

func TestRestarts(t *testing.T) {
	path := pinPath(t)
	program := brief(t, "true")
	endless := filepath.Join(t.TempDir(), "endless")
	require.NoError(t, testprogram.Write(endless, testprogram.Endless))
	run := func() int {
		cmd := exec.Command(program)
		require.NoError(t, cmd.Run())
		return cmd.Process.Pid
	}
	open := func(config ProcessTableConfig) (*ProcessTable, *Directory) {
		dir, err := OpenDirectory(path, "table")
		require.NoError(t, err)
		return openTable(t, dir, config), dir
	}
	first, dir := open(sizes)
	since := first.state().SinceNs
	before := processOf(t, first, run())
	first.Close() // as a kill does it: the programs go on
	require.NoError(t, dir.Close())
	between := run()

	second, dir := open(sizes)
	assert.Equal(t, since, second.state().SinceNs, "nothing was missed")
	assert.NotNil(t, entryOf(t, second, before))
	id := processOf(t, second, between)
	assert.Equal(t, "true", entryOf(t, second, id).BaseName())

	sleeper := exec.Command(endless)
	require.NoError(t, sleeper.Start())
	asleep := processOf(t, second, sleeper.Process.Pid)
	require.NoError(t, second.Detach())
	second.Close()
	require.NoError(t, dir.Close())
	require.NoError(t, sleeper.Process.Kill()) // nobody sees it
	_ = sleeper.Wait()

	larger := ProcessTableConfig{Processes: 1 << 15, Cgroups: 2048, Arguments: true}
	third, dir := open(larger)
	assert.Greater(t, third.state().SinceNs, since)
	assert.NotNil(t, entryOf(t, third, before))
	assert.NotNil(t, entryOf(t, third, id))
	assert.NotZero(t, entryOf(t, third, asleep).Exit(), "it has ended unseen")
	after := processOf(t, third, run())
	third.Close()
	require.NoError(t, dir.Close())

	// Smaller, while the programs go on: those that ended first are left out.
	running, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	fourth, dir := open(ProcessTableConfig{Processes: len(running) + 50, Cgroups: 1024})
	assert.NotNil(t, entryOf(t, fourth, after))
	counts, err := fourth.Counts()
	require.NoError(t, err)
	t.Logf("%+v", counts)
	numbers, err := dir.numbered(tableEntries)
	require.NoError(t, err)
	assert.Len(t, numbers, 1, "the other shapes are gone")
	numbers, err = dir.numbered(probesLinks)
	require.NoError(t, err)
	assert.Len(t, numbers, 1)
	assert.NotNil(t, entryOf(t, fourth, processOf(t, fourth, run())))
	require.NoError(t, fourth.Detach())
	fourth.Close()
	require.NoError(t, dir.Close())
}

// shell starts a shell that waits for proceed before it goes on with the script, as the table has it.
func shell(t *testing.T, table *ProcessTable, script string, arguments ...string) (cmd *exec.Cmd, id ProcessID, proceed func()) {
	t.Helper()
	cmd = exec.Command("/bin/sh", append([]string{"-c", "read x; " + script}, arguments...)...)
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	id = processOf(t, table, cmd.Process.Pid)
	require.Eventually(t, func() bool { return entryOf(t, table, id).Comm() == "sh" }, 10*time.Second, time.Millisecond)
	return cmd, id, func() {
		_, err := io.WriteString(input, "\n")
		require.NoError(t, err)
	}
}

// While the table is not kept, processes become other programs. What it has of those is right again when it is kept again;
// what it has of the others stays.
func TestProgramsExecutedInAGap(t *testing.T) {
	config := sizes
	config.Arguments = true
	programs := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(programs), 0o755)) // another user executes what is in it
	endless := filepath.Join(programs, "endless")
	require.NoError(t, testprogram.Write(endless, testprogram.Endless))
	require.NoError(t, os.Chmod(endless, 0o755))
	dir := directory(t, pinPath(t))
	first := openTable(t, dir, config)

	lasting := exec.Command(brief(t, "brief"), endless, "argument")
	require.NoError(t, lasting.Start())
	stays := processOf(t, first, lasting.Process.Pid)
	require.Eventually(t, func() bool { return entryOf(t, first, stays).BaseName() == "endless" }, 10*time.Second, time.Millisecond)
	defer func() {
		_ = lasting.Process.Kill()
		_ = lasting.Wait()
	}()
	other, changes, toOther := shell(t, first, "exec setpriv --reuid 12345 "+endless)
	again, executes, toItself := shell(t, first, `exec /bin/sh -c "read y" twice`)
	ending, ends, toEnd := shell(t, first, "exit 0")
	had := *entryOf(t, first, stays)
	before := []ProcessEntry{*entryOf(t, first, changes), *entryOf(t, first, executes), *entryOf(t, first, ends)}
	for _, entry := range before {
		_, _, ok := entry.ArgumentList()
		assert.True(t, ok)
	}
	require.NoError(t, first.Detach())
	first.Close()

	toOther()
	toItself()
	toEnd()
	command := func(cmd *exec.Cmd) string {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
		require.NoError(t, err)
		return string(line)
	}
	require.Eventually(t, func() bool { return command(other) == endless+"\x00" }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.HasSuffix(command(again), "\x00twice\x00") && !strings.Contains(command(again), "exec")
	},
		10*time.Second, time.Millisecond)
	require.NoError(t, unix.Waitid(unix.P_PID, ending.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), "it stays a zombie")

	gap := boottime.Now()
	second := openTable(t, dir, config)
	same := func(table *ProcessTable) {
		t.Helper()
		entry := *entryOf(t, table, stays)
		entry.Process.Seen, entry.Process.Version = had.Process.Seen, had.Process.Version
		assert.Equal(t, had, entry)
	}
	same(second)

	entry := entryOf(t, second, changes)
	path, cut := entry.Path()
	assert.Equal(t, endless, path)
	assert.False(t, cut)
	assert.Equal(t, "endless", entry.BaseName())
	assert.Equal(t, "endless", entry.Comm())
	assert.EqualValues(t, 12345, entry.UID())
	assert.Equal(t, before[0].Parent(), entry.Parent())
	assert.Greater(t, entry.Since(), gap)
	number := before[0].ExecNumber()
	assert.Equal(t, number+2, entry.ExecNumber())
	path, _ = programOf(t, second, changes, number).Path()
	wanted, _ := before[0].Path()
	assert.Equal(t, wanted, path, "the program before")
	assert.True(t, programOf(t, second, changes, number+1).Forgotten(), "nobody saw that one")
	_, _, ok := entry.ArgumentList()
	assert.False(t, ok, "nobody saw them")

	entry = entryOf(t, second, executes)
	_, _, ok = entry.ArgumentList()
	assert.False(t, ok, "they are others")
	assert.Equal(t, before[1].ExecNumber()+1, entry.ExecNumber())
	assert.Equal(t, before[1].BaseName(), entry.BaseName(), "it is the same executable")

	entry = entryOf(t, second, ends)
	assert.Greater(t, entry.Exit(), gap, "it has ended unseen")
	path, _ = entry.Path()
	want, _ := before[2].Path()
	assert.Equal(t, want, path)
	second.Close() // as a kill does it: the programs go on

	third := openTable(t, dir, config)
	same(third)
	third.Close()
	fourth := openTable(t, dir, ProcessTableConfig{Processes: 1 << 15, Cgroups: 2048, Arguments: true})
	same(fourth)
	require.NoError(t, fourth.Detach())
	fourth.Close()
}

// The table may be just about to be filled when a process forks: what it says of that one need not be true yet.
func TestForkBeforeTheParentIsRenewed(t *testing.T) {
	table := openTable(t, directory(t, ""), sizes)
	defer table.Close()
	self, err := os.Executable()
	require.NoError(t, err)
	own := processOf(t, table, os.Getpid())
	key := processTableKpProcessId{StartNs: own.Start, Tgid: own.TGID}
	processes := table.entries.maps[processTableMapProcesses]
	var entry processTableKpProcessEntry
	require.NoError(t, processes.Lookup(&key, &entry))
	program := brief(t, "brief")
	copy(entry.Program.Path[:], []int8{'/', 'o', 'l', 'd', 0})
	entry.Program.Base = 1
	for seen, want := range map[uint8]string{entry.Seen: "old", 0: filepath.Base(self)} {
		entry.Seen = seen
		require.NoError(t, processes.Update(&key, &entry, ebpf.UpdateExist))
		cmd := exec.Command(program)
		require.NoError(t, cmd.Run())
		assert.Equal(t, want, programOf(t, table, processOf(t, table, cmd.Process.Pid), entry.Program.ExecNumber).BaseName())
	}
}

// An entry that is blank is about to be filled by the program that put it in: nobody else may touch it.
func TestBlankEntriesAreLeftAlone(t *testing.T) {
	table := openTable(t, directory(t, ""), sizes)
	defer table.Close()
	processes := table.entries.maps[processTableMapProcesses]
	own := processOf(t, table, os.Getpid())
	forked := []processTableKpProcessId{{StartNs: own.Start, Tgid: own.TGID}, {StartNs: boottime.Now(), Tgid: 1 << 40}}
	var blank processTableKpProcessEntry
	for _, id := range forked {
		require.NoError(t, processes.Update(&id, &blank, ebpf.UpdateAny))
	}
	table.state().SinceNs = 0 // as at the start
	require.NoError(t, table.countLiving())
	for _, id := range forked {
		var entry processTableKpProcessEntry
		require.NoError(t, processes.Lookup(&id, &entry))
		assert.Equal(t, blank, entry)
	}
	ended, err := drain[processTableKpProcessId](table.entries.maps[processTableMapEnded])
	require.NoError(t, err)
	assert.NotContains(t, ended, forked[1])
}

func TestCgroupsOutliveThemselves(t *testing.T) {
	table := openTable(t, directory(t, ""), sizes)
	defer table.Close()
	endless := filepath.Join(t.TempDir(), "endless")
	require.NoError(t, testprogram.Write(endless, testprogram.Endless))
	for _, test := range []struct{ fileSystem, options string }{{"cgroup2", ""}, {"cgroup", "none,name=kernelpipe-table"}} {
		t.Run(test.fileSystem, func(t *testing.T) {
			mount := t.TempDir()
			require.NoError(t, unix.Mount("none", mount, test.fileSystem, 0, test.options))
			defer func() { require.NoError(t, unix.Unmount(mount, 0)) }()
			name := "docker-" + strings.Repeat("0123456789abcdef", 4)
			cgroup := filepath.Join(mount, name)
			require.NoError(t, os.Mkdir(cgroup, 0o700))
			var stat unix.Stat_t
			require.NoError(t, unix.Stat(cgroup, &stat))
			cmd := exec.Command(endless)
			require.NoError(t, cmd.Start())
			process := processOf(t, table, cmd.Process.Pid)
			require.Eventually(t, func() bool { return entryOf(t, table, process).BaseName() == "endless" }, 10*time.Second, time.Millisecond)
			require.NoError(t, os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			require.Eventually(t, func() bool { return unix.Rmdir(cgroup) == nil }, 10*time.Second, time.Millisecond)
			entry := entryOf(t, table, process)
			id := CgroupID{ID: stat.Ino}
			if test.fileSystem == "cgroup" {
				id = entry.CgroupV1()
				assert.Equal(t, stat.Ino, id.ID)
				assert.NotZero(t, id.Hierarchy)
			} else {
				assert.NotEqual(t, id, entry.Cgroup(), "it was put there after its exec")
			}
			path, cut, ok, err := table.Cgroup(id)
			require.NoError(t, err)
			assert.True(t, ok)
			assert.False(t, cut)
			assert.Equal(t, "/"+name, path)
		})
	}
}

// Of cgroups that are removed while the table is not kept nobody learns. They make room all the same, and only when there is
// none: none that is made is missed, however often.
func TestCgroupsRemovedInAGap(t *testing.T) {
	const each, rounds = 100, 4
	mount := t.TempDir()
	require.NoError(t, unix.Mount("none", mount, "cgroup2", 0, ""))
	defer func() { assert.NoError(t, unix.Unmount(mount, 0)) }()
	mkdir := func(name string) CgroupID {
		path := filepath.Join(mount, "kernelpipe-gap-"+name)
		require.NoError(t, os.Mkdir(path, 0o700))
		t.Cleanup(func() { _ = unix.Rmdir(path) })
		var stat unix.Stat_t
		require.NoError(t, unix.Stat(path, &stat))
		return CgroupID{ID: stat.Ino}
	}
	rmdir := func(name string) { require.NoError(t, unix.Rmdir(filepath.Join(mount, "kernelpipe-gap-"+name))) }
	endless := filepath.Join(t.TempDir(), "endless")
	require.NoError(t, testprogram.Write(endless, testprogram.Endless))
	cmd := exec.Command(endless)
	require.NoError(t, cmd.Start())
	inhabited := mkdir("inhabited")
	require.NoError(t, os.WriteFile(filepath.Join(mount, "kernelpipe-gap-inhabited", "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		require.Eventually(t, func() bool { return unix.Rmdir(filepath.Join(mount, "kernelpipe-gap-inhabited")) == nil }, 10*time.Second, time.Millisecond)
	}()

	before := openTable(t, directory(t, ""), sizes)
	counts, err := before.Counts()
	require.NoError(t, err)
	before.Close()
	room := int(counts.Cgroups.Put) + each + each/2
	dir := directory(t, pinPath(t))
	there := func(table *ProcessTable, ids []CgroupID) (n int) {
		for _, id := range ids {
			_, _, ok, err := table.Cgroup(id)
			require.NoError(t, err)
			if ok {
				n++
			}
		}
		return n
	}
	var ids []CgroupID // of the round before
	for round := range rounds {
		table := openTable(t, dir, ProcessTableConfig{Processes: 4096, Cgroups: room})
		if round == 1 {
			assert.Equal(t, each, there(table, ids), "nothing has needed their room")
			rmdir("empty") // the table has taken it for removed
		}
		if round == 0 {
			mkdir("empty")
		}
		ids = nil
		for i := range each {
			ids = append(ids, mkdir(strconv.Itoa(i)))
		}
		assert.Equal(t, each, there(table, ids))
		assert.Equal(t, 1, there(table, []CgroupID{inhabited}))
		counts, err := table.Counts()
		require.NoError(t, err)
		t.Logf("%+v", counts.Cgroups)
		assert.Zero(t, counts.Cgroups.Missed)
		assert.EqualValues(t, min(uint64(room), counts.Cgroups.Put), counts.Cgroups.Entries())
		require.NoError(t, table.Detach())
		if round == rounds-1 {
			removed, err := drain[processTableKpCgroupId](table.entries.maps[processTableMapRemoved])
			require.NoError(t, err)
			slices.SortFunc(removed, func(a, b processTableKpCgroupId) int {
				return cmp.Or(cmp.Compare(a.Id, b.Id), cmp.Compare(a.Hierarchy, b.Hierarchy))
			})
			assert.Len(t, slices.Compact(slices.Clone(removed)), len(removed), "each is noted once")
		}
		table.Close()
		for i := range each {
			rmdir(strconv.Itoa(i))
		}
	}
}
