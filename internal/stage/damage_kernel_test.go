//go:build linux && kernel

package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/statustest"
)

// Offsets in struct kp_books and in the struct kp_lane of each lane.
const (
	booksLanes     = 56
	laneSize       = 72
	lanePopped     = 8
	laneInFlight   = 40
	laneGeneration = 48
)

// forge writes a number into what is pinned at path.
func forge(t testing.TB, path string, offset int, number uint64) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(path, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	var value []byte
	require.NoError(t, m.Lookup(uint32(0), &value))
	binary.NativeEndian.PutUint64(value[offset:], number)
	require.NoError(t, m.Put(uint32(0), value))
}

// unoffer lets go of the lanes that programs of others push to: the kernel keeps none of them without a pin then.
func unoffer(t testing.TB, path string) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(path, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	for lane := range uint32(bpf.MaxLanes) {
		if err := m.Delete(lane); !errors.Is(err, ebpf.ErrKeyNotExist) {
			require.NoError(t, err)
		}
	}
}

// A lane whose number in flight can't be stands still, and says so; the other lanes go on, with what comes for that one too.
func TestForgedNumberInFlight(t *testing.T) {
	for _, inFlight := range []uint64{1025, 5000, 1 << 32, math.MaxUint64} {
		n, h, path := newNext(t), &statustest.Host{}, pinPath(t)
		settings := newSettings(n, path)
		settings.Queue.Lanes = 4
		first := New(settings)
		require.NoError(t, first.Start(t.Context(), h))
		require.NoError(t, first.ConsumeLogs(t.Context(), frame(batch(0, 100))))
		settle(t, first)
		require.NoError(t, first.Shutdown(t.Context()))
		books := filepath.Join(path, "processor@test", "queue-books", "books")
		forge(t, books, booksLanes+2*laneSize+laneInFlight, inFlight)
		for start := range 2 {
			h = &statustest.Host{}
			s := New(settings)
			require.NoError(t, s.Start(t.Context(), h))
			eventually(t, func() bool { return len(h.Events()) > 0 })
			assert.Equal(t, componentstatus.StatusPermanentError, h.Events()[0].Status())
			require.ErrorContains(t, h.Events()[0].Err(), books+" is damaged: lane 2 has ")
			require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(100+100*start, 100))))
			eventually(t, func() bool { return len(n.got()) == 200+100*start })
			require.NoError(t, s.Shutdown(t.Context()))
		}
		assert.Equal(t, numbers(0, 300), sorted(n.got()))
	}
}

// The pin of one lane of sixteen is removed while events wait in it: none is lost, as the kernel has the lane still.
func TestMissingPinOfALane(t *testing.T) {
	for lanes, lane := range map[int]string{1: "lane_0", 16: "lane_5"} {
		t.Run(fmt.Sprint(lanes), func(t *testing.T) { testMissingPin(t, lanes, lane) })
	}
}

func testMissingPin(t *testing.T, lanes int, lane string) {
	n, path := newNext(t), pinPath(t)
	n.setRefuse(func(event.Batch) error { return errors.New("not now") })
	settings := newSettings(n, path)
	settings.Queue.Lanes, settings.Queue.Capacity, settings.ShutdownTimeout = lanes, 16*2048, time.Millisecond
	s := New(settings)
	require.NoError(t, s.Start(t.Context(), &statustest.Host{}))
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 20_000))))
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, os.Remove(filepath.Join(path, "processor@test", "queue-0", lane)))
	n.setRefuse(nil)
	s = start(t, settings)
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(20_000, 1000))))
	assert.Equal(t, Books{Received: 21_000, Delivered: 21_000}, settle(t, s))
	assert.True(t, slices.Equal(numbers(0, 21_000), sorted(n.got())), "each is delivered once")
}

