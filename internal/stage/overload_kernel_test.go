//go:build linux && kernel

package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// total is what the account says has come in; it balances if that is Received.
func (b Books) total() uint64 {
	return b.Delivered + b.Filtered + b.DeadLettered + b.DroppedNewest + b.DroppedOldest + b.DroppedLowPriority + b.Queued + b.InFlight
}

// keepAll is a Work that copies every event.
func keepAll(batch event.Batch, i int, out []byte) bool {
	copy(out, batch.Data[i*batch.Size:(i+1)*batch.Size])
	return true
}

// prioritized makes n events of each priority: low, then medium, then high.
func prioritized(first, n int) event.Batch {
	b := batch(first, 3*n)
	for i := range 3 * n {
		b.At(i).Priority = []event.Priority{event.PriorityLow, event.PriorityMedium, event.PriorityHigh}[i/n]
	}
	return b
}

func TestLowPriorityMakesWay(t *testing.T) {
	n := newNext(t)
	settings := newSettings(n, "")
	settings.Queue.Capacity, settings.Queue.OnFull, settings.Work = 100, DropLowPriority, keepAll
	s := start(t, settings)
	goOn := n.stall(t) // with one event in hand
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(10_000, 1))))
	require.Eventually(t, func() bool { return s.Books().InFlight == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(prioritized(0, 100))))
	assert.Equal(t, Books{Received: 301, Queued: 100, InFlight: 1, DroppedLowPriority: 25 + 85, DroppedNewest: 90}, s.Books())
	goOn()
	assert.Equal(t, Books{Received: 301, Delivered: 101, DroppedLowPriority: 25 + 85, DroppedNewest: 90}, settle(t, s))
	want := append([]uint64{10_000}, numbers(0, 75)...)
	want = append(append(want, numbers(100, 15)...), numbers(200, 10)...)
	assert.Equal(t, want, n.got())
}

// What no filter has given a priority has that of its category.
func TestUnsetPriorityIsThatOfTheCategory(t *testing.T) {
	n := newNext(t)
	settings := newSettings(n, "")
	settings.Queue.Capacity, settings.Queue.OnFull, settings.Work = 100, DropLowPriority, keepAll
	s := start(t, settings)
	n.stall(t)
	events := batch(0, 200)
	for i := range 100 {
		events.At(i).Category = event.CategoryFilesystem
	}
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(10_000, 1))))
	require.Eventually(t, func() bool { return s.Books().InFlight == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(events)))
	assert.EqualValues(t, 25, s.Books().DroppedLowPriority)
}

// overloads are all policies, and what they are with more lanes.
var overloads = map[string]func(*QueueConfig){
	"block":             func(*QueueConfig) {},
	"block_timeout":     func(c *QueueConfig) { c.BlockTimeout = 2 * time.Millisecond },
	"drop_newest":       func(c *QueueConfig) { c.OnFull = DropNewest },
	"drop_oldest":       func(c *QueueConfig) { c.OnFull = DropOldest },
	"drop_low_priority": func(c *QueueConfig) { c.OnFull = DropLowPriority },
	"lanes":             func(c *QueueConfig) { c.Lanes, c.OnFull = 4, DropOldest },
}

// mixed makes n events of all priorities in turn: low, high, medium.
func mixed(first, n int) event.Batch {
	b := batch(first, n)
	for i := range n {
		b.At(i).Priority = []event.Priority{event.PriorityLow, event.PriorityHigh, event.PriorityMedium}[(first+i)%3]
	}
	return b
}

// poisoned is one event in a hundred.
func poisoned(name uint64) bool { return name%100 == 7 }

func anyPoisoned(b event.Batch) bool {
	for i := range b.Len() {
		if poisoned(b.At(i).Bytes) {
			return true
		}
	}
	return false
}

// withinBounds asserts that memory has not grown but for what the test itself keeps.
func withinBounds(t testing.TB, before, after usage) {
	t.Helper()
	assert.Less(t, after.heap, before.heap+4<<20, "the heap grows")
	assert.Less(t, after.resident, before.resident+64<<20, "the process grows")
	assert.Equal(t, before.kernel, after.kernel, "kernel memory grows")
}

