package stage

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/kernelpipe/kernelpipe/internal/stage/internal/metadata"
)

// Books is the account of a stage, over the life of what is pinned:
// Received = Delivered + Filtered + DroppedNewest + DroppedOldest + DeadLettered + Queued + InFlight.
type Books struct {
	Received, Delivered, Filtered, DroppedNewest, DroppedOldest, DeadLettered, Queued, InFlight, Redelivered uint64
}

// Books returns the account. It balances exactly when nothing moves.
func (s *Stage) Books() Books {
	queue, letters := s.queue.Books(), s.deadLetter.queue.Books()
	return Books{
		Received:      queue.Received,
		Delivered:     queue.Delivered - letters.Received,
		Filtered:      queue.Filtered,
		DroppedNewest: queue.DroppedNewest,
		DroppedOldest: queue.DroppedOldest,
		DeadLettered:  queue.DeadLettered + letters.Received,
		Queued:        queue.Queued,
		InFlight:      queue.InFlight,
		Redelivered:   queue.Redelivered,
	}
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
				o.Observe(int64(value()), one)
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
	register(t.RegisterKernelpipeStageMemoryCallback, func() uint64 { return s.queue.Memory() + s.deadLetter.queue.Memory() })
	if err != nil {
		return err
	}
	return t.RegisterKernelpipeStageDroppedCallback(func(_ context.Context, o metric.Int64Observer) error {
		books := s.Books()
		o.Observe(int64(books.DroppedNewest), metric.WithAttributes(attribute.String("reason", string(DropNewest)), stage))
		o.Observe(int64(books.DroppedOldest), metric.WithAttributes(attribute.String("reason", string(DropOldest)), stage))
		return nil
	})
}
