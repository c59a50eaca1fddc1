//go:build linux && kernel

package bpfreceiver

// What the probes cost the traced programs, and what the events cost the receiver.

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/receiver/bpfreceiver/internal/metadata"
)

// BenchmarkTracedCall is the time of a system call in a traced program, by how far the probes follow it. The
// calls of its process are filtered or emitted; those of "attached" are none of the ones that are asked for.
func BenchmarkTracedCall(b *testing.B) {
	for _, call := range []struct{ name, probe string }{
		{"getppid", "syscall: {include: [getppid], command: [%s]}"},
		{"pread", "filesystem: {command: [%s]}"},
	} {
		for _, traced := range []struct{ name, probe string }{
			{"untraced", ""},
			{"attached", "syscall: {include: [chdir]}"},
			{"filtered", fmt.Sprintf(call.probe, "someone-else")},
			{"emitted", fmt.Sprintf(call.probe, "$COMMAND")},
		} {
			b.Run(call.name+"/"+traced.name, func(b *testing.B) {
				benchmarkWork(b, call.name, traced.probe)
			})
		}
	}
}

// BenchmarkDefaults is the time of whole pieces of work with everything on and nothing else said, beside none of
// it: to open, read and close a file; a TCP connection with a message; a process.
func BenchmarkDefaults(b *testing.B) {
	for _, kind := range []string{"file", "connection", "process"} {
		b.Run(kind+"/untraced", func(b *testing.B) { benchmarkWork(b, kind, "") })
		b.Run(kind+"/default", func(b *testing.B) { benchmarkWork(b, kind, "syscall: , network: , filesystem: , process: ") })
	}
}

// benchmarkWork has a helper do b.N pieces of work while it is traced by the given probes, if any.
func benchmarkWork(b *testing.B, kind, probes string) {
	p := begin(b, "bench", argument{})
	p.tell()
	if probes != "" {
		startBenchmark(b, configure(b, "probes: {"+probes+"}"))
	}
	b.ResetTimer()
	_, err := fmt.Fprintln(p.input, kind, b.N)
	require.NoError(b, err)
	ns, err := strconv.Atoi(strings.TrimSpace(p.line()))
	require.NoError(b, err)
	b.StopTimer()
	b.ReportMetric(float64(ns)/float64(b.N), "ns/op") // in the helper, without the way to it
	require.NoError(b, p.input.Close())
	p.end()
}

// startBenchmark starts a receiver that delivers to nobody, and reports what it lost.
func startBenchmark(b *testing.B, config *Config) {
	b.Helper()
	created, err := NewFactory().CreateLogs(b.Context(), receivertest.NewNopSettings(metadata.Type), config, consumertest.NewNop())
	require.NoError(b, err)
	r, ok := created.(*bpfReceiver)
	require.True(b, ok)
	require.NoError(b, r.Start(b.Context(), componenttest.NewNopHost()))
	b.Cleanup(func() {
		counts, err := r.probes.Counts()
		require.NoError(b, err)
		lost := uint64(0)
		for _, count := range counts {
			lost += count.Lost
		}
		b.ReportMetric(float64(lost)/float64(b.N), "lost/op")
		require.NoError(b, r.Shutdown(context.Background()))
	})
}

// BenchmarkDrain is the time from the ring buffer to the next component, in batches of 1,024 events.
func BenchmarkDrain(b *testing.B) {
	for _, encoding := range []event.Encoding{event.EncodingFrames, event.EncodingRecords} {
		b.Run(string(encoding), func(b *testing.B) {
			config := configure(b, fmt.Sprintf("{encoding: %s, probes: {simulate: {events: 1000000000000}}}", encoding))
			dir, err := bpf.OpenDirectory("", "benchmark")
			require.NoError(b, err)
			probes, err := bpf.OpenProbes(dir, config.probes())
			require.NoError(b, err)
			defer probes.Close()
			require.NoError(b, probes.Attach())
			next, err := report(consumertest.NewNop(), config, receivertest.NewNopSettings(metadata.Type))
			require.NoError(b, err)
			d := drain{config: config, probes: probes, next: next, logger: zap.NewNop(), deliver: b.Context()}
			ring := probes.Ring()
			b.ReportAllocs()
			for b.Loop() {
				batch := ring.Read(bpf.MaxBatch)
				if len(batch.Records) < bpf.MaxBatch {
					b.StopTimer()
					ring.Rewind()
					for made := bpf.SimulateBatch; made == bpf.SimulateBatch; {
						made, err = probes.Simulate(bpf.SimulateBatch)
						require.NoError(b, err)
					}
					batch = ring.Read(bpf.MaxBatch)
					b.StartTimer()
				}
				if !d.settle(ring, batch) {
					b.Fatal("not delivered")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/bpf.MaxBatch, "ns/event")
		})
	}
}
