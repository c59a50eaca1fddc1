//go:build linux && kernel

package bpf

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// openSimulation opens probes that do nothing but simulate, with a ring buffer that holds 481 events.
func openSimulation(t testing.TB, path string, size uint32) *Probes {
	t.Helper()
	p, err := OpenProbes(directory(t, path), ProbesConfig{RingSize: size, ElementSize: eventSize,
		Simulation: &Simulation{Events: 1 << 40, Seed: 1, PIDs: Range{100, 1099}, Mix: [4]uint32{1, 1, 1, 1}}})
	require.NoError(t, err)
	require.NoError(t, p.Attach())
	return p
}

func makeEvents(t testing.TB, p *Probes, n int) {
	t.Helper()
	made, err := p.Simulate(n)
	require.NoError(t, err)
	require.Equal(t, n, made)
}

func TestRingCommitAndRewind(t *testing.T) {
	p := openSimulation(t, "", 64<<10)
	defer p.Close()
	ring := p.Ring()
	makeEvents(t, p, 30)
	assert.Empty(t, ring.Read(0).Records)
	first := ring.Read(10)
	assert.Len(t, first.Records, 10)
	assert.Zero(t, first.Sequence)
	assert.Len(t, ring.Read(10).Records, 10)
	ring.Rewind()
	again := ring.Read(10)
	assert.Zero(t, again.Sequence)
	assert.Len(t, again.Records, 10)
	ring.Commit()
	assert.EqualValues(t, 20, ring.Waiting())
	rest := ring.Read(MaxBatch)
	assert.EqualValues(t, 10, rest.Sequence)
	assert.Len(t, rest.Records, 20)
	ring.Refuse()
	assert.Empty(t, ring.Read(MaxBatch).Records)
	assert.Zero(t, ring.Depth())
	assert.Equal(t, RingBooks{Delivered: 10, Refused: 20}, ring.Books())
}

// A refusal that was noted when the process died, and was not committed, was none: the batch is there again, and what
// becomes of it then is what counts.
func TestRingRefusalThatWasNotCommitted(t *testing.T) {
	path := pinPath(t)
	var ring *Ring
	// Each is a process: it finds the books like this, does something and dies.
	for _, process := range []struct {
		books RingBooks
		does  func()
	}{
		{RingBooks{}, func() { ring.Commit() }},
		{RingBooks{Delivered: 10}, func() { ring.noteRefusal() }},
		{RingBooks{Delivered: 10}, func() { ring.noteRefusal() }},
		{RingBooks{Delivered: 10}, func() { ring.Refuse() }},
		{RingBooks{Delivered: 10, Refused: 10}, func() { ring.noteRefusal() }},
		{RingBooks{Delivered: 10, Refused: 10}, func() { ring.Commit() }},
		{RingBooks{Delivered: 20, Refused: 10}, func() {}},
	} {
		p := openSimulation(t, path, 64<<10)
		ring = p.Ring()
		assert.Equal(t, process.books, ring.Books())
		makeEvents(t, p, 10)
		assert.Len(t, ring.Read(10).Records, 10)
		process.does()
		require.NoError(t, p.dir.Close())
		p.Close()
	}
}

// Whoever reads the books while they are written sees no total fall, and never more in the ring buffer than fits.
func TestRingBooksNeverFall(t *testing.T) {
	p := openSimulation(t, "", 64<<10)
	defer p.Close()
	ring := p.Ring()
	var readers sync.WaitGroup
	done := make(chan struct{})
	defer readers.Wait()
	defer close(done)
	for range 4 {
		readers.Go(func() {
			for last := (RingBooks{}); ; {
				select {
				case <-done:
					return
				default:
				}
				books := ring.Books()
				if !assert.GreaterOrEqual(t, books.Delivered, last.Delivered) || !assert.GreaterOrEqual(t, books.Refused, last.Refused) ||
					!assert.LessOrEqual(t, ring.Depth(), ring.Capacity()) {
					return
				}
				last = books
			}
		})
	}
	const rounds, n = 20_000, 10
	for i := range rounds {
		makeEvents(t, p, n)
		ring.Read(n)
		if i%2 == 0 {
			ring.Commit()
		} else {
			ring.Refuse()
		}
	}
	assert.Equal(t, RingBooks{Delivered: rounds / 2 * n, Refused: rounds / 2 * n}, ring.Books())
}

