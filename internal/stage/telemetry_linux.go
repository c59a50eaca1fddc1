package stage

import (
	"context"
	"errors"
	"math"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/kernelpipe/kernelpipe/internal/clamp"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage/internal/metadata"
)

// Books is the account of a stage, over the life of what is pinned: Received = Delivered + Filtered +
// DroppedNewest + DroppedOldest + DroppedLowPriority + Lost + DeadLettered + Queued + InFlight.
type Books struct {
	Received, Delivered, Filtered, DeadLettered, Queued, InFlight, Redelivered uint64
	DroppedNewest, DroppedOldest, DroppedLowPriority                           uint64
	// Lost events waited or were in flight in a queue whose pins somebody has removed.
	Lost uint64
}

// Books returns the account. It balances exactly when nothing moves.
func (s *Stage) Books() Books {
	var letters uint64
	if d := s.deadLetter; d != nil { // a letter is in flight until its batch is acknowledged, and only after that here
		d.mu.Lock()
		defer d.mu.Unlock()
		letters = d.queue.Books().Received
		letters -= min(d.pending, letters)
	}
	queue := s.queue.Books()
	letters = min(letters, queue.Delivered) // those of a batch that an earlier process left in flight come before its end
	return Books{
		Received:           queue.Received,
		Delivered:          queue.Delivered - letters,
		Filtered:           queue.Filtered,
		DroppedNewest:      queue.DroppedNewest,
		DroppedOldest:      queue.DroppedOldest,
		DroppedLowPriority: queue.DroppedOverLimit,
		Lost:               queue.Lost,
		DeadLettered:       queue.DeadLettered + letters,
		Queued:             queue.Queued,
		InFlight:           queue.InFlight,
		Redelivered:        queue.Redelivered,
	}
}

// memory returns what the stage costs in the kernel, in bytes.
func (s *Stage) memory() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := s.queue.Memory()
	if s.deadLetter != nil {
		total += s.deadLetter.queue.Memory()
	}
	for _, q := range s.older {
		total += q.Memory()
	}
	return total
}

// oldestAge returns how long ago the oldest event in the stage happened; 0 where there is none.
func (s *Stage) oldestAge() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest, err := oldestOf(s.queue, s.settings.Queue.Lanes, math.MaxUint64)
	for _, q := range s.older {
		if err == nil {
			oldest, err = oldestOf(q, q.Config().Lanes, oldest)
		}
	}
	return age(oldest), err
}

// oldestOf returns the time of the oldest event in a queue, if it is older than oldest.
func oldestOf(queue interface {
	Oldest(lane int) ([]byte, error)
}, lanes int, oldest uint64) (uint64, error) {
	for lane := range lanes {
		element, err := queue.Oldest(lane)
		if err != nil {
			return 0, err
		}
		if element != nil { // all formats begin with an event
			oldest = min(oldest, event.Batch{Size: len(element), Data: element}.At(0).Time)
		}
	}
	return oldest, nil
}

// age is 0 for what has just come, and where there is nothing.
func age(oldest uint64) time.Duration {
	now := event.Clock{}.Now()
	return time.Duration(now - min(oldest, now))
}

// observe registers the stage's books as telemetry.
func (s *Stage) observe() (err error) {
	if s.telemetry, err = metadata.NewTelemetryBuilder(s.settings.Telemetry); err != nil {
		return err
	}
	stage := attribute.String("stage", s.settings.Name)
	one := metric.WithAttributeSet(attribute.NewSet(stage))
	register := func(with func(metric.Int64Callback) error, value func() uint64) {
		if err == nil {
			err = with(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(clamp.Int64(value()), one)
				return nil
			})
		}
	}
	t := s.telemetry
	register(t.RegisterKernelpipeStageReceivedCallback, func() uint64 { return s.Books().Received })
	register(t.RegisterKernelpipeStageDeliveredCallback, func() uint64 { return s.Books().Delivered })
	register(t.RegisterKernelpipeStageFilteredCallback, func() uint64 { return s.Books().Filtered })
	register(t.RegisterKernelpipeStageDeadLetteredCallback, func() uint64 { return s.Books().DeadLettered })
	register(t.RegisterKernelpipeStageRedeliveredCallback, func() uint64 { return s.Books().Redelivered })
	register(t.RegisterKernelpipeStageQueuedCallback, func() uint64 { return s.Books().Queued })
	register(t.RegisterKernelpipeStageInFlightCallback, func() uint64 { return s.Books().InFlight })
	register(t.RegisterKernelpipeStageCapacityCallback, func() uint64 { return uint64(s.queue.Config().Capacity) })
	register(t.RegisterKernelpipeStageMemoryCallback, func() uint64 { return s.memory() })
	register(t.RegisterKernelpipeStagePinsRemovedCallback, func() uint64 {
		if s.checkPins() != nil {
			return 1
		}
		return 0
	})
	register(t.RegisterKernelpipeStageSourcesCallback, func() uint64 { return uint64(s.queue.Sources()) })
	if d := s.deadLetter; d != nil {
		register(t.RegisterKernelpipeStageDeadLetterCapacityCallback, func() uint64 { return uint64(d.queue.Config().Capacity) })
		register(t.RegisterKernelpipeStageDeadLetterQueuedCallback, func() uint64 { b := d.queue.Books(); return b.Queued + b.InFlight })
		register(t.RegisterKernelpipeStageDeadLetterReplayedCallback, func() uint64 { return d.queue.Books().Delivered })
	}
	return errors.Join(err,
		t.RegisterKernelpipeStageOldestAgeCallback(func(_ context.Context, o metric.Float64Observer) error {
			age, err := s.oldestAge()
			if err == nil {
				o.Observe(age.Seconds(), one)
			}
			return err
		}),
		t.RegisterKernelpipeStageDeadLetterDroppedCallback(func(_ context.Context, o metric.Int64Observer) error {
			if d := s.deadLetter; d != nil {
				books := d.queue.Books()
				observeDropped(o, stage, map[string]uint64{
					string(DropNewest): books.DroppedNewest,
					string(DropOldest): books.DroppedOldest,
					pinsRemoved:        books.Lost,
				})
			}
			return nil
		}),
		t.RegisterKernelpipeStageDroppedCallback(func(_ context.Context, o metric.Int64Observer) error {
			books := s.Books()
			observeDropped(o, stage, map[string]uint64{
				string(DropNewest):      books.DroppedNewest,
				string(DropOldest):      books.DroppedOldest,
				string(DropLowPriority): books.DroppedLowPriority,
				pinsRemoved:             books.Lost,
			})
			return nil
		}))
}

// pinsRemoved is the reason of what was lost with the pins of a queue.
const pinsRemoved = "pins_removed"

func observeDropped(o metric.Int64Observer, stage attribute.KeyValue, dropped map[string]uint64) {
	for reason, count := range dropped {
		o.Observe(clamp.Int64(count), metric.WithAttributes(attribute.String("reason", reason), stage))
	}
}
