//go:build linux && kernel

package bpffilterprocessor

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
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/exporter/bpfqueueexporter"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/processor/bpffilterprocessor/internal/metadata"
)

// pinPath returns a directory of the test's own in bpffs, which is gone after the test.
func pinPath(t testing.TB) string {
	t.Helper()
	path := filepath.Join("/sys/fs/bpf", "kernelpipe-filter-"+filepath.Base(t.Name()))
	require.NoError(t, os.RemoveAll(path))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(path)) })
	return path
}

// newConfig is the default configuration, pinned nowhere and quick to try again.
func newConfig() *Config {
	config := createDefaultConfig().(*Config)
	config.PinPath = ""
	config.Retry.InitialInterval, config.Retry.MaxInterval = time.Millisecond, 2*time.Millisecond
	return config
}

func create(t testing.TB, config *Config, next consumer.Logs) *filterProcessor {
	t.Helper()
	p, err := NewFactory().CreateLogs(t.Context(), processortest.NewNopSettings(metadata.Type), config, next)
	require.NoError(t, err)
	return p.(*filterProcessor)
}

func start(t testing.TB, config *Config, next consumer.Logs) *filterProcessor {
	t.Helper()
	p := create(t, config, next)
	require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()), "this test needs root and a kernel with BPF")
	t.Cleanup(func() { assert.NoError(t, p.Shutdown(context.Background())) })
	return p
}

// mixed returns n events, one in four of each category, from pids that go from 50 to 149, so that half of
// the low ones, a quarter of all, are dropped by default. Bytes is the event's number.
func mixed(source, first, n int) event.Batch {
	events := make([]event.Event, n)
	for i := range events {
		number := first + i
		events[i] = event.Event{Version: event.Version, Category: event.Category(1 + number%4), Operation: 1, Bytes: uint64(number)}
		events[i].Process.TGID = uint32(50 + number/4%100)
	}
	return event.Batch{Source: uint64(source), Sequence: uint64(first), Size: event.Size, Data: event.Bytes(events)}
}

func frame(b event.Batch) plog.Logs { return event.Encode(event.EncodingFrames, b, event.Clock{}) }

// numbers returns the events in logs by their numbers, and how often each is there.
func numbers(t testing.TB, logs []plog.Logs) map[uint64]int {
	t.Helper()
	got := map[uint64]int{}
	for _, l := range logs {
		require.NoError(t, event.Decode(l, func(batch event.Batch) error {
			for i := range batch.Len() {
				e := batch.At(i)
				got[e.Bytes]++
				assert.Equal(t, e.Category.Priority(), e.Priority)
				assert.False(t, e.Priority == event.PriorityLow && e.Process.TGID <= 99, "%+v should have been dropped", e)
			}
			return nil
		}, func(_ plog.LogRecord, err error) { t.Error(err) }))
	}
	return got
}

func settle(t testing.TB, p *filterProcessor) stage.Books {
	t.Helper()
	require.Eventually(t, func() bool { b := p.Books(); return b.Queued+b.InFlight == 0 }, 20*time.Second, time.Millisecond)
	return p.Books()
}

func TestBooksAreExact(t *testing.T) {
	for name, encoding := range map[string]event.Encoding{"frames": event.EncodingFrames, "records": event.EncodingRecords} {
		t.Run(name, func(t *testing.T) {
			sink, config := &consumertest.LogsSink{}, newConfig()
			config.Encoding, config.PinPath = encoding, pinPath(t)
			p := start(t, config, sink)
			assert.False(t, p.Capabilities().MutatesData)
			logs := frame(mixed(1, 0, 4000))
			logs.MarkReadOnly()
			require.NoError(t, p.ConsumeLogs(t.Context(), logs))
			assert.Equal(t, stage.Books{Received: 4000, Delivered: 3000, Filtered: 1000}, settle(t, p))
			got := numbers(t, sink.AllLogs())
			assert.Len(t, got, 3000)
			for number, times := range got {
				assert.Equal(t, 1, times, number)
			}
		})
	}
}

func TestRedeliveredEventsCountOnce(t *testing.T) {
	sink := &consumertest.LogsSink{}
	p := start(t, newConfig(), sink)
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(mixed(1, 0, 2000))))
	again := mixed(1, 0, 4000)
	again.Redelivered = true
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(again)))
	assert.Equal(t, stage.Books{Received: 4000, Delivered: 3000, Filtered: 1000, Redelivered: 2000}, settle(t, p))
	assert.Len(t, numbers(t, sink.AllLogs()), 3000)
}

