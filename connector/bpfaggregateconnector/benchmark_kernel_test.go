//go:build linux && kernel

package bpfaggregateconnector

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"golang.org/x/sys/unix"
)

// BenchmarkAggregate is what an event costs from a frame to the kernel's totals.
func BenchmarkAggregate(b *testing.B) {
	const size = 1024 // what a stage hands on at once
	for _, test := range []struct {
		name   string
		config *Config
	}{
		{"default", newConfig()},
		{"one_view", newConfig(only("kernel.events", "kernel.io", "kernel.event.duration"))},
	} {
		b.Run(test.name+"/decoded/series=100", func(b *testing.B) {
			c := start(b, test.config, consumertest.NewNop())
			batch := enrichedBatch(mixed(size, 100, 1))
			require.NoError(b, c.add(batch))
			b.ReportAllocs()
			cpu := cpuTime(b)
			for b.Loop() {
				if err := c.add(batch); err != nil {
					b.Fatal(err)
				}
			}
			perEvent(b, size, cpu)
		})
		b.Run(test.name+"/frames/series=100", func(b *testing.B) {
			c := start(b, test.config, consumertest.NewNop())
			logs := frame(enrichedBatch(mixed(size, 100, 1)))
			require.NoError(b, c.ConsumeLogs(b.Context(), logs))
			b.ReportAllocs()
			cpu := cpuTime(b)
			for b.Loop() {
				if err := c.ConsumeLogs(b.Context(), logs); err != nil {
					b.Fatal(err)
				}
			}
			perEvent(b, size, cpu)
		})
	}
}

// cpuTime returns what the process has had of the processors until now, all threads and the kernel for it.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// perEvent reports the time that an event took, and the processor time since cpu, which does not depend on what
// else the machine does.
func perEvent(b *testing.B, events int, cpu time.Duration) {
	b.Helper()
	n := float64(b.N) * float64(events)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/event")
	b.ReportMetric(float64(cpuTime(b)-cpu)/n, "cpu-ns/event")
}

// BenchmarkFlood is what an event costs when each has a name that never came before. Each tenth batch is followed by an export.
func BenchmarkFlood(b *testing.B) {
	const size = 1024
	c := start(b, newConfig(), consumertest.NewNop())
	events := mixed(size, 1, 1)
	n, number := uint64(0), [8]byte{}
	b.ReportAllocs()
	cpu := cpuTime(b)
	for b.Loop() {
		for i := range events {
			n++
			binary.BigEndian.PutUint64(number[:], n)
			hex.Encode(events[i].Context.Executable[:], number[:])
		}
		if err := c.add(enrichedBatch(events)); err != nil {
			b.Fatal(err)
		}
		if n%(10*size) == 0 {
			if err := c.export(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	perEvent(b, size, cpu)
}
