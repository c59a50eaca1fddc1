//go:build linux && kernel

package stage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/statustest"
)

// next is a component after the stage that takes note of what it accepts, and refuses what it is told to.
type next struct {
	consumer.Logs
	mu       sync.Mutex
	accepted []uint64 // the events' Bytes, which the tests use as names
	refuse   func(batch event.Batch) error
}

func newNext(t testing.TB) *next {
	n := &next{}
	logs, err := consumer.NewLogs(n.consume)
	require.NoError(t, err)
	n.Logs = logs
	return n
}

func (n *next) consume(ctx context.Context, logs plog.Logs) error {
	return event.Decode(logs, func(batch event.Batch) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.refuse != nil {
			if err := n.refuse(batch); err != nil {
				return err
			}
		}
		for i := range batch.Len() {
			n.accepted = append(n.accepted, batch.At(i).Bytes)
		}
		return ctx.Err()
	}, func(_ plog.LogRecord, err error) { panic(err) })
}

func (n *next) got() []uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]uint64{}, n.accepted...)
}

func (n *next) setRefuse(refuse func(event.Batch) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = refuse
}

// stall keeps the component from taking anything until goOn is called, or the test ends.
func (n *next) stall(t testing.TB) (goOn func()) {
	n.mu.Lock()
	goOn = sync.OnceFunc(n.mu.Unlock)
	t.Cleanup(goOn)
	return goOn
}

// pinPath returns a directory of the test's own in bpffs, which is gone after the test.
func pinPath(t testing.TB) string {
	t.Helper()
	path := filepath.Join("/sys/fs/bpf", "kernelpipe-test-"+filepath.Base(t.Name()))
	require.NoError(t, os.RemoveAll(path))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(path)) })
	return path
}

func newSettings(n consumer.Logs, pinPath string) Settings {
	return Settings{
		Name: "processor/test", Telemetry: componenttest.NewNopTelemetrySettings(), PinPath: pinPath, ElementSize: event.Size,
		Queue: NewQueueConfig(), DeadLetter: NewDeadLetterConfig(), Encoding: event.EncodingFrames, Next: n,
		Retry: configretry.BackOffConfig{Enabled: true, InitialInterval: time.Millisecond, MaxInterval: 2 * time.Millisecond, Multiplier: 1},
		Work: func(batch event.Batch, i int, out []byte) bool {
			copy(out, batch.Data[i*batch.Size:])
			return batch.At(i).Priority != event.PriorityLow
		},
	}
}

func start(t testing.TB, settings Settings) *Stage {
	t.Helper()
	s := New(settings)
	require.NoError(t, s.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { assert.NoError(t, s.Shutdown(context.Background())) })
	return s
}

// batch makes events named first, first+1, …
func batch(first, n int) event.Batch {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = event.Event{Version: event.Version, Category: event.CategoryProcess, Operation: 1, Bytes: uint64(first + i)}
		events[i].Process.TGID = uint32(100 + (first+i)%10)
	}
	return event.Batch{Source: 0x100, Sequence: uint64(first), Size: event.Size, Data: event.Bytes(events)}
}

func frame(b event.Batch) plog.Logs { return event.Encode(event.EncodingFrames, b, event.Clock{}) }

func redelivered(b event.Batch) plog.Logs {
	b.Redelivered = true
	return frame(b)
}

func numbers(first, n int) []uint64 {
	all := make([]uint64, n)
	for i := range all {
		all[i] = uint64(first + i)
	}
	return all
}

func settle(t testing.TB, s *Stage) Books {
	t.Helper()
	require.Eventually(t, func() bool { b := s.Books(); return b.Queued+b.InFlight == 0 }, time.Minute, time.Millisecond)
	return s.Books()
}