// The ring buffer goes round many times, and the simulator stops where it is full.
func TestRingGoesRound(t *testing.T) {
	p := openSimulation(t, "", 64<<10)
	defer p.Close()
	ring, next := p.Ring(), uint64(0)
	for next < 50_000 {
		made, err := p.Simulate(SimulateBatch)
		require.NoError(t, err)
		assert.LessOrEqual(t, made, 481)
		for {
			batch := ring.Read(100)
			if len(batch.Records) == 0 {
				break
			}
			require.Equal(t, next, batch.Sequence)
			next += uint64(len(batch.Records))
			ring.Commit()
		}
	}
	assert.Equal(t, RingBooks{Delivered: next}, ring.Books())
}

// Of what is handed on a second time it is known how much that is, across processes.
func TestRingHandOn(t *testing.T) {
	path := pinPath(t)
	p := openSimulation(t, path, 64<<10)
	ring := p.Ring()
	makeEvents(t, p, 100)
	ring.Read(40)
	assert.Zero(t, ring.HandOn())
	assert.Equal(t, 40, ring.HandOn(), "again, for it was not taken")
	ring.Commit()
	ring.Read(20)
	assert.Zero(t, ring.HandOn())
	require.NoError(t, p.dir.Close())
	p.Close() // it dies with 20 events handed on

	p = openSimulation(t, path, 64<<10)
	defer p.Close()
	assert.True(t, p.Adopted())
	ring = p.Ring()
	batch := ring.Read(MaxBatch)
	assert.EqualValues(t, 40, batch.Sequence)
	assert.Len(t, batch.Records, 60)
	assert.Equal(t, 20, ring.HandOn())
	ring.Commit()
	assert.Equal(t, RingBooks{Delivered: 100, Redelivered: 60}, ring.Books())
	makeEvents(t, p, 10)
	ring.Read(MaxBatch)
	assert.Zero(t, ring.HandOn())
}

// Wait sleeps through a trickle, and ends at the mark, by Wake, and when the mark was passed before.
func TestRingWait(t *testing.T) {
	p := openSimulation(t, "", 64<<10)
	defer p.Close()
	ring := p.Ring()
	wait := func() chan struct{} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			assert.NoError(t, ring.Wait(time.Hour))
		}()
		return ended
	}
	ended := wait()
	ring.Wake()
	<-ended

	ended = wait()
	makeEvents(t, p, 10)
	select {
	case <-ended:
		t.Error("woken by a trickle")
	case <-time.After(50 * time.Millisecond):
	}
	makeEvents(t, p, 60) // the mark is an eighth: 60 events
	<-ended
	<-wait() // it is passed still

	ring.Read(MaxBatch)
	ring.Commit()
	makeEvents(t, p, 10)
	ring.Wake() // before the wait
	<-wait()
	require.NoError(t, ring.Wait(time.Nanosecond))
}

// Rings of other sizes keep their events until they are drained, and their books for good.
func TestRingOfAnotherSize(t *testing.T) {
	path := pinPath(t)
	for _, size := range []uint32{64 << 10, 128 << 10, 64 << 10} {
		p := openSimulation(t, path, size)
		makeEvents(t, p, 100)
		require.NoError(t, p.dir.Close())
		p.Close()
	}
	p := openSimulation(t, path, 256<<10)
	_, waiting, capacity := p.RingUse()
	assert.EqualValues(t, 300, waiting)
	assert.EqualValues(t, 512<<10, capacity)
	for i := range 3 {
		ring := p.OlderRing()
		require.NotNil(t, ring, i)
		assert.Len(t, ring.Read(MaxBatch).Records, 100)
		ring.Commit()
		require.NoError(t, p.DropOlderRing())
		assert.Equal(t, RingBooks{Delivered: uint64(100 * (i + 1))}, p.RingBooks())
	}
	assert.Nil(t, p.OlderRing())
	assert.Equal(t, []string{"ring-3"}, ringsIn(t, path), "what is drained is removed")
	require.NoError(t, p.dir.Close())
	p.Close()

	p = openSimulation(t, path, 256<<10)
	assert.Equal(t, RingBooks{Delivered: 300}, p.RingBooks())
	p.Close()
}

func ringsIn(t testing.TB, path string) []string {
	t.Helper()
	return slices.DeleteFunc(entriesOf(t, path+"/test"), func(name string) bool { return !strings.HasPrefix(name, "ring-") })
}

func BenchmarkSimulate(b *testing.B) {
	for _, batch := range []int{1, 64, SimulateBatch} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			p := openSimulation(b, "", 8<<20)
			defer p.Close()
			ring := p.Ring()
			for b.Loop() {
				makeEvents(b, p, batch)
				ring.Read(batch)
				ring.Commit()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/event")
		})
	}
}
