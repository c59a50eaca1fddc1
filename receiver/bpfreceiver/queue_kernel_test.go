//go:build linux && kernel

package bpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

const handoff = "queue/handoff"

// startOwner starts a stage whose queue is drained by a receiver: one without a next component is that of an exporter
// bpf_queue, one with is that of a processor, whose dead letters may be replayed.
func startOwner(t testing.TB, pinPath, name string, next consumer.Logs, capacity int) *stage.Stage {
	t.Helper()
	queue, retry := stage.NewQueueConfig(), stage.NewRetryConfig()
	queue.Capacity = capacity
	s := stage.New(stage.Settings{
		Name: name, Telemetry: componenttest.NewNopTelemetrySettings(), PinPath: pinPath, ElementSize: event.Size, Queue: queue,
		DeadLetter: stage.NewDeadLetterConfig(), Retry: retry, Encoding: event.EncodingFrames, Next: next,
		Work: func(batch event.Batch, i int, out []byte) bool {
			copy(out, batch.Data[i*batch.Size:])
			return true
		},
	})
	require.NoError(t, s.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { assert.NoError(t, s.Shutdown(context.Background())) })
	return s
}

// push puts n events whose Bytes are first, first+1, … into a stage.
func push(t testing.TB, s *stage.Stage, first, n int) {
	t.Helper()
	events := make([]event.Event, n)
	for i := range events {
		events[i] = event.Event{Version: event.Version, Category: event.CategoryProcess, Operation: 1, Bytes: uint64(first + i)}
	}
	batch := event.Batch{Source: 0x100, Sequence: uint64(first), Size: event.Size, Data: event.Bytes(events)}
	require.NoError(t, s.ConsumeLogs(t.Context(), event.Encode(event.EncodingFrames, batch, event.Clock{})))
}

// numbers returns the Bytes of all events but those that the kernel made.
func (s *sink) numbers() []int {
	numbers := []int{}
	for _, e := range s.all() {
		if e.Process.TGID == 0 {
			numbers = append(numbers, int(e.Bytes))
		}
	}
	return numbers
}

func upTo(first, n int) []int {
	numbers := []int{}
	for i := range n {
		numbers = append(numbers, first+i)
	}
	return numbers
}

// called gives the receiver another name.
func (r *instance) called(name string) *instance {
	r.settings.ID = component.NewIDWithName(r.settings.ID.Type(), name)
	return r
}

// startCalled starts a receiver of a name.
func startCalled(t testing.TB, name string, config *Config, next *sink) *instance {
	t.Helper()
	r := create(t, config, next).called(name)
	require.NoError(t, r.Start(context.Background(), r.host))
	t.Cleanup(func() { assert.NoError(t, r.Shutdown(context.Background())) })
	return r
}

// drained returns a value of the telemetry of the queue.
func (r *instance) drained(t testing.TB, name string) int64 {
	t.Helper()
	m, err := r.telemetry.GetMetric("otelcol_kernelpipe_drain_" + name)
	require.NoError(t, err)
	points := m.Data.(metricdata.Sum[int64]).DataPoints
	require.Len(t, points, 1)
	return points[0].Value
}

func TestQueueAlone(t *testing.T) {
	path := pinPath(t)
	owner := startOwner(t, path, handoff, nil, 10_000)
	push(t, owner, 0, 2_500)
	r := start(t, configure(t, fmt.Sprintf("{pin_path: %s, queue: {name: handoff}}", path)), &sink{})
	push(t, owner, 2_500, 500)
	eventually(t, func() bool { return owner.Books().Delivered == 3_000 })
	assert.Equal(t, upTo(0, 3_000), r.sink.numbers())
	assert.EqualValues(t, 3_000, r.drained(t, "delivered"))
	accepted, err := r.telemetry.GetMetric("otelcol_receiver_accepted_log_records")
	require.NoError(t, err)
	assert.EqualValues(t, len(r.sink.batches), accepted.Data.(metricdata.Sum[int64]).DataPoints[0].Value, "frames")
	assert.Empty(t, r.logs.FilterMessageSnippet("belongs to no running component").All())
	require.NoError(t, r.Shutdown(t.Context()))
	require.NoError(t, r.Shutdown(t.Context()))

	push(t, owner, 3_000, 10) // waits for the next receiver
	assert.Equal(t, stage.Books{Received: 3_010, Delivered: 3_000, Queued: 10}, owner.Books())
	next := start(t, configure(t, fmt.Sprintf("{pin_path: %s, queue: {name: handoff}, encoding: records}", path)), &sink{})
	eventually(t, func() bool { return next.drained(t, "delivered") == 3_010 })
	assert.Equal(t, upTo(3_000, 10), next.sink.numbers())
}