// TestBurst sends ten times what fits while the next component stalls. Then that goes on, and refuses one batch in ten
// for now and one event in a hundred for good. What becomes of each event is known beforehand.
func TestBurst(t *testing.T) {
	const capacity, sent, prime = 2_000, 20_000, 1_000_000
	// model is what a queue that nobody empties lets in of the burst.
	model := func(policy OnFull) (left []uint64, want Books) {
		want.Received = sent
		for name := range uint64(sent) {
			limit := capacity
			if policy == DropLowPriority {
				limit = []int{capacity * 3 / 4, capacity, capacity * 9 / 10}[name%3]
			}
			switch {
			case policy == Block || len(left) < limit:
				left = append(left, name)
			case policy == DropOldest:
				left = append(left[1:], name)
				want.DroppedOldest++
			case limit < capacity:
				want.DroppedLowPriority++
			default:
				want.DroppedNewest++
			}
		}
		return left, want
	}
	for name, set := range overloads {
		t.Run(name, func(t *testing.T) {
			n := newNext(t)
			random := rand.New(rand.NewPCG(1, 1))
			retries := 0
			n.setRefuse(func(b event.Batch) error {
				if random.IntN(10) == 0 {
					retries++
					return errors.New("not now")
				}
				if anyPoisoned(b) {
					return consumererror.NewPermanent(errors.New("poison"))
				}
				return nil
			})
			settings := newSettings(n, pinPath(t))
			settings.Queue.Capacity, settings.Work = capacity, keepAll
			set(&settings.Queue)
			policy := settings.Queue.OnFull
			if settings.Queue.BlockTimeout > 0 {
				policy = DropNewest
			}
			left, want := model(policy)
			s := start(t, settings)

			goOn := n.stall(t)
			lanes := settings.Queue.Lanes
			require.NoError(t, s.ConsumeLogs(t.Context(), frame(mixed(prime, lanes)))) // each worker has one event in hand
			require.Eventually(t, func() bool { return s.Books().InFlight == uint64(lanes) }, 10*time.Second, time.Millisecond)
			before := use(t, s)
			var sending sync.WaitGroup
			sending.Go(func() {
				for first := 0; first < sent; first += 1_000 {
					assert.NoError(t, s.ConsumeLogs(t.Context(), frame(mixed(first, 1_000))))
				}
			})
			if policy == Block {
				require.Eventually(t, func() bool { return s.Books().Queued == capacity }, 10*time.Second, time.Millisecond)
			} else {
				sending.Wait()
				stalled := want
				stalled.Received, stalled.Queued, stalled.InFlight = want.Received+uint64(lanes), capacity, uint64(lanes)
				assert.Equal(t, stalled, s.Books())
			}
			withinBounds(t, before, use(t, s))
			goOn()
			sending.Wait()
			books := settle(t, s)
			withinBounds(t, before, use(t, s))

			var through, letters []uint64
			for _, name := range append(numbers(prime, lanes), left...) {
				if poisoned(name) {
					letters = append(letters, name)
				} else {
					through = append(through, name)
				}
			}
			want.Received += uint64(lanes)
			want.Delivered, want.DeadLettered = uint64(len(through)), uint64(len(letters))
			assert.Equal(t, want, books)
			assert.Equal(t, sorted(through), sorted(n.got()))
			assert.Equal(t, sorted(letters), sorted(deadLetters(t, s)))
			assert.Positive(t, retries)
			t.Logf("%+v, %d batches were tried again", books, retries)
		})
	}
}

func sorted(names []uint64) []uint64 {
	slices.Sort(names)
	return names
}

// deadLetters takes the letters out of a stage that has settled, and returns their names.
func deadLetters(t testing.TB, s *Stage) (names []uint64) {
	t.Helper()
	popped, err := s.deadLetter.queue.Pop(0, bpf.MaxBatch)
	require.NoError(t, err)
	letters, err := event.ViewDeadLetters(popped.Data)
	require.NoError(t, err)
	for i := range letters {
		names = append(names, letters[i].Event.Event.Bytes)
	}
	s.deadLetter.queue.Ack(0)
	return names
}