func TestDeliversEveryEventOnceAndInOrder(t *testing.T) {
	for _, pinned := range []bool{false, true} {
		n, path := newNext(t), ""
		if pinned {
			path = pinPath(t)
		}
		s := start(t, newSettings(n, path))
		low := batch(3000, 10)
		for i := range 10 {
			low.At(i).Priority = event.PriorityLow
		}
		require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 3000))))
		require.NoError(t, s.ConsumeLogs(t.Context(), frame(low)))
		assert.Equal(t, Books{Received: 3010, Delivered: 3000, Filtered: 10}, settle(t, s))
		assert.Equal(t, numbers(0, 3000), n.got())
	}
}

func TestRedeliveredEventsAreRecognised(t *testing.T) {
	n := newNext(t)
	s := start(t, newSettings(n, ""))
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 700))))
	again := batch(200, 1000)
	again.Redelivered = true
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(again)))
	assert.Equal(t, Books{Received: 1200, Delivered: 1200, Redelivered: 500}, settle(t, s))
	assert.Equal(t, numbers(0, 1200), n.got())
}

func TestForeignRecordsAreCountedAndHarmless(t *testing.T) {
	n := newNext(t)
	telemetry := componenttest.NewTelemetry()
	settings := newSettings(n, "")
	settings.Telemetry = telemetry.NewTelemetrySettings()
	s := start(t, settings)
	logs := frame(batch(0, 5))
	logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().AppendEmpty().Body().SetStr("what is this?")
	require.NoError(t, s.ConsumeLogs(t.Context(), logs))
	assert.Equal(t, Books{Received: 5, Delivered: 5}, settle(t, s))
	got, err := telemetry.GetMetric("otelcol_kernelpipe_stage_foreign")
	require.NoError(t, err)
	points := got.Data.(metricdata.Sum[int64]).DataPoints
	require.Len(t, points, 1)
	assert.EqualValues(t, 1, points[0].Value)
}

func TestFailuresThatPassAreTriedAgain(t *testing.T) {
	n := newNext(t)
	s := start(t, newSettings(n, ""))
	failures := 0
	n.setRefuse(func(b event.Batch) error {
		assert.Equal(t, failures > 0, b.Redelivered)
		if failures++; failures < 5 {
			return errors.New("not now")
		}
		return nil
	})
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 100))))
	assert.Equal(t, Books{Received: 100, Delivered: 100}, settle(t, s))
	assert.Equal(t, numbers(0, 100), n.got())
}

func TestPoisonedEventsGoToTheDeadLetterAlone(t *testing.T) {
	n := newNext(t)
	s := start(t, newSettings(n, ""))
	n.setRefuse(func(b event.Batch) error {
		for i := range b.Len() {
			if name := b.At(i).Bytes; name == 13 || name == 77 {
				return consumererror.NewPermanent(errors.New("poison"))
			}
		}
		return nil
	})
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 100))))
	assert.Equal(t, Books{Received: 100, Delivered: 98, DeadLettered: 2}, settle(t, s))
	assert.Len(t, n.got(), 98)
	letters, err := s.deadLetter.queue.Pop(0, bpf.MaxBatch)
	require.NoError(t, err)
	got, err := event.ViewDeadLetters(letters.Data)
	require.NoError(t, err)
	require.Len(t, got, 2)
	assert.EqualValues(t, 13, got[0].Event.Event.Bytes)
	assert.Equal(t, "poison", event.Text(got[0].Reason[:]))
	assert.Equal(t, "processor/test", event.Text(got[0].Stage[:]))
}

// refuseHalfWay has the next component refuse the events 12 and 13 for good, and what comes after them for now.
func (n *next) refuseHalfWay() {
	n.setRefuse(func(b event.Batch) error {
		switch first, last := b.At(0).Bytes, b.At(b.Len()-1).Bytes; {
		case first >= 14:
			return errors.New("down")
		case last >= 12:
			return consumererror.NewPermanent(errors.New("poison"))
		}
		return nil
	})
}