// Nothing has to be running for what it left to be drained, and then it is no orphan.
func TestQueueOfAnOwnerThatDoesNotRun(t *testing.T) {
	path := pinPath(t)
	owner := startOwner(t, path, handoff, nil, 10_000)
	push(t, owner, 0, 100)
	require.NoError(t, owner.Shutdown(t.Context()))
	r := start(t, configure(t, fmt.Sprintf("{pin_path: %s, queue: {name: handoff}}", path)), &sink{})
	eventually(t, func() bool { return r.drained(t, "delivered") == 100 })
	assert.Empty(t, r.logs.FilterMessageSnippet("belongs to no running component").All())
	require.NoError(t, r.Shutdown(t.Context()))
	other := startCalled(t, "other", configure(t, fmt.Sprintf("{pin_path: %s, probes: {simulate: {events: 1}}}", path)), &sink{})
	assert.Equal(t, 1, other.logs.FilterMessageSnippet("belongs to no running component").Len(), "the queue; its receiver had no dead letters")
}

func TestProbesAndQueue(t *testing.T) {
	path := pinPath(t)
	owner := startOwner(t, path, handoff, nil, 10_000)
	push(t, owner, 0, 2_000)
	const simulated = 50_000
	r := start(t, configure(t, fmt.Sprintf("{pin_path: %s, probes: {simulate: {events: %d}}, queue: {name: handoff}}", path, simulated)), &sink{})
	push(t, owner, 2_000, 1_000)
	eventually(t, func() bool {
		return owner.Books().Delivered == 3_000 && r.metric(t, "delivered", "")[""] == simulated
	})
	assert.Equal(t, upTo(0, 3_000), r.sink.numbers())
	assert.Equal(t, 3_000+simulated, r.sink.len())
	assert.Equal(t, account{produced: simulated, delivered: simulated}, r.stop(t))
	assertDetached(t, path)
}

// Probes that the configuration no longer has do not go on unnoticed.
func TestQueueWhereProbesWereLeft(t *testing.T) {
	path := pinPath(t)
	killed := start(t, configure(t, fmt.Sprintf("{pin_path: %s, probes: {process: }}", path)), &sink{})
	crash(t, killed.bpfReceiver)
	yaml := fmt.Sprintf("{pin_path: %s, queue: {name: handoff}}", path)
	r := start(t, configure(t, yaml), &sink{})
	assert.Equal(t, 1, r.logs.FilterMessageSnippet("are still attached").Len())
	require.NoError(t, r.Shutdown(t.Context()))
	require.NoError(t, start(t, configure(t, fmt.Sprintf("{pin_path: %s, probes: {process: }}", path)), &sink{}).Shutdown(t.Context()))
	assert.Empty(t, start(t, configure(t, yaml), &sink{}).logs.FilterMessageSnippet("are still attached").All())
}

// A receiver that can't have its queue has not left anything running.
func TestProbesAndQueueThatIsTaken(t *testing.T) {
	path := pinPath(t)
	startOwner(t, path, handoff, nil, 100)
	first := start(t, configure(t, fmt.Sprintf("{pin_path: %s, queue: {name: handoff}}", path)), &sink{})
	second := create(t, configure(t, fmt.Sprintf("{pin_path: %s, probes: {process: }, queue: {name: handoff}}", path)), &sink{}).called("second")
	err := second.Start(context.Background(), second.host)
	require.ErrorIs(t, err, bpf.ErrClaimed)
	assert.ErrorContains(t, err, "another running process takes events out of it: stop it first")
	require.NoError(t, second.Shutdown(t.Context()))
	assert.NoDirExists(t, path+"/receiver@bpf@second")
	require.NoError(t, first.Shutdown(t.Context())) // and then it can
	require.NoError(t, second.Start(context.Background(), second.host))
	require.NoError(t, second.Shutdown(t.Context()))
}

func TestMissingQueueIsWaitedFor(t *testing.T) {
	path := pinPath(t)
	r := start(t, configure(t, fmt.Sprintf("{pin_path: %s, queue: {name: handoff}}", path)), &sink{})
	assert.Equal(t, 1, r.logs.FilterMessage("there is no such queue yet; it is waited for").Len())
	owner := startOwner(t, path, handoff, nil, 1_000)
	push(t, owner, 0, 3_000) // more than fits: it blocks until there is room
	eventually(t, func() bool { return owner.Books().Delivered == 3_000 })
	assert.Equal(t, upTo(0, 3_000), r.sink.numbers())
	assert.Empty(t, r.host.Statuses())
}