// TestSlow sends ten times what fits as fast as it goes to a next component that is slow, refuses one batch in ten for
// now and one event in a hundred for good. How many events find no room is a matter of time; each has one fate.
func TestSlow(t *testing.T) {
	const capacity, sent = 2_000, 20_000
	for name, set := range overloads {
		t.Run(name, func(t *testing.T) {
			n := newNext(t)
			random := rand.New(rand.NewPCG(1, 1))
			refused := map[uint64]bool{}
			n.setRefuse(func(b event.Batch) error {
				time.Sleep(time.Millisecond)
				switch {
				case random.IntN(10) == 0:
					return errors.New("not now")
				case !anyPoisoned(b):
					return nil
				case b.Len() == 1:
					refused[b.At(0).Bytes] = true
				}
				return consumererror.NewPermanent(errors.New("poison"))
			})
			settings := newSettings(n, pinPath(t))
			settings.Queue.Capacity, settings.Work = capacity, keepAll
			set(&settings.Queue)
			s := start(t, settings)
			before := use(t, s)
			for first := 0; first < sent; first += 1_000 {
				require.NoError(t, s.ConsumeLogs(t.Context(), frame(mixed(first, 1_000))))
				// What a run is popping at this moment is counted as in the queue until its end.
				require.LessOrEqual(t, s.Books().Queued, uint64(capacity+settings.Queue.Lanes*bpf.MaxBatch))
			}
			books := settle(t, s)
			withinBounds(t, before, use(t, s))
			assert.EqualValues(t, sent, books.Received)
			assert.Equal(t, books.Received, books.total(), "%+v", books)
			assert.EqualValues(t, len(refused), books.DeadLettered)
			got := n.got()
			assert.Len(t, got, int(books.Delivered))
			seen := map[uint64]bool{}
			for _, name := range got {
				assert.False(t, seen[name], "%d came twice", name)
				assert.False(t, poisoned(name))
				seen[name] = true
			}
			for name := range refused {
				assert.True(t, poisoned(name))
			}
			if settings.Queue.OnFull == Block && settings.Queue.BlockTimeout == 0 {
				assert.Equal(t, Books{Received: sent, Delivered: sent - sent/100, DeadLettered: sent / 100}, books)
			} else {
				assert.NotZero(t, books.DroppedNewest+books.DroppedOldest+books.DroppedLowPriority)
			}
			t.Logf("%+v", books)
		})
	}
}

// usage is memory in bytes, and numbers of what else may leak.
type usage struct {
	heap, resident, kernel uint64
	files, pins            int
}

func use(t testing.TB, s *Stage) usage {
	t.Helper()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	text, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	pages, err := strconv.ParseUint(strings.Fields(string(text))[1], 10, 64)
	require.NoError(t, err)
	return usage{heap: stats.HeapAlloc, resident: pages * uint64(os.Getpagesize()), kernel: s.memory()}
}

// TestStalledNextBoundsMemory pushes a hundred times what fits to a component that takes nothing.
func TestStalledNextBoundsMemory(t *testing.T) {
	n := newNext(t)
	settings := newSettings(n, "")
	settings.Queue.Capacity, settings.Queue.OnFull, settings.Work = 10_000, DropOldest, keepAll
	s := start(t, settings)
	goOn := n.stall(t)
	push := func(first, batches int) {
		for i := range batches {
			require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(first+i*1000, 1000))))
		}
	}
	push(0, 50)
	before := use(t, s)
	push(50_000, 950)
	after := use(t, s)
	books := s.Books()
	goOn()
	assert.EqualValues(t, 1_000_000, books.Received)
	assert.Equal(t, books.Received, books.total())
	withinBounds(t, before, after)
	t.Logf("heap %d -> %d KiB, resident %d -> %d MiB, kernel %d KiB", before.heap>>10, after.heap>>10, before.resident>>20, after.resident>>20, after.kernel>>10)
	settle(t, s)
}

