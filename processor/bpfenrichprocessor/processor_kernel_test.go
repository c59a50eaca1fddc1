//go:build linux && kernel

package bpfenrichprocessor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadata"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/procfs"
	"github.com/kernelpipe/kernelpipe/processor/bpffilterprocessor"
)

// ownStart returns the start of this process in ns after boot, to the tick.
func ownStart() uint64 {
	content, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		panic(err)
	}
	stat, err := procfs.ParseStat(content)
	if err != nil {
		panic(err)
	}
	return stat.Start * uint64(10*time.Millisecond)
}

func TestBooksAreExact(t *testing.T) {
	executable, err := os.Executable()
	require.NoError(t, err)
	name := filepath.Base(executable)
	parent, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(os.Getppid()), "comm"))
	require.NoError(t, err)
	for encodingName, encoding := range map[string]event.Encoding{"frames": event.EncodingFrames, "records": event.EncodingRecords} {
		t.Run(encodingName, func(t *testing.T) {
			next, config := &sink{}, newConfig()
			config.Encoding, config.PinPath = encoding, pinPath(t)
			config.ProcessTable.Enabled = false // it wants the start to the ns
			p := start(t, config, next)
			assert.False(t, p.Capabilities().MutatesData)
			logs := frame(own(1, 0, 4000))
			logs.MarkReadOnly()
			require.NoError(t, p.ConsumeLogs(t.Context(), logs))
			assert.Equal(t, stage.Books{Received: 4000, Delivered: 4000}, settle(t, p))
			assert.Len(t, next.numbers(), 4000)
			for _, e := range next.all() {
				require.Equal(t, name[:min(23, len(name))], event.Text(e.Context.Executable[:]))
				require.Equal(t, strings.TrimSuffix(string(parent), "\n"), event.Text(e.Context.Parent[:]))
				require.EqualValues(t, os.Getppid(), e.Context.ParentTGID)
				require.Equal(t, "root", event.Text(e.Context.User[:]))
				require.Equal(t, event.MissingNothing, e.Context.Reason)
			}
		})
	}
}

func TestReusedPidIsNotMistaken(t *testing.T) {
	next := &sink{}
	p := start(t, newConfig(), next)
	batch := own(1, 0, 3)
	batch.At(0).Process.Start -= uint64(10 * time.Millisecond)
	batch.At(2).Process.Start += uint64(10 * time.Millisecond)
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(batch)))
	settle(t, p)
	for i, e := range next.all() {
		if i == 1 {
			assert.Equal(t, event.MissingNothing, e.Context.Reason)
			continue
		}
		assert.Equal(t, event.MissingNotFound, e.Context.Reason)
		assert.Equal(t, event.KnownUser, e.Context.Known)
	}
}

func TestFilterThenEnrich(t *testing.T) {
	next, config := &sink{}, newConfig()
	config.Queue.Capacity, config.Queue.Lanes = 500, 2
	p := start(t, config, next)
	factory := bpffilterprocessor.NewFactory()
	filterConfig := factory.CreateDefaultConfig().(*bpffilterprocessor.Config)
	filterConfig.PinPath, filterConfig.Queue.Capacity = "", 700
	filter, err := factory.CreateLogs(t.Context(), processortest.NewNopSettings(factory.Type()), filterConfig, p)
	require.NoError(t, err)
	require.NoError(t, filter.Start(t.Context(), componenttest.NewNopHost()))

	batch := own(1, 0, 4000)
	for i := range 4000 {
		if i%8 < 4 { // half of each category, and of that half the low ones go
			batch.At(i).Process.TGID = 99
		}
	}
	require.NoError(t, filter.ConsumeLogs(t.Context(), frame(batch)))
	require.NoError(t, filter.Shutdown(t.Context()))
	assert.Equal(t, stage.Books{Received: 3000, Delivered: 3000}, settle(t, p))
	for number, times := range next.numbers() {
		assert.Equal(t, 1, times, number)
	}
	for _, e := range next.all() {
		assert.Equal(t, e.Event.Category.Priority(), e.Event.Priority)
	}
}

func TestRedeliveredEventsCountOnce(t *testing.T) {
	next := &sink{}
	p := start(t, newConfig(), next)
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(own(1, 0, 2000))))
	again := own(1, 0, 4000)
	again.Redelivered = true
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(again)))
	assert.Equal(t, stage.Books{Received: 4000, Delivered: 4000, Redelivered: 2000}, settle(t, p))
	assert.Len(t, next.numbers(), 4000)
}

func TestForeignRecordsAreCountedAndHarmless(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { assert.NoError(t, telemetry.Shutdown(context.Background())) })
	set := processortest.NewNopSettings(metadata.Type)
	set.TelemetrySettings = telemetry.NewTelemetrySettings()
	next := &sink{}
	p := newProcessor(set, newConfig(), next)
	require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { assert.NoError(t, p.Shutdown(context.Background())) })

	logs := frame(own(1, 0, 4))
	records := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords()
	for range 3 {
		records.AppendEmpty().Body().SetStr("what is this?")
	}
	frame(own(1, 4, 4)).ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	require.NoError(t, p.ConsumeLogs(t.Context(), logs))
	assert.Equal(t, stage.Books{Received: 8, Delivered: 8}, settle(t, p))
	foreign, err := telemetry.GetMetric("otelcol_kernelpipe_stage_foreign")
	require.NoError(t, err)
	metricdatatest.AssertAggregationsEqual(t, metricdata.Sum[int64]{
		Temporality: metricdata.CumulativeTemporality, IsMonotonic: true,
		DataPoints: []metricdata.DataPoint[int64]{{
			Attributes: attribute.NewSet(attribute.String("reason", "foreign"), attribute.String("stage", "processor/"+set.ID.String())), Value: 3,
		}},
	}, foreign.Data, metricdatatest.IgnoreTimestamp())
	_, err = telemetry.GetMetric("otelcol_kernelpipe_enrich_hits")
	require.NoError(t, err)
}

