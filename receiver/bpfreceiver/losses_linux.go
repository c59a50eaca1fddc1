package bpfreceiver

import (
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/health"
)

// losses watches what the probes and the ring buffer lose.
type losses struct {
	config *Config
	probes *bpf.Probes
	logger *zap.Logger
	host   component.Host

	ended chan struct{}
	watch sync.WaitGroup
}

func (l *losses) start(name string) {
	l.ended = make(chan struct{})
	lost := health.NewLosses(l.config.Health.Losses(), l.counters()...)
	var depth health.Depth
	l.watch.Go(func() {
		health.Watch(l.ended, l.host, l.logger, name, func(now time.Time) error {
			used, _, size := l.probes.RingUse()
			full := depth.Check(used, size, l.config.Health.MaxDepthRatio, "bytes wait in a ring buffer of")
			return errors.Join(full, lost.Check(now))
		})
	})
}

func (l *losses) stop() {
	close(l.ended)
	l.watch.Wait()
}

// counters is all that can be lost here, and what to do about it.
func (l *losses) counters() []health.Counter {
	var counters []health.Counter
	for _, category := range event.Categories() {
		counters = append(counters, health.Counter{
			Lost: "of category " + category.String() + " found the ring buffer full and were lost",
			Remedy: "find the slow component behind the receiver (docs/operations.md), raise ring_buffer.size, or narrow probes." +
				category.String(),
			Read: func() uint64 {
				counts, err := l.probes.Counts()
				if err != nil {
					return 0
				}
				return counts[category].Lost
			},
		})
	}
	counters = append(counters,
		health.Counter{
			Lost: "were refused for good by the next component and are gone", Remedy: "the log has the reason",
			Read: func() uint64 { return l.probes.RingBooks().Refused },
		},
		health.Counter{
			Unit: "records", Lost: "in the ring buffer are no events of this version and were passed over",
			Remedy: "let no other program write below pin_path",
			Read:   func() uint64 { return l.probes.RingBooks().Foreign },
		},
	)
	for _, m := range missed {
		m.Read = func() uint64 {
			all, err := l.probes.Missed()
			if err != nil {
				return 0
			}
			return m.of(&all)
		}
		counters = append(counters, m.Counter)
	}
	return counters
}

// missed has what the probes could not note, by its cause.
var missed = []struct {
	cause string
	of    func(*bpf.Missed) uint64
	health.Counter
}{
	{"recursion", func(m *bpf.Missed) uint64 { return m.Recursions }, health.Counter{
		Unit: "runs of probes", Lost: "interrupted a run of the same and were skipped by the kernel, with their events",
		Remedy: "narrow probes",
	}},
	{"start", func(m *bpf.Missed) uint64 { return m.Starts }, health.Counter{
		Unit: "system calls", Lost: "found no room for their start, so that their events have no duration",
		Remedy: "narrow probes.syscall with include or exclude",
	}},
	{"owner", func(m *bpf.Missed) uint64 { return m.Owners }, health.Counter{
		Unit: "sockets", Lost: "found no room for their owner, so that events of them name no process",
		Remedy: "narrow probes.network",
	}},
	{"process_end", func(m *bpf.Missed) uint64 { return m.ProcessEnd }, health.Counter{
		Unit: "ends of processes", Lost: "could not be noted, so that they may be reported twice", Tolerated: true,
	}},
	{"compat", func(m *bpf.Missed) uint64 { return m.Compat }, health.Counter{
		Unit: "system calls", Lost: "of 32-bit programs or x32 were not decoded (receiver README, limits)", Tolerated: true,
	}},
	{"aio", func(m *bpf.Missed) uint64 { return m.Results }, health.Counter{
		Unit: "results of io_submit", Lost: "were fetched without a system call, or found no room for their beginning, " +
			"and are no events (receiver README, limits)", Tolerated: true,
	}},
	{"io_uring", func(m *bpf.Missed) uint64 { return m.Requests }, health.Counter{
		Unit: "results of io_uring", Lost: "could not be told, and are no events (receiver README, limits)", Tolerated: true,
	}},
}

// reportLost tells what was lost over the life of the counters, the time when no process read the ring buffer included.
func (r *bpfReceiver) reportLost() {
	counts, err := r.probes.Counts()
	if err != nil {
		return // the telemetry says so
	}
	var fields []zap.Field
	for _, category := range event.Categories() {
		if lost := counts[category].Lost; lost > 0 {
			fields = append(fields, zap.Uint64(category.String(), lost))
		}
	}
	if len(fields) > 0 {
		r.settings.Logger.Warn("Events were lost before this start, as the ring buffer was full. "+
			"The numbers are of all time since it was pinned. A larger ring_buffer.size bridges a longer pause", fields...)
	}
}