// A process that ends between a letter and the end of its batch leaves the batch to the next one, whose next component
// accepts what was refused before. Each event has one fate all the same.
func TestLettersOfABatchInFlightAreNotDelivered(t *testing.T) {
	for _, lanes := range []int{1, 2} {
		n := newNext(t)
		settings := newSettings(n, pinPath(t))
		settings.Queue.Lanes, settings.ShutdownTimeout = lanes, time.Millisecond
		run := func(until func(*Stage) bool) Books {
			s := New(settings)
			require.NoError(t, s.Start(t.Context(), nil))
			require.NoError(t, s.ConsumeLogs(t.Context(), redelivered(batch(0, 40))))
			eventually(t, func() bool { return until(s) })
			books := s.Books()
			require.NoError(t, s.Shutdown(t.Context()))
			return books
		}
		n.setRefuse(func(event.Batch) error { return errors.New("down") })
		run(func(*Stage) bool { return true })
		n.refuseHalfWay()
		run(func(s *Stage) bool { return s.deadLetter.queue.Books().Received == 2 })
		books := run(func(*Stage) bool { return true })
		assert.LessOrEqual(t, books.Delivered, uint64(12), "never negative")
		assert.Equal(t, books.Received, books.total())
		n.setRefuse(nil)
		want := Books{Received: 40, Delivered: 38, DeadLettered: 2, Redelivered: 3 * 40}
		assert.Equal(t, want, run(func(s *Stage) bool { b := s.Books(); return b.Queued+b.InFlight == 0 }))
		assert.Equal(t, append(numbers(0, 12), numbers(14, 26)...), sorted(n.got()), "none is delivered that is a letter, and none twice")
	}
}

func TestMaxElapsedTimeIsThatOfTheWholeBatch(t *testing.T) {
	n := newNext(t)
	tries := map[int]int{} // by size
	n.setRefuse(func(b event.Batch) error {
		tries[b.Len()]++
		return errors.New("down")
	})
	settings := newSettings(n, "")
	settings.Retry.MaxElapsedTime = 20 * time.Millisecond
	s := start(t, settings)
	letters, err := s.delivery.deliver(batch(0, 8))
	require.NoError(t, err)
	assert.Equal(t, 8, letters)
	assert.Positive(t, tries[8])
	delete(tries, 8)
	assert.Equal(t, map[int]int{4: 2, 2: 4, 1: 8}, tries, "its time was up before it was divided")
}

func TestOnFull(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*QueueConfig)
		want Books
		left []uint64
	}{
		{"drop_newest", func(c *QueueConfig) { c.OnFull = DropNewest }, Books{Received: 3000, Delivered: 101, DroppedNewest: 2899}, numbers(0, 100)},
		{"drop_oldest", func(c *QueueConfig) { c.OnFull = DropOldest }, Books{Received: 3000, Delivered: 101, DroppedOldest: 2899}, numbers(2899, 100)},
		{"block_timeout", func(c *QueueConfig) { c.BlockTimeout = time.Millisecond }, Books{Received: 3000, Delivered: 101, DroppedNewest: 2899}, numbers(0, 100)},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNext(t)
			settings := newSettings(n, "")
			settings.Queue.Capacity = 100
			test.set(&settings.Queue)
			s := start(t, settings)
			goOn := n.stall(t) // with one event in hand
			require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(10_000, 1))))
			require.Eventually(t, func() bool { return s.Books().InFlight == 1 }, 10*time.Second, time.Millisecond)
			require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 2999))))
			goOn()
			books := settle(t, s)
			assert.Equal(t, test.want, books)
			assert.Equal(t, append([]uint64{10_000}, test.left...), n.got())
		})
	}
}

func TestBlockEndsWithTheContextAndLosesNothing(t *testing.T) {
	n := newNext(t)
	settings := newSettings(n, "")
	settings.Queue.Capacity = 100
	s := start(t, settings)
	goOn := n.stall(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.ConsumeLogs(ctx, frame(batch(0, 1000))), context.DeadlineExceeded)
	goOn()
	again := batch(0, 1000)
	again.Redelivered = true
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(again)))
	assert.EqualValues(t, 1000, settle(t, s).Delivered)
	assert.Equal(t, numbers(0, 1000), n.got())
}

