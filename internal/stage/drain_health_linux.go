package stage

import (
	"errors"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/health"
)

// watchHealth reports what is lost, and what of the pinned state was damaged, as the receiver's status, until the drain
// ends.
func (d *Drain) watchHealth(host component.Host) {
	d.ended = make(chan struct{})
	check := d.damaged.Check
	if d.settings.Health != (HealthConfig{}) {
		losses := health.NewLosses(d.settings.Health.Losses(), d.losses()...)
		check = func(now time.Time) error { return errors.Join(d.damaged.Check(now), losses.Check(now)) }
	}
	d.watch.Go(func() { health.Watch(d.ended, host, d.logger, "queue "+d.name(), check) })
}

// losses is all that can be lost here, and what to do about it.
func (d *Drain) losses() []health.Counter {
	counters := append(queueLosses(d.counter), unreadable("elements", "otelcol_kernelpipe_drain_invalid", d.invalid.Load))
	if letters := d.deadLetter; letters != nil {
		counters = append(counters, letters.lettersDropped(), letters.lettersLost(),
			deadLettered(func() uint64 { return letters.queue.Books().Received }))
	}
	return counters
}

// queueLosses is what a queue can lose. counter makes of a number in its books one to read.
func queueLosses(counter func(of func(*bpf.QueueBooks) uint64) func() uint64) []health.Counter {
	return []health.Counter{
		dropped(DropNewest, counter(func(b *bpf.QueueBooks) uint64 { return b.DroppedNewest })),
		dropped(DropOldest, counter(func(b *bpf.QueueBooks) uint64 { return b.DroppedOldest })),
		dropped(DropLowPriority, counter(func(b *bpf.QueueBooks) uint64 { return b.DroppedOverLimit })),
		lostWithPins(counter(func(b *bpf.QueueBooks) uint64 { return b.Lost })),
	}
}

// counter counts in the books of the queue from when it is first seen, also where it comes later or is another one
// then.
func (d *Drain) counter(of func(*bpf.QueueBooks) uint64) func() uint64 {
	var seen *bpf.Consumer
	var total, last uint64
	return func() uint64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.consumer == nil {
			return total
		}
		books := d.consumer.Books()
		now := of(&books)
		if d.consumer == seen && now > last {
			total += now - last
		}
		seen, last = d.consumer, now
		return total
	}
}
