package bpfenrichprocessor

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/container"
)

// knowing is a source that knows every process and every cgroup.
type knowing struct{}

func (knowing) process(id identity) (facts, error) {
	return facts{comm: "service", executable: fmt.Sprintf("service-%d", id.tgid), parent: "init", parentTGID: 1}, nil
}

func (knowing) cgroup(id uint64) (container.Identity, error) {
	return container.Identity{ID: [32]byte{byte(id)}}, nil
}

func (knowing) lookUp(ids []identity, visit func(int, *record)) error {
	for i := range ids {
		visit(i, &record{facts: facts{comm: "service", executable: "service", parent: "init", parentTGID: 1}, places: []place{{}}})
	}
	return nil
}

// counted are the numbers of moves, as many and as far apart as those in the kernel.
var counted [2 << 16]uint32

func (knowing) moves(tgid uint32) uint32 { return atomic.LoadUint32(&counted[tgid%(1<<16)*2]) }

func (knowing) allMoves() uint64 { return uint64(atomic.LoadUint32(&counted[0])) }

func (knowing) had(identity) bool { return false }

func (knowing) container(key cgroupKey) (container.Identity, bool, error) {
	return container.Identity{ID: [32]byte{byte(key.id)}}, true, nil
}

// knowingTable is knowing as a table.
type knowingTable struct{ knowing }

func (t knowingTable) cgroup(key cgroupKey) (container.Identity, bool, error) {
	return t.container(key)
}

// BenchmarkWork is the enricher's part of the event path with a warm cache: ns per event.
func BenchmarkWork(b *testing.B) {
	for _, processes := range []int{1, 100, 1024, 65_536} {
		b.Run(fmt.Sprintf("processes_%d", processes), func(b *testing.B) {
			e, out := benchmarked(b, createDefaultConfig().(*Config), knowingTable{})
			batches := make([]event.Batch, max(1, processes/1024))
			for n := range batches {
				batches[n] = batchOf(1024, func(i int, e *event.Event) { identify(e, (n*1024+i)%processes) })
				run(b, e, batches[n], out)
			}
			b.ReportAllocs()
			n, i := 0, 0
			for b.Loop() {
				if i == 1024 {
					i, n = 0, (n+1)%len(batches)
					if err := e.prepare(batches[n]); err != nil {
						b.Fatal(err)
					}
				}
				e.work(batches[n], i, out[i*event.EnrichedSize:(i+1)*event.EnrichedSize])
				i++
			}
		})
	}
}

// BenchmarkNewProcess is an event of a process that is not in the cache; the source answers at once.
func BenchmarkNewProcess(b *testing.B) {
	config := createDefaultConfig().(*Config)
	config.Cache.Processes = 10_000
	e, out := benchmarked(b, config, nil)
	batch := batchOf(1024, func(int, *event.Event) {})
	b.ReportAllocs()
	number, i := 0, 1024
	for b.Loop() {
		if i == 1024 {
			i = 0
			for j := range 1024 {
				identify(batch.At(j), number)
				number++
			}
			if err := e.prepare(batch); err != nil {
				b.Fatal(err)
			}
		}
		e.work(batch, i, out[i*event.EnrichedSize:(i+1)*event.EnrichedSize])
		i++
	}
}

func benchmarked(b *testing.B, config *Config, table processTable) (*enricher, []byte) {
	resolver := newResolver(zap.NewNop(), func() []processSource { return []processSource{knowing{}} }, knowing{}, nil)
	e := newEnricher(config, resolver, table)
	resolver.start()
	b.Cleanup(func() { require.NoError(b, resolver.stop(context.Background())) })
	return e, make([]byte, 1024*event.EnrichedSize)
}

// identify makes the event one of process number n.
func identify(e *event.Event, n int) {
	e.Process = event.Process{TGID: uint32(100 + n), TID: uint32(100 + n), Start: 1 + uint64(n), CgroupID: 1 + uint64(n%100)}
	copy(e.Process.Comm[:], "service")
}

func batchOf(n int, change func(int, *event.Event)) event.Batch {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = event.Event{Version: event.Version, Category: event.CategoryFilesystem, Operation: event.FilesystemWrite, Time: 1 << 40}
		change(i, &events[i])
	}
	return event.Batch{Size: event.Size, Data: event.Bytes(events)}
}

func run(t testing.TB, e *enricher, batch event.Batch, out []byte) []event.Enriched {
	t.Helper()
	require.NoError(t, e.prepare(batch))
	for i := range batch.Len() {
		e.work(batch, i, out[i*event.EnrichedSize:(i+1)*event.EnrichedSize])
	}
	view, err := event.ViewEnriched(out[:batch.Len()*event.EnrichedSize])
	require.NoError(t, err)
	return view
}