func TestLanesKeepTheOrderOfAProcess(t *testing.T) {
	n := newNext(t)
	settings := newSettings(n, "")
	settings.Queue.Lanes, settings.Queue.Distribution = 4, Hash
	s := start(t, settings)
	for i := range 20 {
		require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(i*500, 500))))
	}
	assert.EqualValues(t, 10_000, settle(t, s).Delivered)
	last := map[uint64]uint64{}
	for _, name := range n.got() {
		assert.GreaterOrEqual(t, name, last[name%10])
		last[name%10] = name
	}
}

func TestNextProcessDeliversWhatTheLastLeft(t *testing.T) {
	for _, test := range []struct {
		name            string
		before          int // lanes
		capacity, lanes int
	}{{"same", 1, 2000, 1}, {"larger", 1, 5000, 1}, {"smaller", 1, 50, 1}, {"more_lanes", 1, 2000, 4}, {"fewer_lanes", 4, 2000, 2}} {
		t.Run(test.name, func(t *testing.T) {
			n := newNext(t)
			n.setRefuse(func(event.Batch) error { return errors.New("down") })
			settings := newSettings(n, pinPath(t))
			settings.Queue.Capacity, settings.Queue.Lanes = 2000, test.before
			first := New(settings)
			require.NoError(t, first.Start(t.Context(), nil))
			require.NoError(t, first.ConsumeLogs(t.Context(), frame(batch(0, 1500))))
			second := New(settings)
			require.ErrorContains(t, second.Start(t.Context(), nil), "is in use by another running process")
			require.NoError(t, second.Shutdown(t.Context()))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.NoError(t, first.Shutdown(ctx))

			n.setRefuse(nil)
			settings.Queue.Capacity, settings.Queue.Lanes = test.capacity, test.lanes
			s := start(t, settings)
			require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(1500, 500))))
			books := settle(t, s)
			assert.Equal(t, Books{Received: 2000, Delivered: 2000}, books)
			assert.ElementsMatch(t, numbers(0, 2000), n.got())
		})
	}
}

func TestShutdownWithoutStartAndTwice(t *testing.T) {
	s := New(newSettings(newNext(t), ""))
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, s.Start(t.Context(), nil))
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, s.Shutdown(t.Context()))
}

// What comes before Start, after Shutdown or while it stops is not taken, so whoever sent it still has it.
func TestConsumesOnlyWhileItRuns(t *testing.T) {
	n := newNext(t)
	settings := newSettings(n, pinPath(t))
	settings.Queue.Capacity = 100
	s := New(settings)
	foreign := plog.NewLogs()
	foreign.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	refused := func() {
		t.Helper()
		require.ErrorIs(t, s.ConsumeLogs(t.Context(), frame(batch(0, 10))), errNotRunning)
		require.ErrorIs(t, s.ConsumeLogs(t.Context(), foreign), errNotRunning)
	}
	refused()
	require.NoError(t, s.Start(t.Context(), nil))
	n.setRefuse(func(event.Batch) error { return errors.New("down") })
	waiting := make(chan error)
	go func() { waiting <- s.ConsumeLogs(t.Context(), frame(batch(0, 300))) }() // which finds no room
	require.Eventually(t, func() bool { b := s.Books(); return b.Queued == 100 && b.InFlight > 0 }, 10*time.Second, time.Millisecond)
	taken := s.Books().Received
	now, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Shutdown(now))
	require.ErrorIs(t, <-waiting, errNotRunning)
	refused()

	n.setRefuse(nil)
	require.NoError(t, s.Start(t.Context(), nil))
	again := batch(0, 300)
	again.Redelivered = true
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(again)))
	assert.Equal(t, Books{Received: 300, Delivered: 300, Redelivered: taken}, settle(t, s))
	assert.Equal(t, numbers(0, 300), n.got())
	require.NoError(t, s.Shutdown(t.Context()))
	refused()
}