// An element of the queue that is no event goes no further, and costs no other its way.
func TestForgedElementsOfTheQueue(t *testing.T) {
	n, path := newNext(t), pinPath(t)
	goOn := n.stall(t)
	settings := newSettings(n, path)
	settings.Queue.Capacity = 20_000
	telemetry, h := componenttest.NewTelemetry(), &statustest.Host{}
	settings.Telemetry = telemetry.NewTelemetrySettings()
	s := New(settings)
	require.NoError(t, s.Start(t.Context(), h))
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 1500))))
	lane, err := ebpf.LoadPinnedMap(filepath.Join(path, "processor@test", "queue-0", "lane_0"), nil)
	require.NoError(t, err)
	for _, forged := range []event.Event{{}, {Version: event.Version, Category: 99}, {Version: event.Version, Category: 1, Bytes: 1 << 63}} {
		require.NoError(t, lane.Put(nil, event.Bytes([]event.Event{forged})))
	}
	require.NoError(t, lane.Close())
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(1500, 1500))))
	goOn()
	eventually(t, func() bool { return len(n.got()) >= 3000 })
	assert.True(t, slices.Equal(numbers(0, 3000), n.got()))
	eventually(t, func() bool { return len(h.Events()) > 0 })
	assert.Equal(t, componentstatus.StatusRecoverableError, h.Events()[0].Status())
	require.ErrorContains(t, h.Events()[0].Err(), "an element of the queue is no event, and goes no further: ")
	require.ErrorContains(t, h.Events()[0].Err(), "(3 times since ")
	got, err := telemetry.GetMetric("otelcol_kernelpipe_stage_invalid")
	require.NoError(t, err)
	assert.EqualValues(t, 3, got.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
	require.NoError(t, s.Shutdown(t.Context()))
}

// The pins of a queue are removed while events wait in it and no process has it open: they are lost, and counted. What was in
// flight does not stop the lane, and no other element is taken for it.
func TestRemovedQueue(t *testing.T) {
	for _, pin := range []string{"queue-0", "queue-0/in_flight"} {
		n, path := newNext(t), pinPath(t)
		settings := newSettings(n, path)
		settings.Queue.Capacity, settings.ShutdownTimeout = 20_000, time.Millisecond
		n.setRefuse(func(event.Batch) error { return errors.New("not now") })
		s := New(settings)
		require.NoError(t, s.Start(t.Context(), &statustest.Host{}))
		require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 10_000))))
		eventually(t, func() bool { return s.Books().InFlight == bpf.MaxBatch })
		require.NoError(t, s.Shutdown(t.Context()))
		require.NoError(t, os.RemoveAll(filepath.Join(path, "processor@test", pin)))
		n.setRefuse(nil)
		h := &statustest.Host{}
		s = New(settings)
		require.NoError(t, s.Start(t.Context(), h))
		lost := uint64(10_000)
		if pin != "queue-0" {
			lost = bpf.MaxBatch
		}
		require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(10_000, 100))))
		assert.Equal(t, Books{Received: 10_100, Delivered: 10_100 - lost, Lost: lost}, settle(t, s))
		assert.True(t, slices.Equal(numbers(int(lost), 10_100-int(lost)), n.got()), "what is there still is delivered once, and in order")
		eventually(t, func() bool { return len(h.Events()) > 0 })
		require.ErrorContains(t, h.Events()[0].Err(), "somebody has removed the pins: they are counted as lost")
		require.NoError(t, s.Shutdown(t.Context()))
	}
}

