//go:build linux && kernel

package bpf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func openTestConsumer(t testing.TB, path string) *Consumer {
	t.Helper()
	c, err := OpenConsumer(path, "test", "queue")
	require.NoError(t, err)
	return c
}

func TestConsumerWaitsForTheQueueAndHasItAlone(t *testing.T) {
	path := pinPath(t)
	_, err := OpenConsumer(path, "test", "queue")
	require.ErrorIs(t, err, ErrNoQueue)
	dir := directory(t, path)
	_, err = OpenConsumer(path, "test", "queue")
	require.ErrorIs(t, err, ErrNoQueue)
	q, _ := openTestQueue(t, dir, 100, 1)
	defer q.Close()
	c := openTestConsumer(t, path)
	_, err = OpenConsumer(path, "test", "queue")
	require.ErrorIs(t, err, ErrClaimed)
	c.Close()
	openTestConsumer(t, path).Close()
	_, err = OpenConsumer(t.TempDir(), "test", "queue")
	require.ErrorContains(t, err, "is not on a BPF file system")
}

func TestNextConsumerFindsWhatWasInFlight(t *testing.T) {
	path := pinPath(t)
	q, _ := openTestQueue(t, directory(t, path), 100, 1)
	defer q.Close()
	pushNumbers(t, q, 0, 0, 10)
	c := openTestConsumer(t, path)
	got, err := c.Pop(0, 4)
	require.NoError(t, err)
	assert.Equal(t, []int{0, 1, 2, 3}, numbersIn(got.Data))
	c.Close()
	c = openTestConsumer(t, path)
	defer c.Close()
	require.True(t, c.Pending(0))
	again, err := c.Pop(0, 10)
	require.NoError(t, err)
	assert.Equal(t, []int{0, 1, 2, 3}, numbersIn(again.Data))
	assert.Equal(t, got.Sequence, again.Sequence)
	c.Ack(0)
	assert.Equal(t, QueueBooks{Received: 10, Delivered: 4, Queued: 6}, q.Books())
	assert.NotZero(t, c.Memory())
	assert.Equal(t, 100, c.Capacity())
	assert.Equal(t, 128, c.ElementSize())
}

func TestConsumerFollowsItsOwner(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	var c *Consumer
	for generation, shape := range []QueueConfig{{Capacity: 100, Lanes: 1}, {Capacity: 200, Lanes: 3}, {Capacity: 10, Lanes: 2}, {Capacity: 50, Lanes: 1}} {
		q, older := openTestQueue(t, dir, shape.Capacity, shape.Lanes)
		for _, q := range older {
			q.Close()
		}
		pushNumbers(t, q, shape.Lanes-1, generation*5, 5)
		q.Close()
		if generation == 1 { // from here on it is there
			c = openTestConsumer(t, path)
			defer c.Close()
		}
	}
	followed, err := c.Follow()
	require.NoError(t, err)
	assert.False(t, followed, "it is not empty")
	var got []int
	for {
		before := len(got)
		for lane := range c.Lanes() {
			popped, err := c.Pop(lane, MaxBatch)
			require.NoError(t, err)
			got = append(got, numbersIn(popped.Data)...)
			c.Ack(lane)
		}
		if len(got) > before {
			continue
		}
		if followed, err = c.Follow(); !followed {
			require.NoError(t, err)
			break
		}
	}
	assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, got)
	assert.Equal(t, QueueBooks{Received: 20, Delivered: 20}, c.Books())
	left, err := filepath.Glob(path + "/test/queue-*")
	require.NoError(t, err)
	assert.Equal(t, []string{path + "/test/queue-3", path + "/test/queue-books"}, left, "what is drained is removed")

	q, older := openTestQueue(t, dir, 50, 1)
	defer q.Close()
	assert.Empty(t, older)
}

// A queue that another version has pinned is refused with a way out.
func TestConsumerRefusesAnotherFormat(t *testing.T) {
	path := pinPath(t)
	q, _ := openTestQueue(t, directory(t, path), 100, 1)
	defer q.Close()
	q.state.books().Format = 99
	_, err := OpenConsumer(path, "test", "queue")
	var shape *ShapeError
	require.ErrorAs(t, err, &shape)
	require.ErrorContains(t, err, "format 99")
	q.state.books().Format = queueFormat
	require.NoError(t, os.Remove(path+"/test/queue-books/lanes"))
	_, err = OpenConsumer(path, "test", "queue")
	require.ErrorAs(t, err, &shape)
}

func TestConsumerSeesThatTheQueueIsRemoved(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	q, _ := openTestQueue(t, dir, 100, 1)
	q.Close()
	c := openTestConsumer(t, path)
	defer c.Close()
	require.NoError(t, os.RemoveAll(path+"/test"))
	require.NoError(t, os.Mkdir(path+"/test", 0o700))
	_, err := c.Follow()
	require.ErrorIs(t, err, ErrNoQueue)
	q, _ = openTestQueue(t, dir, 100, 1) // another one of the same name
	q.Close()
	_, err = c.Follow()
	require.ErrorIs(t, err, ErrNoQueue)
	openTestConsumer(t, path).Close()
}
