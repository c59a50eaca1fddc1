//go:build linux && kernel

package bpf

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
	assert.Equal(t, 150, settled(t, q, 0x100, 0, 200))
}

func openTestQueue(t testing.TB, dir *Directory, capacity, lanes int) (*Queue, []*Queue) {
	t.Helper()
	q, older, err := OpenQueue(dir, "queue", QueueConfig{ElementSize: 128, Capacity: capacity, Lanes: lanes})
	require.NoError(t, err)
	return q, older
}

// pushNumbers pushes elements that are numbers to a lane.
func pushNumbers(t testing.TB, q *Queue, lane, first, n int) {
	t.Helper()
	for i := range n {
		binary.NativeEndian.PutUint64(q.Outgoing(i), uint64(first+i))
		q.SetVerdict(i, Verdict(lane))
	}
	pushed, err := q.Push(0, n, 0, 0, DropNewest)
	require.NoError(t, err)
	require.Equal(t, n, pushed)
}

func numbersIn(data []byte) (numbers []int) {
	for ; len(data) > 0; data = data[128:] {
		numbers = append(numbers, int(binary.NativeEndian.Uint64(data)))
	}
	return numbers
}

func TestLimitsKeepRoom(t *testing.T) {
	q, _ := openTestQueue(t, directory(t, ""), 100, 1)
	defer q.Close()
	for i := range 300 {
		q.SetLane(i, 0, [3]uint32{75, 90, 0}[i/100])
	}
	n, err := q.Push(0, 300, 0, 0, DropNewest)
	require.NoError(t, err)
	assert.Equal(t, 300, n)
	assert.Equal(t, QueueBooks{Received: 300, Queued: 100, DroppedOverLimit: 25 + 85, DroppedNewest: 90}, q.Books())
	// What is popped makes room.
	_, err = q.Pop(0, 50)
	require.NoError(t, err)
	_, err = q.Push(0, 100, 0, 0, DropNewest)
	require.NoError(t, err)
	assert.Equal(t, QueueBooks{Received: 400, Queued: 75, InFlight: 50, DroppedOverLimit: 110 + 75, DroppedNewest: 90}, q.Books())
}

func TestOldestChangesNothing(t *testing.T) {
	q, _ := openTestQueue(t, directory(t, ""), 100, 1)
	defer q.Close()
	empty, err := q.Empty()
	require.NoError(t, err)
	assert.True(t, empty)
	pushNumbers(t, q, 0, 5, 3)
	for range 2 {
		oldest, err := q.Oldest(0)
		require.NoError(t, err)
		assert.Equal(t, []int{5}, numbersIn(oldest))
	}
	_, err = q.Pop(0, 2)
	require.NoError(t, err)
	oldest, err := q.Oldest(0)
	require.NoError(t, err)
	assert.Equal(t, []int{5}, numbersIn(oldest), "what is in flight is older")
	q.Ack(0)
	oldest, err = q.Oldest(0)
	require.NoError(t, err)
	assert.Equal(t, []int{7}, numbersIn(oldest))
	assert.Equal(t, QueueBooks{Received: 3, Delivered: 2, Queued: 1}, q.Books())
}

func TestOnlyOneProcessPops(t *testing.T) {
	dir := directory(t, pinPath(t))
	q, _ := openTestQueue(t, dir, 100, 1)
	defer q.Close()
	other, _ := openTestQueue(t, dir, 100, 1)
	require.NoError(t, other.Claim())
	require.NoError(t, other.Claim(), "again")
	require.ErrorIs(t, q.Claim(), ErrClaimed)
	other.Close()
	require.NoError(t, q.Claim())
	q.Disclaim()
}

// What is in flight in one generation is not taken for that of another.
func TestInFlightBelongsToItsGeneration(t *testing.T) {
	dir := directory(t, pinPath(t))
	first, _ := openTestQueue(t, dir, 100, 1)
	pushNumbers(t, first, 0, 0, 10)
	_, err := first.Pop(0, 4)
	require.NoError(t, err)
	first.Close()
	second, older := openTestQueue(t, dir, 200, 1)
	defer second.Close()
	require.Len(t, older, 1)
	defer older[0].Close()
	pushNumbers(t, second, 0, 100, 10)
	assert.False(t, second.Pending(0))
	got, err := second.Pop(0, MaxBatch)
	require.NoError(t, err)
	assert.Empty(t, got.Data)
	assert.True(t, older[0].Pending(0))
	got, err = older[0].Pop(0, MaxBatch)
	require.NoError(t, err)
	assert.Equal(t, []int{0, 1, 2, 3}, numbersIn(got.Data))
}

// BenchmarkQueueHop is one event's way into a queue and out of it: by programs that move a batch in one system
// call, and by one system call for each element, as the kernel offers it without a program.
func BenchmarkQueueHop(b *testing.B) {
	b.Run("batch_programs", func(b *testing.B) {
		q, _ := openTestQueue(b, directory(b, ""), 10_000, 1)
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
	})
	b.Run("call_per_element", func(b *testing.B) {
		q, _ := openTestQueue(b, directory(b, ""), 10_000, 1)
		defer q.Close()
		lane, element := q.group.maps[laneName(0)], make([]byte, 128)
		for b.Loop() {
			for range MaxBatch {
				if err := lane.Put(nil, element); err != nil {
					b.Fatal(err)
				}
			}
			for range MaxBatch {
				if err := lane.LookupAndDelete(nil, element); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxBatch, "ns/event")
	})
}