// Pins that are removed under a running stage are missed within seconds: the status says so, and all that is open goes on.
func TestPinsRemovedUnderARunningStage(t *testing.T) {
	for what, path := range map[string]string{"the component's directory": "", "a queue": "queue-0", "one lane": "queue-0/lane_0", "the books": "queue-books"} {
		t.Run(what, func(t *testing.T) {
			n, h, pins := newNext(t), &statustest.Host{}, pinPath(t)
			telemetry := componenttest.NewTelemetry()
			settings := newSettings(n, pins)
			settings.Telemetry = telemetry.NewTelemetrySettings()
			s := New(settings)
			require.NoError(t, s.Start(t.Context(), h))
			require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 100))))
			settle(t, s)
			assert.Empty(t, h.Events())
			require.NoError(t, os.RemoveAll(filepath.Join(pins, "processor@test", path)))
			eventually(t, func() bool { return len(h.Events()) > 0 })
			assert.Equal(t, componentstatus.StatusRecoverableError, h.Events()[0].Status())
			require.ErrorContains(t, h.Events()[0].Err(), filepath.Join(pins, "processor@test", path)+" was removed or moved while it is in use")
			got, err := telemetry.GetMetric("otelcol_kernelpipe_stage_pins_removed")
			require.NoError(t, err)
			assert.EqualValues(t, 1, got.Data.(metricdata.Gauge[int64]).DataPoints[0].Value)
			require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(100, 100))))
			assert.EqualValues(t, 200, settle(t, s).Delivered)
			require.NoError(t, s.Shutdown(t.Context()))
		})
	}
}

// Whatever is written into a dead letter, the others are inspected and replayed; one that is none goes no further.
func TestForgedDeadLetters(t *testing.T) {
	n, path := newNext(t), pinPath(t)
	n.setRefuse(func(event.Batch) error { return consumererror.NewPermanent(errors.New("poison")) })
	s := start(t, newSettings(n, path))
	require.NoError(t, s.ConsumeLogs(t.Context(), frame(batch(0, 1))))
	assert.EqualValues(t, 1, settle(t, s).DeadLettered)
	lane, err := ebpf.LoadPinnedMap(filepath.Join(path, "processor@test", "dead_letter-0", "lane_0"), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, lane.Close()) }()
	valid := 1
	for _, number := range []uint64{0, 0xa5a5_a5a5_5a5a_5a5a, math.MaxUint64} {
		for _, forge := range []func(*event.DeadLetter){
			func(l *event.DeadLetter) { l.EventSize = uint32(number) }, // no size of an event: no letter
			func(l *event.DeadLetter) { l.Event.Event.Version = uint8(number) + 77 },
			func(l *event.DeadLetter) { l.Attempts, l.Time = uint32(number), number },
			func(l *event.DeadLetter) {
				for i := range l.Stage {
					l.Stage[i], l.Reason[i] = byte(number), byte(number)
				}
			},
		} {
			room := make([]byte, event.DeadLetterSize)
			event.PutDeadLetter(room, batch(valid, 1), "processor/test", 1, "poison")
			letters, err := event.ViewDeadLetters(room)
			require.NoError(t, err)
			forge(&letters[0])
			require.NoError(t, lane.Put(nil, room))
			if letters[0].EventSize == event.Size && letters[0].Event.Event.Version == event.Version {
				valid++
			}
		}
	}
	assert.Equal(t, 7, valid)
	sink := &consumertest.LogsSink{}
	peek := newDrain(n, path, "processor/test", DeadLetterQueue)
	peek.Peek, peek.Encoding, peek.Next = true, event.EncodingRecords, sink
	_, stop := startDrain(t, peek)
	eventually(t, func() bool { return sink.LogRecordCount() == valid })
	stop()
	for _, logs := range sink.AllLogs() {
		for _, record := range logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
			attributes := record.Attributes().AsRaw()
			assert.GreaterOrEqual(t, attributes["kernelpipe.dead_letter.attempts"], int64(0))
			assert.Regexp(t, `^(19|20|21)\d\d-`, attributes["kernelpipe.dead_letter.time"])
			assert.True(t, utf8.ValidString(attributes["kernelpipe.dead_letter.reason"].(string)))
		}
	}
	n.setRefuse(nil)
	startDrain(t, newDrain(n, path, "processor/test", DeadLetterQueue))
	eventually(t, func() bool { return len(n.got()) == valid })
	assert.Equal(t, numbers(0, valid), n.got())
}
