//go:build linux && kernel

package bpf

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What can't be opened for what lies there leaves nothing beside it.
func TestFailedOpenLeavesNothing(t *testing.T) {
	pinPath(t) // the directory above those of the cases
	probes := func(dir *Directory) error {
		_, err := OpenProbes(dir, foreignProbes)
		return err
	}
	table := func(dir *Directory) error {
		_, err := OpenProcessTable(dir, ProcessTableConfig{Processes: 100, Cgroups: 10})
		return err
	}
	queue := func(dir *Directory) error {
		_, _, err := OpenQueue(dir, "queue", QueueConfig{ElementSize: 128, Capacity: 100, Lanes: 1})
		return err
	}
	for foreign, open := range map[string]func(*Directory) error{
		"ring-0": probes, "simulation": probes, "probes": probes, "queue-books": queue, "entries-0": table, "books": table,
	} {
		t.Run(foreign, func(t *testing.T) {
			path := pinPath(t)
			require.NoError(t, os.MkdirAll(path+"/test/"+foreign, 0o700))
			before := files(t, path)
			require.Error(t, open(directory(t, path)))
			assert.Equal(t, before, files(t, path))
		})
	}
}

// programsOf returns the kernel's ids of the programs.
func programsOf(t *testing.T, p *Probes) (ids []ebpf.ProgramID) {
	t.Helper()
	for _, program := range p.programs.Programs {
		info, err := program.Info()
		require.NoError(t, err)
		id, ok := info.ID()
		require.True(t, ok)
		ids = append(ids, id)
	}
	require.NotEmpty(t, ids)
	return ids
}

func requireGone(t *testing.T, programs []ebpf.ProgramID) {
	t.Helper()
	for _, id := range programs {
		require.Eventually(t, func() bool {
			program, err := ebpf.NewProgramFromID(id)
			if err == nil {
				assert.NoError(t, program.Close())
			}
			return err != nil
		}, 10*time.Second, time.Millisecond, "program %d is still there", id)
	}
}

// Probes that were attached by a start that failed then are detached, and nothing of theirs is left.
func TestFailedAttach(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	p, err := OpenProbes(dir, ProbesConfig{RingSize: 64 << 10, ElementSize: eventSize, Settings: Settings{Process: &Filter{}}})
	require.NoError(t, err)
	require.NoError(t, p.state.maps[probesMapDataSettings].Freeze()) // nobody can write the settings any more
	require.ErrorContains(t, p.Attach(), "write settings")
	programs := programsOf(t, p)
	require.ErrorContains(t, p.Abandon(), "write settings")
	p.Close()
	assert.Equal(t, []string{path + "/test"}, files(t, path)[1:])
	requireGone(t, programs)
	require.NoError(t, dir.Close())
	assert.Equal(t, []string{path}, files(t, path))
}

// A start that fails after it has attached its probes leaves those of before attached, with their settings and their events.
func TestFailedAttachLeavesWhatWasThere(t *testing.T) {
	path := pinPath(t)
	config := ProbesConfig{RingSize: 64 << 10, ElementSize: eventSize, Settings: Settings{Process: &Filter{}}}
	dir := directory(t, path)
	first, err := OpenProbes(dir, config)
	require.NoError(t, err)
	require.NoError(t, first.Attach())
	first.Close() // it dies
	first = nil
	require.NoError(t, dir.Close())
	before := files(t, path)

	dir = directory(t, path)
	config.RingSize *= 2 // so that other programs are attached
	second, err := OpenProbes(dir, config)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // once the memory of the first is unmapped
		runtime.GC()
		return second.state.maps[probesMapDataSettings].Freeze() == nil
	}, 10*time.Second, time.Millisecond)
	require.Error(t, second.Attach())
	programs := programsOf(t, second)
	require.Error(t, second.Abandon())
	second.Close()
	assert.Equal(t, before, files(t, path))
	requireGone(t, programs)
	require.NoError(t, dir.Close())

	state, err := adoptGroup(place{directoryOf(t, path), probesState}, map[string]*ebpf.MapSpec{probesMapCounters: second.spec.Maps[probesMapCounters]})
	require.NoError(t, err)
	defer state.Close()
	counts := func() (produced uint64) {
		all, err := (&Probes{state: state}).Counts()
		require.NoError(t, err)
		for _, c := range all {
			produced += c.Produced
		}
		return produced
	}
	was := counts()
	require.NoError(t, exec.Command("true").Run())
	require.Eventually(t, func() bool { return counts() > was }, 10*time.Second, time.Millisecond, "the probes of before go on")
}

