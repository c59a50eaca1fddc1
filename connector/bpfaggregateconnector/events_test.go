package bpfaggregateconnector

import (
	"math/rand/v2"
	"strconv"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// example is an event of 100 ns that moved 10 bytes.
func example(category event.Category, operation uint16, comm string, change ...func(*event.Event)) event.Event {
	e := event.Event{
		Version: event.Version, Category: category, Operation: operation, Time: 1, Duration: 100, Bytes: 10,
		Process: event.Process{CgroupID: 4242, Start: 1, TGID: 1000, TID: 1001, UID: 33, GID: 34},
	}
	event.SetText(e.Process.Comm[:], comm)
	for _, c := range change {
		c(&e)
	}
	return e
}

// mixed returns n events of so many programs, with durations from nanoseconds to minutes, and their contexts.
func mixed(n, programs int, seed uint64) []event.Enriched {
	r := rand.New(rand.NewPCG(seed, 1))
	events := make([]event.Enriched, n)
	for i := range events {
		e := &events[i]
		e.Event = example(event.CategoryFilesystem, event.FilesystemWrite, "thread", func(e *event.Event) {
			e.Duration = uint64(r.ExpFloat64() * float64(uint64(1)<<r.IntN(20)) * 1000)
			e.Bytes = r.Uint64N(1 << 20)
			e.Time = r.Uint64N(1 << 30)
		})
		event.SetText(e.Context.Executable[:], "program-"+strconv.Itoa(r.IntN(programs)))
		e.Context.Known = event.KnownExecutable
	}
	return events
}

func enrichedBatch(events []event.Enriched) event.Batch {
	return event.Batch{Size: event.EnrichedSize, Data: event.Bytes(events)}
}
