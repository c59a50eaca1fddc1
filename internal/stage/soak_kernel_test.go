//go:build linux && kernel

package stage

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// soakVariable asks for a longer soak, such as 10m, than a run of all tests has time for.
const soakVariable = "KERNELPIPE_SOAK"

// soak returns how long TestSoak runs.
func soak(t testing.TB) time.Duration {
	if text := os.Getenv(soakVariable); text != "" {
		duration, err := time.ParseDuration(text)
		require.NoError(t, err, soakVariable)
		return duration
	}
	return time.Minute
}

// TestSoak runs a stage as fast as it goes, with a next component that stalls and fails at random. Now and then the
// stage is stopped, and started again with another policy and capacity. Each time its books have to balance to the
// event, and what it uses must not have grown since the first time that it had this shape: at most 8 MiB of heap and
// 64 MiB resident, which are the garbage collector's slack, and not a byte of kernel memory, goroutine, file or pin.
func TestSoak(t *testing.T) {
	duration := soak(t)
	var delivered, letters, refused, stalls atomic.Uint64
	logs, err := consumer.NewLogs(func(ctx context.Context, logs plog.Logs) error {
		return event.Decode(logs, func(b event.Batch) error {
			switch random := rand.IntN(1000); {
			case random < 2:
				stalls.Add(1)
				time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			case random < 20:
				refused.Add(1)
				return errors.New("not now")
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			for i := range b.Len() {
				if b.At(i).Bytes%10_007 == 0 {
					if b.Len() == 1 {
						letters.Add(1)
					}
					return consumererror.NewPermanent(errors.New("poison"))
				}
			}
			delivered.Add(uint64(b.Len()))
			return nil
		}, func(_ plog.LogRecord, err error) { panic(err) })
	})
	require.NoError(t, err)
	settings := newSettings(logs, pinPath(t))
	settings.Queue.Lanes, settings.Work = 4, keepAll
	shapes := []struct {
		onFull   OnFull
		capacity int
	}{{Block, 20_000}, {DropNewest, 5_000}, {DropOldest, 20_000}, {DropLowPriority, 5_000}}

	const senders = 2
	goroutines := runtime.NumGoroutine()
	var sent, next uint64
	first := make([]usage, len(shapes))
	end := time.Now().Add(duration)
	rounds := 0
	for ; time.Now().Before(end) || rounds < 2*len(shapes); rounds++ {
		shape := rounds % len(shapes)
		settings.Queue.OnFull, settings.Queue.Capacity = shapes[shape].onFull, shapes[shape].capacity
		s := New(settings)
		require.NoError(t, s.Start(t.Context(), nil))
		stop := time.Now().Add(min(duration/(2*time.Duration(len(shapes))), 15*time.Second))
		var sending sync.WaitGroup
		var batches [senders]uint64
		for sender := range senders {
			sending.Go(func() {
				mine := batch(0, 1000)
				mine.Source, mine.Sequence = uint64(1+sender)<<8, next
				for time.Now().Before(stop) {
					for i := range mine.Len() { // names that differ, so that one in 10,007 is poisoned
						mine.At(i).Bytes = mine.Sequence + uint64(i)
						mine.At(i).Priority = event.Priority(1 + i%3)
					}
					if !assert.NoError(t, s.ConsumeLogs(t.Context(), frame(mine))) {
						return
					}
					mine.Sequence += 1000
					batches[sender]++
				}
			})
		}
		sending.Wait()
		for _, n := range batches {
			sent += n * 1000
		}
		next += 1000 * max(batches[0], batches[1])
		books := settle(t, s)
		assert.Equal(t, sent, books.Received)
		assert.Equal(t, books.Received, books.total(), "%+v", books)
		assert.Equal(t, delivered.Load(), books.Delivered)
		assert.Equal(t, letters.Load(), books.DeadLettered)
		now := use(t, s)
		require.NoError(t, s.Shutdown(t.Context()))
		now.files, now.pins = entries(t, "/proc/self/fd"), entries(t, settings.PinPath+"/processor@test")
		if rounds < len(shapes) {
			first[shape] = now
		}
		before := first[shape]
		assert.Less(t, now.heap, before.heap+8<<20, "the heap grows")
		assert.Less(t, now.resident, before.resident+64<<20, "the process grows")
		assert.Equal(t, before.kernel, now.kernel, "kernel memory grows")
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond) // one that has told of its end may still be there
		}
		assert.LessOrEqual(t, runtime.NumGoroutine(), goroutines, "goroutines are left")
		assert.LessOrEqual(t, now.files, before.files, "files are left open")
		assert.Equal(t, before.pins, now.pins, "pins are left")
		t.Logf("round %d, %s: %+v; heap %d KiB, resident %d MiB, kernel %d KiB, %d files, %d pins", rounds, settings.Queue.OnFull, books,
			now.heap>>10, now.resident>>20, now.kernel>>10, now.files, now.pins)
	}
	assert.Positive(t, stalls.Load())
	assert.Positive(t, refused.Load())
	assert.Positive(t, letters.Load())
	t.Logf("%s, %d rounds, %d events: %d stalls, %d batches tried again, %d dead letters", duration, rounds, sent, stalls.Load(), refused.Load(), letters.Load())
}

// entries counts what is in a directory.
func entries(t testing.TB, directory string) int {
	t.Helper()
	all, err := os.ReadDir(directory)
	require.NoError(t, err)
	return len(all)
}