func TestForeignRecordsAreCountedAndHarmless(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { assert.NoError(t, telemetry.Shutdown(context.Background())) })
	set := processortest.NewNopSettings(metadata.Type)
	set.TelemetrySettings = telemetry.NewTelemetrySettings()
	sink := &consumertest.LogsSink{}
	p, err := newProcessor(set, newConfig(), sink)
	require.NoError(t, err)
	require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { assert.NoError(t, p.Shutdown(context.Background())) })

	logs := frame(mixed(1, 0, 4))
	records := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords()
	for range 3 {
		records.AppendEmpty().Body().SetStr("what is this?")
	}
	frame(mixed(1, 4, 4)).ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	require.NoError(t, p.ConsumeLogs(t.Context(), logs))
	assert.Equal(t, stage.Books{Received: 8, Delivered: 4, Filtered: 4}, settle(t, p))
	got, err := telemetry.GetMetric("otelcol_kernelpipe_stage_foreign")
	require.NoError(t, err)
	metricdatatest.AssertAggregationsEqual(t, metricdata.Sum[int64]{
		Temporality: metricdata.CumulativeTemporality, IsMonotonic: true,
		DataPoints: []metricdata.DataPoint[int64]{{
			Attributes: attribute.NewSet(attribute.String("reason", "foreign"), attribute.String("stage", "processor/"+set.ID.String())), Value: 3,
		}},
	}, got.Data, metricdatatest.IgnoreTimestamp())
}

func TestEnrichedInputIsRefused(t *testing.T) {
	sink := &consumertest.LogsSink{}
	p := start(t, newConfig(), sink)
	enriched := make([]event.Enriched, 3)
	for i := range enriched {
		enriched[i].Event = event.Event{Version: event.Version, Category: event.CategoryProcess}
	}
	err := p.ConsumeLogs(t.Context(), frame(event.Batch{Size: event.EnrichedSize, Data: event.Bytes(enriched)}))
	assert.True(t, consumererror.IsPermanent(err), err)
	assert.ErrorContains(t, err, "put bpf_filter before bpf_enrich")
	assert.Zero(t, p.Books())
	assert.Zero(t, sink.LogRecordCount())
}

func TestManyAtOnce(t *testing.T) {
	const senders, batches, size = 8, 20, 500
	sink, config := &consumertest.LogsSink{}, newConfig()
	config.Queue.Capacity, config.Queue.Lanes = 1000, 4
	p := start(t, config, sink)
	var group sync.WaitGroup
	for sender := range senders {
		group.Go(func() {
			for b := range batches {
				assert.NoError(t, p.ConsumeLogs(t.Context(), frame(mixed(1+sender, b*size, size))))
			}
		})
	}
	group.Wait()
	const all = senders * batches * size
	assert.Equal(t, stage.Books{Received: all, Delivered: all * 3 / 4, Filtered: all / 4}, settle(t, p))
	for number, times := range numbers(t, sink.AllLogs()) {
		assert.Equal(t, senders, times, number)
	}
}

func TestShutdownDrainsIntoASlowNext(t *testing.T) {
	sink := &consumertest.LogsSink{}
	slow, err := consumer.NewLogs(func(ctx context.Context, logs plog.Logs) error {
		time.Sleep(20 * time.Millisecond)
		return sink.ConsumeLogs(ctx, logs)
	})
	require.NoError(t, err)
	p := start(t, newConfig(), slow)
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(mixed(1, 0, 4000))))
	require.NoError(t, p.Shutdown(t.Context()))
	delivered := len(sink.AllLogs())
	assert.Len(t, numbers(t, sink.AllLogs()), 3000)
	time.Sleep(50 * time.Millisecond)
	assert.Len(t, sink.AllLogs(), delivered, "something came after the shutdown")
}

// refusing accepts events into its sink unless refuse has an error for the batch.
type refusing struct {
	consumertest.LogsSink
	refuse func(event.Batch) error
}

func (r *refusing) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	if err := event.Decode(logs, r.refuse, func(_ plog.LogRecord, err error) { panic(err) }); err != nil {
		return err
	}
	return r.LogsSink.ConsumeLogs(ctx, logs)
}

func TestNextRefusesForNow(t *testing.T) {
	tries := 0
	next := &refusing{refuse: func(event.Batch) error {
		if tries++; tries < 5 {
			return errors.New("not now")
		}
		return nil
	}}
	p := start(t, newConfig(), next)
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(mixed(1, 0, 400))))
	assert.Equal(t, stage.Books{Received: 400, Delivered: 300, Filtered: 100}, settle(t, p))
	assert.Len(t, numbers(t, next.AllLogs()), 300)
}

