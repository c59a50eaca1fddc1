//go:build linux && kernel

package benchmarks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// hop is a durable way from one component to the next.
type hop interface {
	ConsumeLogs(context.Context, plog.Logs) error
	Shutdown(context.Context) error
}

// BenchmarkDurableHop carries events of 128 bytes to the next component so that they survive the process: through a
// stage with its queue in the kernel, and through the Collector's persistent queue, with the file_storage extension.
// The kernel's memory survives a process, a file also survives the machine if it is synced. "frames" is one log
// record for a batch of 1,024 events, as between components of kernelpipe; "records" is a log record for each.
func BenchmarkDurableHop(b *testing.B) {
	for _, way := range []struct {
		name  string
		start func(*testing.B, event.Encoding, consumer.Logs) hop
	}{
		{"kernel_queue", startStage},
		{"file_storage", func(b *testing.B, _ event.Encoding, next consumer.Logs) hop {
			return startPersistentQueue(b, next, false)
		}},
		{"file_storage_with_fsync", func(b *testing.B, _ event.Encoding, next consumer.Logs) hop {
			return startPersistentQueue(b, next, true)
		}},
	} {
		for _, encoding := range []event.Encoding{event.EncodingFrames, event.EncodingRecords} {
			for _, size := range []int{1, 1024} {
				b.Run(fmt.Sprintf("%s/%s/batch=%d", way.name, encoding, size), func(b *testing.B) { benchmark(b, way.start, encoding, size) })
			}
		}
	}
}

func benchmark(b *testing.B, start func(*testing.B, event.Encoding, consumer.Logs) hop, encoding event.Encoding, size int) {
	var delivered atomic.Int64
	arrived := make(chan struct{}, 1)
	next, err := consumer.NewLogs(func(_ context.Context, logs plog.Logs) error {
		return event.Decode(logs, func(batch event.Batch) error {
			delivered.Add(int64(batch.Len()))
			select {
			case arrived <- struct{}{}:
			default:
			}
			return nil
		}, func(_ plog.LogRecord, err error) { panic(err) })
	})
	require.NoError(b, err)
	events := make([]event.Event, size)
	for i := range events {
		events[i] = event.Event{Version: event.Version, Category: event.CategoryProcess, Operation: event.ProcessExec, Time: uint64(i + 1)}
		events[i].Process.TGID = uint32(i)
		events[i].SetName("/usr/bin/true")
	}
	logs := event.Encode(encoding, event.Batch{Size: event.Size, Data: event.Bytes(events)}, event.Clock{})
	h := start(b, encoding, next)
	var sent int64
	for b.Loop() {
		if err := h.ConsumeLogs(b.Context(), logs); err != nil {
			b.Fatal(err)
		}
		sent += int64(size)
	}
	for delivered.Load() < sent {
		<-arrived
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sent), "ns/event")
	require.NoError(b, h.Shutdown(context.Background()))
}

func startStage(b *testing.B, encoding event.Encoding, next consumer.Logs) hop {
	path := filepath.Join("/sys/fs/bpf", "kernelpipe-benchmark")
	require.NoError(b, os.RemoveAll(path))
	b.Cleanup(func() { require.NoError(b, os.RemoveAll(path)) })
	s := stage.New(stage.Settings{
		Name: "processor/benchmark", Telemetry: componenttest.NewNopTelemetrySettings(), PinPath: path, ElementSize: event.Size,
		Queue: stage.NewQueueConfig(), DeadLetter: stage.NewDeadLetterConfig(), Retry: stage.NewRetryConfig(), Encoding: encoding, Next: next,
		Work: func(batch event.Batch, i int, out []byte) bool {
			copy(out, batch.Data[i*batch.Size:(i+1)*batch.Size])
			return true
		},
	})
	require.NoError(b, s.Start(b.Context(), componenttest.NewNopHost()), "this benchmark needs root and a kernel with BPF")
	return s
}

// host has the storage extension.
type host map[component.ID]component.Component

func (h host) GetExtensions() map[component.ID]component.Component { return h }

func startPersistentQueue(b *testing.B, next consumer.Logs, fsync bool) hop {
	factory := filestorage.NewFactory()
	storage := factory.CreateDefaultConfig().(*filestorage.Config)
	storage.Directory, storage.FSync = b.TempDir(), fsync
	id := component.NewID(factory.Type())
	set := extensiontest.NewNopSettings(factory.Type())
	set.ID = id
	files, err := factory.Create(b.Context(), set, storage)
	require.NoError(b, err)
	require.NoError(b, files.Start(b.Context(), componenttest.NewNopHost()))

	queue := exporterhelper.NewDefaultQueueConfig()
	queue.StorageID, queue.NumConsumers, queue.BlockOnOverflow = &id, 1, true
	queue.Batch = configoptional.None[exporterhelper.BatchConfig]()
	e, err := exporterhelper.NewLogs(b.Context(), exportertest.NewNopSettings(exportertest.NopType), struct{}{}, next.ConsumeLogs,
		exporterhelper.WithQueue(configoptional.Some(queue)), exporterhelper.WithRetry(configretry.NewDefaultBackOffConfig()))
	require.NoError(b, err)
	require.NoError(b, e.Start(b.Context(), host{id: files}))
	return persistent{e, files}
}

// persistent shuts down the storage after the exporter.
type persistent struct {
	consumer interface {
		ConsumeLogs(context.Context, plog.Logs) error
		Shutdown(context.Context) error
	}
	storage extension.Extension
}

func (p persistent) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	return p.consumer.ConsumeLogs(ctx, logs)
}

func (p persistent) Shutdown(ctx context.Context) error {
	if err := p.consumer.Shutdown(ctx); err != nil {
		return err
	}
	return p.storage.Shutdown(ctx)
}
