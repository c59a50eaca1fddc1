//go:build linux && kernel

package stage

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/statustest"
)

// handoff is the stage of a bpf_queue exporter.
func handoff(path string, change func(*Settings)) Settings {
	settings := newSettings(nil, path)
	settings.Name, settings.Next, settings.ElementSize = QueueComponent("handoff"), nil, event.EnrichedSize
	settings.Work = func(batch event.Batch, i int, out []byte) bool {
		clear(out[copy(out, batch.Data[i*batch.Size:(i+1)*batch.Size]):])
		return true
	}
	if change != nil {
		change(&settings)
	}
	return settings
}

func newDrain(n *next, path, owner, queue string) DrainSettings {
	return DrainSettings{
		Name: "receiver/test", Telemetry: componenttest.NewNopTelemetrySettings(), PinPath: path, Owner: owner, Queue: queue,
		DeadLetter: NewDeadLetterConfig(), Encoding: event.EncodingFrames, Next: n,
		Retry: configretry.BackOffConfig{Enabled: true, InitialInterval: time.Millisecond, MaxInterval: 2 * time.Millisecond, Multiplier: 1},
	}
}

func startDrain(t testing.TB, settings DrainSettings) (d *Drain, stop func()) {
	t.Helper()
	dir, err := bpf.OpenDirectory(settings.PinPath, settings.Name)
	require.NoError(t, err)
	d = NewDrain(settings)
	require.NoError(t, d.Start(&statustest.Host{}, &statustest.Host{}, dir))
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			assert.NoError(t, d.Shutdown(context.Background()))
			assert.NoError(t, dir.Close())
		}
	}
	t.Cleanup(stop)
	return d, stop
}

func eventually(t testing.TB, what func() bool) {
	t.Helper()
	require.Eventually(t, what, 20*time.Second, time.Millisecond)
}

func TestDrainWaitsThenFollowsItsOwner(t *testing.T) {
	n, path := newNext(t), pinPath(t)
	startDrain(t, newDrain(n, path, "queue/handoff", Queue)) // before there is a queue
	first := 0
	for _, shape := range []QueueConfig{{Capacity: 2000, Lanes: 1}, {Capacity: 500, Lanes: 4}, {Capacity: 3000, Lanes: 2}} {
		s := New(handoff(path, func(s *Settings) {
			s.Queue.Capacity, s.Queue.Lanes = shape.Capacity, shape.Lanes
		}))
		require.NoError(t, s.Start(t.Context(), nil))
		require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(first, 3000)))) // more than fits: it blocks until there is room
		first += 3000
		if shape.Lanes == 4 {
			eventually(t, func() bool { return len(n.got()) == first })
		}
		require.NoError(t, s.Shutdown(t.Context()))
	}
	eventually(t, func() bool { return len(n.got()) == first })
	assert.ElementsMatch(t, numbers(0, first), n.got())
	_, err := os.Stat(path + "/queue@handoff/queue-0")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// tenOf makes ten events of a size, named first, first+1, …
func tenOf(size, first int) event.Batch {
	b := event.Batch{Source: 0x100, Sequence: uint64(first), Size: size, Data: make([]byte, 10*size)}
	for i := range 10 {
		*b.At(i) = *batch(first+i, 1).At(0)
		if size == event.EnrichedSize {
			b.Data[i*size+event.Size] = 1
		}
	}
	return b
}

func TestDrainNarrowsAndRefuses(t *testing.T) {
	n, path := newNext(t), pinPath(t)
	s := start(t, handoff(path, nil))
	bad := tenOf(event.Size, 20)
	bad.At(5).Version = 9 // no frame would bring it here; a program of others may
	for _, b := range []event.Batch{tenOf(event.Size, 0), tenOf(event.EnrichedSize, 10), bad} {
		require.NoError(t, s.enqueue(t.Context(), b))
	}
	type run struct{ size, first, n int }
	var runs []run
	n.setRefuse(func(b event.Batch) error {
		runs = append(runs, run{b.Size, int(b.At(0).Bytes), b.Len()})
		assert.Equal(t, b.At(0).Bytes, b.Sequence)
		return nil
	})
	telemetry := componenttest.NewTelemetry()
	settings := newDrain(n, path, "queue/handoff", Queue)
	settings.Telemetry = telemetry.NewTelemetrySettings()
	startDrain(t, settings)
	eventually(t, func() bool { b := s.Books(); return b.Queued+b.InFlight == 0 })
	assert.Len(t, n.got(), 29)
	assert.Equal(t, []run{{128, 0, 10}, {256, 10, 10}, {128, 20, 5}, {128, 26, 4}}, runs)
	value := func(name string) int64 {
		got, err := telemetry.GetMetric("otelcol_kernelpipe_drain_" + name)
		require.NoError(t, err)
		return got.Data.(metricdata.Sum[int64]).DataPoints[0].Value
	}
	assert.EqualValues(t, 1, value("invalid"))
	assert.EqualValues(t, 30, value("delivered"))
}

func TestDrainTriesAgainAndLeavesWhatItCouldNotDeliver(t *testing.T) {
	n, path := newNext(t), pinPath(t)
	s := start(t, handoff(path, nil))
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 100))))
	n.setRefuse(func(event.Batch) error { return errors.New("down") })
	_, stop := startDrain(t, newDrain(n, path, "queue/handoff", Queue))
	eventually(t, func() bool { return s.Books().InFlight == 100 })
	stop()
	assert.Equal(t, Books{Received: 100, InFlight: 100}, s.Books())

	redelivered := false
	n.setRefuse(func(b event.Batch) error {
		redelivered = b.Redelivered
		for i := range b.Len() {
			if b.At(i).Bytes == 42 {
				return consumererror.NewPermanent(errors.New("poison"))
			}
		}
		return nil
	})
	d, _ := startDrain(t, newDrain(n, path, "queue/handoff", Queue))
	eventually(t, func() bool { return s.Books().Delivered == 100 })
	assert.Len(t, n.got(), 99)
	assert.True(t, redelivered)
	assert.EqualValues(t, 1, d.deadLetter.queue.Books().Queued)
}