func TestUnpinnedEventsLeftAreReported(t *testing.T) {
	n := newNext(t)
	n.refuse = func(event.Batch) error { return errors.New("down") }
	s := New(newSettings(n, ""))
	require.NoError(t, s.Start(t.Context(), nil))
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 10))))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, s.Shutdown(ctx), "10 events were not delivered")
}

// shutDown stops a stage as the Collector does: with a context that has no end.
func shutDown(t testing.TB, s *Stage) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		require.FailNow(t, "the stage does not stop while the next component takes nothing")
		return nil
	}
}

func TestShutdownTimeout(t *testing.T) {
	n := newNext(t)
	n.setRefuse(func(event.Batch) error { return errors.New("down") })
	pinned, unpinned := newSettings(n, pinPath(t)), newSettings(n, "")
	pinned.ShutdownTimeout, unpinned.ShutdownTimeout = 10*time.Millisecond, 10*time.Millisecond
	for _, settings := range []Settings{pinned, unpinned} {
		s := New(settings)
		require.NoError(t, s.Start(t.Context(), nil))
		require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 3000))))
		err := shutDown(t, s)
		if settings.PinPath == "" {
			require.EqualError(t, err, "processor/test: 3000 events were not delivered in the time to stop and are lost: there is no pin_path")
		} else {
			require.NoError(t, err)
		}
	}
	n.setRefuse(nil)
	s := start(t, pinned)
	assert.Equal(t, Books{Received: 3000, Delivered: 3000}, settle(t, s))
	assert.Equal(t, numbers(0, 3000), n.got())
}

// Six pipelines of 16 lanes each feed one stage, and every batch comes again: each event is in its queue once.
func TestManySources(t *testing.T) {
	n := newNext(t)
	s := start(t, newSettings(n, ""))
	const sources = 96
	for first := 0; first < 30; first += 10 {
		for _, again := range []bool{false, true} {
			for source := range uint64(sources) {
				b := batch(first, 10)
				b.Source, b.Redelivered = 0x100*(1+source/16)+source%16, again
				require.NoError(t, s.ConsumeLogs(t.Context(), frame(b)))
			}
		}
	}
	assert.Equal(t, Books{Received: 30 * sources, Delivered: 30 * sources, Redelivered: 30 * sources}, settle(t, s))
}

// A source that there is no room for is refused, to be tried again: its events are not lost, and it is said.
func TestOneSourceTooMany(t *testing.T) {
	n, h, telemetry := newNext(t), &statustest.Host{}, componenttest.NewTelemetry()
	settings := newSettings(n, "")
	settings.Telemetry = telemetry.NewTelemetrySettings()
	s := New(settings)
	require.NoError(t, s.Start(t.Context(), h))
	t.Cleanup(func() { assert.NoError(t, s.Shutdown(context.Background())) })
	deliver := func(source uint64) error {
		b := batch(0, 10)
		b.Source = 0x100 * source
		return s.ConsumeLogs(t.Context(), frame(b))
	}
	for source := range uint64(bpf.MaxSources) {
		require.NoError(t, deliver(source+1))
	}
	err := deliver(bpf.MaxSources + 1)
	require.ErrorIs(t, err, bpf.ErrSources)
	assert.False(t, consumererror.IsPermanent(err), "it is to be tried again")
	assert.EqualValues(t, 10*bpf.MaxSources, settle(t, s).Delivered)
	eventually(t, func() bool { return len(h.Events()) == 1 })
	assert.Equal(t, componentstatus.StatusRecoverableError, h.Events()[0].Status())
	require.ErrorIs(t, h.Events()[0].Err(), bpf.ErrSources)
	got, err := telemetry.GetMetric("otelcol_kernelpipe_stage_sources_refused")
	require.NoError(t, err)
	assert.EqualValues(t, 1, got.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
}