func TestPeekLeavesEverything(t *testing.T) {
	path := pinPath(t)
	owner := startOwner(t, path, handoff, nil, 1_000)
	push(t, owner, 0, 700)
	for range 2 {
		r := start(t, configure(t, fmt.Sprintf("{pin_path: %s, queue: {name: handoff, peek: true}}", path)), &sink{})
		eventually(t, func() bool { return r.sink.len() == 700 })
		require.NoError(t, r.Shutdown(t.Context()))
		assert.Equal(t, upTo(0, 700), r.sink.numbers())
		books := owner.Books()
		assert.EqualValues(t, 700, books.Queued+books.InFlight)
		assert.Zero(t, books.Delivered)
		assert.NoDirExists(t, path+"/receiver@bpf", "what only looks keeps nothing")
	}
	r := start(t, configure(t, fmt.Sprintf("{pin_path: %s, queue: {name: handoff}}", path)), &sink{})
	eventually(t, func() bool { return owner.Books().Delivered == 700 })
	assert.Equal(t, upTo(0, 700), r.sink.numbers())
}

// Dead letters of a processor are replayed; what is refused again is a dead letter of the receiver, and replayed from
// there.
func TestDeadLettersAreReplayed(t *testing.T) {
	path := pinPath(t)
	owner := startOwner(t, path, "processor/bpf_filter", consumertest.NewErr(consumererror.NewPermanent(errors.New("poison"))), 10_000)
	push(t, owner, 0, 100)
	eventually(t, func() bool { return owner.Books().DeadLettered == 100 })

	refuse13 := func(batch event.Batch) error {
		for i := range batch.Len() {
			if batch.At(i).Bytes == 13 {
				return consumererror.NewPermanent(errors.New("still poison"))
			}
		}
		return nil
	}
	first := startCalled(t, "replay", configure(t, fmt.Sprintf("{pin_path: %s, queue: {dead_letter_of: processor/bpf_filter}}", path)), &sink{answer: refuse13})
	eventually(t, func() bool { return first.drained(t, "delivered") == 100 })
	assert.Equal(t, append(upTo(0, 13), upTo(14, 86)...), first.sink.numbers())
	assert.EqualValues(t, 1, first.drained(t, "dead_lettered"))
	require.NoError(t, first.Shutdown(t.Context()))

	second := startCalled(t, "again", configure(t, fmt.Sprintf("{pin_path: %s, queue: {dead_letter_of: receiver/bpf/replay}}", path)), &sink{})
	eventually(t, func() bool { return second.drained(t, "delivered") == 1 })
	assert.Equal(t, []int{13}, second.sink.numbers())
	assert.Equal(t, stage.Books{Received: 100, DeadLettered: 100}, owner.Books())
}

// A next component that is down for a while, and one that is down for good when the receiver stops.
func TestQueueIsNotEmptiedIntoANextThatIsDown(t *testing.T) {
	path := pinPath(t)
	owner := startOwner(t, path, handoff, nil, 10_000)
	push(t, owner, 0, 1_500)
	failures := 0
	yaml := fmt.Sprintf("{pin_path: %s, queue: {name: handoff, retry_on_failure: {initial_interval: 1ms}}}", path)
	r := start(t, configure(t, yaml), &sink{answer: func(event.Batch) error {
		if failures++; failures < 5 {
			return errors.New("not now")
		}
		return nil
	}})
	eventually(t, func() bool { return owner.Books().Delivered == 1_500 })
	assert.Equal(t, upTo(0, 1_500), r.sink.numbers())
	require.NoError(t, r.Shutdown(t.Context()))

	push(t, owner, 1_500, 10)
	down := start(t, configure(t, yaml), &sink{answer: func(event.Batch) error { return errors.New("down") }})
	eventually(t, func() bool { return owner.Books().InFlight == 10 })
	require.NoError(t, down.Shutdown(t.Context()))
	assert.Equal(t, stage.Books{Received: 1_510, Delivered: 1_500, InFlight: 10}, owner.Books())
	last := start(t, configure(t, yaml), &sink{})
	eventually(t, func() bool { return owner.Books().Delivered == 1_510 })
	assert.Equal(t, upTo(1_500, 10), last.sink.numbers())
	assert.True(t, last.sink.batches[0].Redelivered)
}