func TestDrainDoesNotDeliverTheLettersOfABatchInFlight(t *testing.T) {
	n, path := newNext(t), pinPath(t)
	s := start(t, handoff(path, nil))
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 40))))
	n.refuseHalfWay()
	d, stop := startDrain(t, newDrain(n, path, "queue/handoff", Queue))
	eventually(t, func() bool { return d.deadLetter.queue.Books().Received == 2 })
	stop()
	assert.Equal(t, Books{Received: 40, InFlight: 40}, s.Books())
	n.setRefuse(nil)
	d, _ = startDrain(t, newDrain(n, path, "queue/handoff", Queue))
	eventually(t, func() bool { return s.Books().Delivered == 40 })
	assert.Equal(t, append(numbers(0, 12), numbers(14, 26)...), n.got())
	assert.EqualValues(t, 2, d.deadLetter.queue.Books().Received)
}

func TestOneDrainAtATime(t *testing.T) {
	n, path := newNext(t), pinPath(t)
	start(t, handoff(path, nil))
	startDrain(t, newDrain(n, path, "queue/handoff", Queue))
	second := newDrain(n, path, "queue/handoff", Queue)
	second.Name = "receiver/second"
	err := NewDrain(second).Start(&statustest.Host{}, &statustest.Host{}, &bpf.Directory{})
	require.ErrorIs(t, err, bpf.ErrClaimed)

	// A stage that delivers what is in its queue has it for itself.
	start(t, newSettings(n, path))
	second.Owner = "processor/test"
	require.ErrorIs(t, NewDrain(second).Start(&statustest.Host{}, &statustest.Host{}, &bpf.Directory{}), bpf.ErrClaimed)
}

// After a failure a peek goes on where it was: every lane is shown, and nothing twice.
func TestPeekGoesOnAfterAFailure(t *testing.T) {
	n, path := newNext(t), pinPath(t)
	s := start(t, handoff(path, func(s *Settings) { s.Queue.Lanes = 2 }))
	require.NoError(t, s.enqueue(t.Context(), tenOf(event.Size, 0)))
	require.NoError(t, s.enqueue(t.Context(), tenOf(event.EnrichedSize, 10)))
	type run struct{ size, first, n int }
	var runs []run
	n.setRefuse(func(b event.Batch) error {
		runs = append(runs, run{b.Size, int(b.At(0).Bytes), b.Len()})
		if len(runs) == 2 || len(runs) == 4 {
			return consumererror.NewPermanent(errors.New("not this time"))
		}
		return nil
	})
	settings := newDrain(n, path, "queue/handoff", Queue)
	settings.Peek = true
	_, stop := startDrain(t, settings)
	eventually(t, func() bool { return len(n.got()) == 20 })
	stop()
	assert.Equal(t, []run{{128, 0, 5}, {256, 10, 5}, {256, 10, 5}, {128, 1, 5}, {128, 1, 5}, {256, 11, 5}}, runs)
	assert.Equal(t, numbers(0, 20), sorted(n.got()))
	assert.Equal(t, Books{Received: 20, InFlight: 20}, s.Books())
}

// Dead letters are looked at, then replayed, all while their owner runs.
func TestDeadLettersAreInspectedAndReplayed(t *testing.T) {
	n, path := newNext(t), pinPath(t)
	poison := func(b event.Batch) error {
		for i := range b.Len() {
			if b.At(i).Bytes%10 == 3 {
				return consumererror.NewPermanent(errors.New("poison"))
			}
		}
		return nil
	}
	n.setRefuse(poison)
	settings := newSettings(n, path)
	s := start(t, settings)
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 100))))
	want := Books{Received: 100, Delivered: 90, DeadLettered: 10}
	assert.Equal(t, want, settle(t, s))

	for range 2 { // as often as one likes
		sink := &consumertest.LogsSink{}
		peek := newDrain(n, path, "processor/test", DeadLetterQueue)
		peek.Peek, peek.Encoding, peek.Next = true, event.EncodingRecords, sink
		_, stop := startDrain(t, peek)
		eventually(t, func() bool { return sink.LogRecordCount() == 10 })
		stop()
		record := sink.AllLogs()[0].ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
		attributes := record.Attributes().AsRaw()
		assert.Equal(t, "processor/test", attributes["kernelpipe.dead_letter.stage"])
		assert.Equal(t, "poison", attributes["kernelpipe.dead_letter.reason"])
		assert.EqualValues(t, 1, attributes["kernelpipe.dead_letter.attempts"])
		assert.NotEmpty(t, attributes["kernelpipe.dead_letter.time"])
		books := s.deadLetter.queue.Books()
		assert.EqualValues(t, 10, books.Queued+books.InFlight)
	}

	replayed := newNext(t)
	startDrain(t, newDrain(replayed, path, "processor/test", DeadLetterQueue))
	eventually(t, func() bool { return len(replayed.got()) == 10 })
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(100, 10)))) // the owner goes on, and so does the replay
	eventually(t, func() bool { return len(replayed.got()) == 11 })
	assert.Equal(t, []uint64{3, 13, 23, 33, 43, 53, 63, 73, 83, 93, 103}, replayed.got())
	eventually(t, func() bool { return s.deadLetter.queue.Books().Delivered == 11 })
	assert.Equal(t, Books{Received: 110, Delivered: 99, DeadLettered: 11}, settle(t, s))
}