func TestNextRefusesForGood(t *testing.T) {
	next := &refusing{refuse: func(batch event.Batch) error {
		for i := range batch.Len() {
			if batch.At(i).Bytes == 203 { // a process event, so it is kept
				return consumererror.NewPermanent(errors.New("not this one"))
			}
		}
		return nil
	}}
	p := start(t, newConfig(), next)
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(mixed(1, 0, 400))))
	assert.Equal(t, stage.Books{Received: 400, Delivered: 299, Filtered: 100, DeadLettered: 1}, settle(t, p))
	assert.NotContains(t, numbers(t, next.AllLogs()), uint64(203))
}

// The worker waits in the exporter, whose Shutdown comes after that of the processor. What neither has handed on is there
// for the next process.
func TestShutdownBeforeAFullQueueOfTheNext(t *testing.T) {
	config := newConfig()
	config.PinPath, config.ShutdownTimeout = pinPath(t), 10*time.Millisecond
	factory := bpfqueueexporter.NewFactory()
	handOff := factory.CreateDefaultConfig().(*bpfqueueexporter.Config)
	handOff.Name, handOff.PinPath, handOff.Queue.Capacity = "handoff", config.PinPath, 1000
	startBoth := func() (p *filterProcessor, stop func() error) {
		exporter, err := factory.CreateLogs(t.Context(), exportertest.NewNopSettings(factory.Type()), handOff)
		require.NoError(t, err)
		require.NoError(t, exporter.Start(t.Context(), componenttest.NewNopHost()))
		p = create(t, config, exporter)
		require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
		return p, func() error {
			return errors.Join(p.Shutdown(context.Background()), exporter.Shutdown(context.Background()))
		}
	}
	p, stop := startBoth()
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(mixed(1, 0, 4000))))
	next, err := bpf.OpenConsumer(config.PinPath, stage.QueueComponent("handoff"), stage.Queue)
	require.NoError(t, err)
	defer next.Close()
	require.Eventually(t, func() bool { return next.Books().Queued == 1000 && p.Books().InFlight > 0 }, 20*time.Second, time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		require.FailNow(t, "the processor does not stop while the exporter takes nothing")
	}
	assert.Equal(t, bpf.QueueBooks{Received: 1000, Queued: 1000}, next.Books())

	p, stop = startBoth()
	require.Eventually(t, func() bool {
		_, err := next.Pop(0, bpf.MaxBatch)
		next.Ack(0)
		return err == nil && next.Books().Delivered >= 3000
	}, 20*time.Second, time.Millisecond)
	assert.Equal(t, stage.Books{Received: 4000, Delivered: 3000, Filtered: 1000}, settle(t, p))
	require.NoError(t, stop())
	books := next.Books()
	assert.Equal(t, bpf.QueueBooks{Received: 3000, Delivered: 3000, Redelivered: books.Redelivered}, books)
}

func TestNextProcessDeliversWhatTheLastLeft(t *testing.T) {
	config := newConfig()
	config.PinPath = pinPath(t)
	down := &refusing{refuse: func(event.Batch) error { return errors.New("down") }}
	first := create(t, config, down)
	require.NoError(t, first.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, first.ConsumeLogs(t.Context(), frame(mixed(1, 0, 4000))))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, first.Shutdown(ctx))

	sink := &consumertest.LogsSink{}
	second := start(t, config, sink)
	assert.Equal(t, stage.Books{Received: 4000, Delivered: 3000, Filtered: 1000}, settle(t, second))
	assert.Len(t, numbers(t, sink.AllLogs()), 3000)
}

func TestLifecycle(t *testing.T) {
	p := create(t, newConfig(), consumertest.NewNop())
	require.NoError(t, p.Shutdown(t.Context()), "without a start")
	for range 2 {
		p = create(t, newConfig(), consumertest.NewNop())
		require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
		require.NoError(t, p.Shutdown(t.Context()))
		require.NoError(t, p.Shutdown(t.Context()), "twice")
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	config := newConfig()
	config.PinPath = t.TempDir()
	p := create(t, config, consumertest.NewNop())
	assert.ErrorContains(t, p.Start(t.Context(), componenttest.NewNopHost()), "is not on a BPF file system")
	require.NoError(t, p.Shutdown(t.Context()))
}
