//go:build linux && kernel

package bpf

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
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

// slowPush returns a program of others that looks up lane 0, takes a while, and pushes. Its memory is not 0 once it has the
// lane.
func slowPush(t testing.TB, lanes *ebpf.Map) (*ebpf.Program, memory) {
	t.Helper()
	const size, steps = 1 << 20, 2000
	shared, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: size, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, shared.Close()) })
	lookUp := func(m *ebpf.Map, result asm.Register) asm.Instructions {
		return asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
			asm.LoadMapPtr(asm.R1, m.FD()), asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "end"), asm.Mov.Reg(result, asm.R0),
		}
	}
	code := append(lookUp(shared, asm.R7), lookUp(lanes, asm.R6)...)
	code = append(code,
		asm.StoreImm(asm.R7, 0, 1, asm.Word),
		asm.Mov.Imm(asm.R8, 0),
		asm.Mov.Reg(asm.R1, asm.R7).WithSymbol("step"), asm.Add.Imm(asm.R1, 8), asm.Mov.Imm(asm.R2, size-8), asm.Mov.Imm(asm.R3, 0),
		asm.FnProbeReadKernel.Call(), // of what is not there: it clears all that it may write to
		asm.Add.Imm(asm.R8, 1), asm.JLT.Imm(asm.R8, steps, "step"),
		asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Reg(asm.R2, asm.R7), asm.Mov.Imm(asm.R3, 0), asm.FnMapPushElem.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return(),
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: code})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, program.Close()) })
	mapped, err := mapMemory(shared)
	require.NoError(t, err)
	t.Cleanup(mapped.unmap)
	return program, mapped
}

// A program that looked a lane up while it was offered may push to it when another is offered already.
func TestConsumerWaitsForWhoPushes(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	before, _ := openTestQueue(t, dir, 100, 1)
	defer before.Close()
	after, older := openTestQueue(t, dir, 200, 1)
	defer after.Close()
	older[0].Close()
	require.NoError(t, before.offer())
	c := openTestConsumer(t, path)
	defer c.Close()
	program, has := slowPush(t, c.state.group.maps[queueMapLanes])
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() {
		_, err := run(program, 0)
		assert.NoError(t, err)
	})
	require.Eventually(t, func() bool { return atomic.LoadUint32(as[uint32](has)) != 0 }, 20*time.Second, 10*time.Microsecond)
	others.Go(func() { assert.NoError(t, after.offer()) }) // which itself waits for the program, in the kernel
	require.Eventually(t, func() bool {
		offered, err := c.queue.offered()
		return err == nil && !offered
	}, 20*time.Second, 10*time.Microsecond)
	followed, err := c.Follow()
	require.NoError(t, err)
	assert.False(t, followed, "an element was still to come")
	got, err := c.Pop(0, MaxBatch)
	require.NoError(t, err)
	assert.Len(t, got.Data, 128)
	c.Ack(0)
	followed, err = c.Follow()
	require.NoError(t, err)
	assert.True(t, followed)
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
	_, err := c.Follow()
	require.ErrorIs(t, err, ErrNoQueue)
	q, _ = openTestQueue(t, directory(t, path), 100, 1) // another one of the same name
	q.Close()
	_, err = c.Follow()
	require.ErrorIs(t, err, ErrNoQueue)
	openTestConsumer(t, path).Close()
}

// What somebody has removed of a queue is known once the consumer has come to it: where it is the last one, what is gone is counted
// once.
func TestConsumerTellsWhatIsGone(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	for generation, lanes := range []int{1, 2} {
		q, older := openTestQueue(t, dir, 100, lanes)
		for _, q := range older {
			q.Close()
		}
		pushNumbers(t, q, lanes-1, generation*5, 5)
		for lane := range uint32(lanes) { // so that the kernel keeps none without a pin
			require.NoError(t, q.state.group.maps[queueMapLanes].Delete(lane))
		}
		q.Close()
	}
	require.NoError(t, os.Remove(path+"/test/queue-1/lane_1"))
	c := openTestConsumer(t, path)
	defer c.Close()
	assert.Empty(t, c.Damage())
	require.NoError(t, c.Reconcile())
	popped, err := c.Pop(0, MaxBatch)
	require.NoError(t, err)
	assert.Equal(t, []int{0, 1, 2, 3, 4}, numbersIn(popped.Data))
	c.Ack(0)
	followed, err := c.Follow()
	require.NoError(t, err)
	require.True(t, followed)
	require.Len(t, c.Damage(), 1)
	require.ErrorContains(t, c.Damage()[0], "queue-1/lane_1 is damaged: a lane without a pin: what waited in it is gone")
	err = c.Reconcile()
	require.ErrorAs(t, err, new(*DamageError))
	require.ErrorContains(t, err, "of 5 events that waited, and 0 in flight, somebody has removed the pins")
	require.NoError(t, c.Reconcile())
	assert.Equal(t, QueueBooks{Received: 10, Delivered: 5, Lost: 5}, c.Books())
}
