//go:build linux && kernel

package bpf

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const eventSize = 128

// pinned returns a directory of its own in bpffs, which is gone after the test.
func pinPath(t testing.TB) string {
	t.Helper()
	path := filepath.Join("/sys/fs/bpf", "kernelpipe-test-"+t.Name())
	require.NoError(t, os.RemoveAll(path))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(path)) })
	return path
}

func directory(t testing.TB, path string) *Directory {
	t.Helper()
	dir, err := OpenDirectory(path, "test")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, dir.Close()) })
	return dir
}

func TestSimulateThroughRing(t *testing.T) {
	dir := directory(t, "")
	const total = 100_000
	p, err := OpenProbes(dir, ProbesConfig{RingSize: 1 << 20, ElementSize: eventSize,
		Simulation: &Simulation{Events: total, Seed: 7, PIDs: Range{100, 1099}, Mix: [4]uint32{1, 1, 1, 1}}})
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.Attach())
	ring := p.Ring()
	read := 0
	for read < total {
		_, err := p.Simulate(SimulateBatch)
		require.NoError(t, err)
		for {
			batch := ring.Read(MaxBatch)
			if len(batch.Records) == 0 {
				break
			}
			require.EqualValues(t, read, batch.Sequence)
			for _, record := range batch.Records {
				require.Len(t, record, eventSize)
			}
			read += len(batch.Records)
			ring.Commit()
		}
	}
	made, err := p.Simulate(10)
	require.NoError(t, err)
	assert.Zero(t, made)
	counts, err := p.Counts()
	require.NoError(t, err)
	var produced uint64
	for _, c := range counts {
		produced += c.Produced
		assert.Zero(t, c.Lost)
	}
	assert.EqualValues(t, total, produced)
}

func TestProbesSeeAProcess(t *testing.T) {
	p, err := OpenProbes(directory(t, ""), ProbesConfig{RingSize: 1 << 20, ElementSize: eventSize, Settings: Settings{
		Process: &Filter{}, Filesystem: &Filter{}, Network: &Filter{}, Syscall: &Filter{}, Syscalls: []int{0, 1, 2, 3},
	}})
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.Attach())
	require.NoError(t, exec.Command("true").Run())
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, p.Detach())
	var categories [5]int
	for _, record := range p.Ring().Read(MaxBatch).Records {
		categories[record[82]]++
	}
	t.Log(categories)
	counts, err := p.Counts()
	require.NoError(t, err)
	t.Log(counts)
	assert.Positive(t, categories[4])
}

// settled returns how many of n elements of a source a queue or stats map has settled.
func settled(t testing.TB, by interface {
	Settled(source, sequence uint64, n int) (int, error)
}, source, sequence uint64, n int) int {
	t.Helper()
	settled, err := by.Settled(source, sequence, n)
	require.NoError(t, err)
	return settled
}