func TestHashKeepsTheOrderOfAKey(t *testing.T) {
	for _, by := range append([]HashBy{""}, hashKeys...) {
		t.Run("by_"+string(by), func(t *testing.T) {
			n := newNext(t)
			settings := newSettings(n, "")
			settings.Queue.Lanes, settings.Queue.Distribution, settings.Queue.HashBy, settings.Work = 4, Hash, by, keepAll
			s := start(t, settings)
			keyOf := func(name uint64) uint64 { return name * 7 % 13 }
			for first := 0; first < 5000; first += 500 {
				b := batch(first, 500)
				for i := range b.Len() {
					e := b.At(i)
					key := keyOf(e.Bytes)
					e.Process.TGID, e.Process.TID, e.Process.UID, e.Process.CgroupID = 1, 1, 1, 1
					switch by {
					case HashByTID:
						e.Process.TID = uint32(key)
					case HashByUID:
						e.Process.UID = uint32(key)
					case HashByCgroup:
						e.Process.CgroupID = key
					case HashByCommand:
						event.SetText(e.Process.Comm[:], "command-"+strconv.Itoa(int(key)))
					case HashByRemoteAddress:
						e.Category, e.Network().RemoteAddress = event.CategoryNetwork, [16]byte{10, 0, 0, byte(key)}
					default:
						e.Process.TGID = uint32(key)
					}
				}
				require.NoError(t, s.ConsumeLogs(t.Context(), frame(b)))
			}
			assert.EqualValues(t, 5000, settle(t, s).Delivered)
			last := map[uint64]uint64{}
			for _, name := range n.got() {
				assert.GreaterOrEqual(t, name, last[keyOf(name)])
				last[keyOf(name)] = name
			}
			used := 0
			for lane := range 4 {
				if s.queue.LaneBooks(lane).Delivered > 0 {
					used++
				}
			}
			assert.Greater(t, used, 1, "all went to one lane")
		})
	}
}

func TestDeadLettersOfAnotherCapacityWaitForTheirReplay(t *testing.T) {
	n := newNext(t)
	n.setRefuse(func(event.Batch) error { return consumererror.NewPermanent(errors.New("poison")) })
	path := pinPath(t)
	run := func(capacity, first, events int) Books {
		settings := newSettings(n, path)
		settings.DeadLetter.Capacity = capacity
		s := New(settings)
		require.NoError(t, s.Start(t.Context(), nil))
		require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(first, events))))
		books := settle(t, s)
		require.NoError(t, s.Shutdown(t.Context()))
		return books
	}
	run(100, 0, 10)
	assert.Equal(t, Books{Received: 20, DeadLettered: 20}, run(200, 10, 10))
	assert.Equal(t, Books{Received: 20, DeadLettered: 20}, run(50, 20, 0))
	c, err := bpf.OpenConsumer(path, "processor/test", DeadLetterQueue)
	require.NoError(t, err)
	defer c.Close()
	var got []uint64
	for {
		popped, err := c.Pop(0, bpf.MaxBatch)
		require.NoError(t, err)
		letters, err := event.ViewDeadLetters(popped.Data)
		require.NoError(t, err)
		for i := range letters {
			got = append(got, letters[i].Event.Event.Bytes)
		}
		c.Ack(0)
		if followed, err := c.Follow(); !followed {
			require.NoError(t, err)
			break
		}
	}
	assert.Equal(t, numbers(0, 20), got)
}

// BenchmarkLanes is the throughput with a next component that takes a time for each event, as one does that waits
// for something: a disk, a network.
func BenchmarkLanes(b *testing.B) {
	for _, cost := range []time.Duration{time.Microsecond, 10 * time.Microsecond, 100 * time.Microsecond} {
		for _, lanes := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("cost=%s/lanes=%d", cost, lanes), func(b *testing.B) {
				logs, err := consumer.NewLogs(func(_ context.Context, logs plog.Logs) error {
					return event.Decode(logs, func(batch event.Batch) error {
						time.Sleep(cost * time.Duration(batch.Len()))
						return nil
					}, func(_ plog.LogRecord, err error) { panic(err) })
				})
				require.NoError(b, err)
				settings := newSettings(logs, "")
				settings.Queue.Lanes, settings.Queue.Capacity, settings.Work = lanes, 4096, keepAll
				s := start(b, settings)
				events := batch(0, bpf.MaxBatch)
				send := func() {
					events.Sequence += bpf.MaxBatch
					if err := s.ConsumeLogs(b.Context(), frame(events)); err != nil {
						b.Fatal(err)
					}
				}
				for range 8 { // full from the start
					send()
				}
				for b.Loop() {
					send()
				}
				b.ReportMetric(float64(b.N)*bpf.MaxBatch/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// BenchmarkIdle is what a stage costs that has nothing to do.
func BenchmarkIdle(b *testing.B) {
	for _, lanes := range []int{1, 4} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) {
			settings := newSettings(newNext(b), "")
			settings.Queue.Lanes, settings.Health = lanes, NewHealthConfig()
			start(b, settings)
			before := cpuTime(b)
			for b.Loop() {
				time.Sleep(time.Second)
			}
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/b.Elapsed().Seconds(), "cpu-µs/s")
		})
	}
}

func cpuTime(b testing.TB) time.Duration {
	b.Helper()
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
