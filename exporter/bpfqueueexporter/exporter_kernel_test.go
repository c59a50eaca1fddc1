//go:build linux && kernel

package bpfqueueexporter

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exportertest"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/exporter/bpfqueueexporter/internal/metadata"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

func newConfig(t testing.TB) *Config {
	t.Helper()
	config := createDefaultConfig().(*Config)
	config.Name, config.PinPath = "handoff", filepath.Join("/sys/fs/bpf", "kernelpipe-queue-"+filepath.Base(t.Name()))
	require.NoError(t, os.RemoveAll(config.PinPath))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(config.PinPath)) })
	return config
}

func start(t testing.TB, config *Config) exporter.Logs {
	t.Helper()
	e, err := NewFactory().CreateLogs(t.Context(), exportertest.NewNopSettings(metadata.Type), config)
	require.NoError(t, err)
	require.NoError(t, e.Start(t.Context(), componenttest.NewNopHost()), "this test needs root and a kernel with BPF")
	t.Cleanup(func() { assert.NoError(t, e.Shutdown(context.Background())) })
	return e
}

// batch makes events whose Bytes is their number; those of 256 bytes have a context.
func batch(first, n, size int) event.Batch {
	b := event.Batch{Source: 0x100, Sequence: uint64(first), Size: size, Data: event.Bytes(make([]event.Enriched, n))[:n*size]}
	for i := range n {
		*b.At(i) = event.Event{Version: event.Version, Category: event.CategoryProcess, Operation: 1, Bytes: uint64(first + i)}
		if size == event.EnrichedSize {
			b.Data[i*size+event.Size] = 1
		}
	}
	return b
}

func TestEventsWaitForAnotherProcess(t *testing.T) {
	for name, encoding := range map[string]event.Encoding{"frames": event.EncodingFrames, "records": event.EncodingRecords} {
		t.Run(name, func(t *testing.T) {
			config := newConfig(t)
			e := start(t, config)
			assert.False(t, e.Capabilities().MutatesData)
			require.NoError(t, e.ConsumeLogs(t.Context(), event.Encode(encoding, batch(0, 100, event.Size), event.Clock{})))
			require.NoError(t, e.Shutdown(t.Context()))
			e = start(t, config) // the next process goes on
			require.NoError(t, e.ConsumeLogs(t.Context(), event.Encode(encoding, batch(100, 100, event.EnrichedSize), event.Clock{})))

			other, err := bpf.OpenConsumer(config.PinPath, stage.QueueComponent("handoff"), stage.Queue)
			require.NoError(t, err)
			defer other.Close()
			got, err := other.Pop(0, bpf.MaxBatch)
			require.NoError(t, err)
			events, err := event.ViewEnriched(got.Data)
			require.NoError(t, err)
			require.Len(t, events, 200)
			for i := range events {
				assert.EqualValues(t, i, events[i].Event.Bytes)
				assert.Equal(t, i >= 100, events[i].Context != event.Context{})
			}
			other.Ack(0)
			assert.Equal(t, bpf.QueueBooks{Received: 200, Delivered: 200}, other.Books())
		})
	}
}

func TestAFullQueueBlocksTheSender(t *testing.T) {
	config := newConfig(t)
	config.Queue.Capacity = 50
	e := start(t, config)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, e.ConsumeLogs(ctx, event.Encode(event.EncodingFrames, batch(0, 100, event.Size), event.Clock{})), context.DeadlineExceeded)
}

func TestTwoExportersDoNotShareAQueue(t *testing.T) {
	config := newConfig(t)
	start(t, config)
	e, err := NewFactory().CreateLogs(t.Context(), exportertest.NewNopSettings(metadata.Type), config)
	require.NoError(t, err)
	require.ErrorContains(t, e.Start(t.Context(), componenttest.NewNopHost()), "is in use by another running process")
	require.NoError(t, e.Shutdown(t.Context()))
}