func TestManyAtOnce(t *testing.T) {
	const senders, batches, size = 8, 20, 500
	next, config := &sink{}, newConfig()
	config.Queue.Capacity, config.Queue.Lanes = 1000, 4
	p := start(t, config, next)
	var group sync.WaitGroup
	for sender := range senders {
		group.Go(func() {
			for b := range batches {
				assert.NoError(t, p.ConsumeLogs(t.Context(), frame(own(1+sender, b*size, size))))
			}
		})
	}
	group.Wait()
	const all = senders * batches * size
	assert.Equal(t, stage.Books{Received: all, Delivered: all}, settle(t, p))
	for number, times := range next.numbers() {
		assert.Equal(t, senders, times, number)
	}
}

func TestShutdownDrainsIntoASlowNext(t *testing.T) {
	next := &sink{answer: func(event.Batch) error {
		time.Sleep(20 * time.Millisecond)
		return nil
	}}
	p := start(t, newConfig(), next)
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(own(1, 0, 4000))))
	require.NoError(t, p.Shutdown(t.Context()))
	assert.Len(t, next.numbers(), 4000)
}

func TestShutdownWhileALookupHangs(t *testing.T) {
	config := newConfig()
	config.ShutdownTimeout = 10 * time.Millisecond
	p := start(t, config, consumertest.NewNop())
	require.NoError(t, p.enricher.resolver.stop(t.Context()))
	source := hanging{make(chan struct{})}
	r := newResolver(zap.NewNop(), func() []processSource { return []processSource{source} }, nil, nil)
	r.start()
	p.enricher.resolver = r
	r.jobs <- job{process: identity{start: 1, tgid: 1}}
	require.Eventually(t, func() bool { return len(r.jobs) == 0 }, 10*time.Second, time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- p.Shutdown(context.Background()) }()
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "a lookup in the file system hangs")
	case <-time.After(time.Minute):
		require.FailNow(t, "the processor does not stop while a lookup hangs")
	}
	close(source.gate)
	config.ShutdownTimeout = 0 // the second one, at the end of the test, waits
}

func TestNextRefuses(t *testing.T) {
	tries := 0
	next := &sink{answer: func(batch event.Batch) error {
		if tries++; tries < 5 {
			return errors.New("not now")
		}
		for i := range batch.Len() {
			if batch.At(i).Bytes == 77 {
				return consumererror.NewPermanent(errors.New("not this one"))
			}
		}
		return nil
	}}
	p := start(t, newConfig(), next)
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(own(1, 0, 400))))
	assert.Equal(t, stage.Books{Received: 400, Delivered: 399, DeadLettered: 1}, settle(t, p))
	assert.NotContains(t, next.numbers(), uint64(77))
}

func TestNextProcessDeliversWhatTheLastLeft(t *testing.T) {
	config := newConfig()
	config.PinPath = pinPath(t)
	first := create(t, config, &sink{answer: func(event.Batch) error { return errors.New("down") }})
	require.NoError(t, first.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, first.ConsumeLogs(t.Context(), frame(own(1, 0, 4000))))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, first.Stage.Shutdown(ctx))
	require.NoError(t, first.Shutdown(t.Context()))

	next := &sink{}
	second := start(t, config, next)
	assert.Equal(t, stage.Books{Received: 4000, Delivered: 4000}, settle(t, second))
	for _, e := range next.all() {
		assert.Equal(t, event.MissingNothing, e.Context.Reason)
	}
	assert.Len(t, next.numbers(), 4000)
}

func TestEnrichedEventsPassThrough(t *testing.T) {
	next := &sink{}
	second := start(t, newConfig(), next)
	set := processortest.NewNopSettings(metadata.Type)
	first := newProcessor(set, newConfig(), second)
	require.NoError(t, first.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, first.ConsumeLogs(t.Context(), frame(own(1, 0, 100))))
	require.NoError(t, first.Shutdown(t.Context()))
	assert.Equal(t, stage.Books{Received: 100, Delivered: 100}, settle(t, second))
	for _, e := range next.all() {
		assert.Equal(t, event.MissingNothing, e.Context.Reason)
		assert.NotEmpty(t, event.Text(e.Context.Executable[:]))
	}
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

func TestMissingPasswdFileIsNoReasonNotToStart(t *testing.T) {
	next, config := &sink{}, newConfig()
	config.PasswdFile = filepath.Join(t.TempDir(), "none")
	p := start(t, config, next)
	require.NoError(t, p.ConsumeLogs(t.Context(), frame(own(1, 0, 1))))
	settle(t, p)
	require.Len(t, next.all(), 1)
	assert.Equal(t, event.KnownExecutable|event.KnownParent, next.all()[0].Context.Known)
}
