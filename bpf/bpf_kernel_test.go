//go:build linux && kernel

package bpf

import (
	"encoding/binary"
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

func TestQueueMovesBatches(t *testing.T) {
	q, older, err := OpenQueue(directory(t, pinPath(t)), "queue", QueueConfig{ElementSize: 128, Capacity: 100, Lanes: 1})
	require.NoError(t, err)
	assert.Empty(t, older)
	defer q.Close()
	for i := range 150 {
		binary.NativeEndian.PutUint64(q.Outgoing(i), uint64(i))
		q.SetVerdict(i, 0)
	}
	q.SetVerdict(3, Filtered)
	n, err := q.Push(0, 150, 0x100, 0, Block)
	require.NoError(t, err)
	assert.Equal(t, 101, n)
	got, err := q.Pop(0, MaxBatch)
	require.NoError(t, err)
	require.Len(t, got.Data, 100*128)
	assert.EqualValues(t, 4, binary.NativeEndian.Uint64(got.Data[3*128:]))
	n, err = q.Push(n, 150, 0x100, 0, Block)
	require.NoError(t, err)
	assert.Equal(t, 150, n)
	q.Ack(0)
	assert.Equal(t, QueueBooks{Received: 150, Filtered: 1, Delivered: 100, Queued: 49}, q.Books())
	assert.Equal(t, 150, q.Settled(0x100, 0, 200))
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

func BenchmarkQueueHop(b *testing.B) {
	q, _, err := OpenQueue(directory(b, ""), "queue", QueueConfig{ElementSize: 128, Capacity: 10000, Lanes: 1})
	require.NoError(b, err)
	defer q.Close()
	for i := range MaxBatch {
		q.SetVerdict(i, 0)
	}
	for b.Loop() {
		n, err := q.Push(0, MaxBatch, 0, 0, Block)
		if err != nil || n != MaxBatch {
			b.Fatal(n, err)
		}
		if got, err := q.Pop(0, MaxBatch); err != nil || len(got.Data) != MaxBatch*128 {
			b.Fatal(err)
		}
		q.Ack(0)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxBatch, "ns/event")
}