// A start that fails while it removes the probes of before has no way back to them: its own go on in their place, and so does the
// ring buffer that they fill.
func TestFailedRemovalOfEarlierProbes(t *testing.T) {
	path := pinPath(t)
	config := ProbesConfig{RingSize: 64 << 10, ElementSize: eventSize, Settings: Settings{Process: &Filter{}}}
	dir := directory(t, path)
	first, err := OpenProbes(dir, config)
	require.NoError(t, err)
	require.NoError(t, first.Attach())
	links := filepath.Join(path, "test", fmt.Sprintf("%s-%d", probesLinks, first.attached.generation))
	first.Close() // it dies
	require.NoError(t, dir.Close())
	busy := filepath.Join(links, "busy")
	require.NoError(t, os.Mkdir(busy, 0o700))
	require.NoError(t, unix.Mount("tmpfs", busy, "tmpfs", 0, ""))
	unmount := sync.OnceFunc(func() { assert.NoError(t, unix.Unmount(busy, unix.MNT_DETACH)) })
	t.Cleanup(unmount)

	dir = directory(t, path)
	config.RingSize *= 2
	second, err := OpenProbes(dir, config)
	require.NoError(t, err)
	require.ErrorContains(t, second.Attach(), "detach earlier probes")
	generation := second.attached.generation
	require.NoError(t, second.Abandon())
	second.Close()
	require.NoError(t, dir.Close())
	unmount()
	assert.Len(t, entriesOf(t, filepath.Join(path, "test", fmt.Sprintf("%s-%d", probesLinks, generation))), 2*len(second.attached.programs))

	require.NoError(t, exec.Command("true").Run())
	dir = directory(t, path)
	third, err := OpenProbes(dir, config)
	require.NoError(t, err)
	defer third.Close()
	require.NoError(t, third.Attach())
	assert.NotEmpty(t, third.Ring().Read(MaxBatch).Records, "no event was lost meanwhile")
	require.NoError(t, third.Detach())
}

func directoryOf(t *testing.T, path string) *pinDir {
	t.Helper()
	parent, err := openPinPath(path, false)
	require.NoError(t, err)
	dir, err := parent.dir("test")
	require.NoError(t, err)
	require.NoError(t, parent.close())
	t.Cleanup(func() { assert.NoError(t, dir.close()) })
	return dir
}

// The account of a ring buffer is counted once when the process dies between its removal and the note of it.
func TestKillBesideTheRemovalOfARingBuffer(t *testing.T) {
	path := pinPath(t)
	p := openSimulation(t, path, 64<<10)
	makeEvents(t, p, 100)
	require.NoError(t, p.dir.Close())
	p.Close()
	p = openSimulation(t, path, 128<<10)
	older := p.OlderRing()
	older.Read(MaxBatch)
	older.Commit()
	p.Ring().inherit(older)
	require.NoError(t, p.dir.Close())
	p.Close()
	assert.Equal(t, []string{"ring-0", "ring-1"}, ringsIn(t, path))
	for _, size := range []uint32{128 << 10, 64 << 10} {
		p = openSimulation(t, path, size)
		assert.Equal(t, RingBooks{Delivered: 100}, p.RingBooks())
		assert.NotContains(t, ringsIn(t, path), "ring-0")
		require.NoError(t, p.dir.Close())
		p.Close()
	}
}

// What has never held an event goes with the process that made it, if that asks; what holds one stays.
func TestUnusedIsRemoved(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	q, _ := openTestQueue(t, dir, 100, 1)
	require.NoError(t, q.Abandon())
	q.Close()
	assert.Empty(t, entriesOf(t, path+"/test"))

	q, _ = openTestQueue(t, dir, 100, 1)
	pushNumbers(t, q, 0, 0, 1)
	require.NoError(t, q.Abandon())
	q.Close()
	assert.Equal(t, []string{"queue-0", "queue-books"}, entriesOf(t, path+"/test"))

	q, older := openTestQueue(t, dir, 200, 1) // of another size: it goes alone
	older[0].Close()
	require.NoError(t, q.Abandon())
	q.Close()
	assert.Equal(t, []string{"queue-0", "queue-books"}, entriesOf(t, path+"/test"))
	q, _ = openTestQueue(t, dir, 100, 1)
	defer q.Close()
	assert.EqualValues(t, 1, q.Books().Queued)
}
