package stage

import (
	"context"
	"errors"
	"math"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/clamp"
	"github.com/kernelpipe/kernelpipe/internal/stage/internal/metadata"
)

// observe registers the books of the queue, whose owner may not be there to do it.
func (d *Drain) observe() (err error) {
	if d.telemetry, err = metadata.NewTelemetryBuilder(d.settings.Telemetry); err != nil {
		return err
	}
	queue := attribute.String("queue", d.name())
	one := metric.WithAttributeSet(attribute.NewSet(queue))
	register := func(with func(metric.Int64Callback) error, value func(*bpf.Consumer) uint64) {
		err = errors.Join(err, with(func(_ context.Context, o metric.Int64Observer) error {
			return d.ask(func(c *bpf.Consumer) error {
				o.Observe(clamp.Int64(value(c)), one)
				return nil
			})
		}))
	}
	t := d.telemetry
	register(t.RegisterKernelpipeDrainCapacityCallback, func(c *bpf.Consumer) uint64 { return uint64(c.Capacity()) })
	register(t.RegisterKernelpipeDrainDeliveredCallback, func(c *bpf.Consumer) uint64 { return c.Books().Delivered })
	register(t.RegisterKernelpipeDrainQueuedCallback, func(c *bpf.Consumer) uint64 { return c.Books().Queued })
	register(t.RegisterKernelpipeDrainInFlightCallback, func(c *bpf.Consumer) uint64 { return c.Books().InFlight })
	register(t.RegisterKernelpipeDrainMemoryCallback, (*bpf.Consumer).Memory)
	if letters := d.deadLetter; letters != nil {
		register(t.RegisterKernelpipeDrainDeadLetteredCallback, func(*bpf.Consumer) uint64 { return letters.queue.Books().Received })
	}
	return errors.Join(err,
		t.RegisterKernelpipeDrainOldestAgeCallback(func(_ context.Context, o metric.Float64Observer) error {
			return d.ask(func(c *bpf.Consumer) error {
				oldest, err := oldestOf(c, c.Lanes(), math.MaxUint64)
				if err == nil {
					o.Observe(age(oldest).Seconds(), one)
				}
				return err
			})
		}),
		t.RegisterKernelpipeDrainDroppedCallback(func(_ context.Context, o metric.Int64Observer) error {
			return d.ask(func(c *bpf.Consumer) error {
				books := c.Books()
				observeDropped(o, queue, map[string]uint64{
					string(DropNewest):      books.DroppedNewest,
					string(DropOldest):      books.DroppedOldest,
					string(DropLowPriority): books.DroppedOverLimit,
					pinsRemoved:             books.Lost,
				})
				return nil
			})
		}))
}

// ask shows the queue to a callback, if it is there.
func (d *Drain) ask(about func(*bpf.Consumer) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.consumer == nil {
		return nil
	}
	return about(d.consumer)
}

func (d *Drain) refuse(err error) {
	d.logger.Debug("element of the queue passed over", zap.Error(err))
	d.invalid.Add(1)
	d.telemetry.KernelpipeDrainInvalid.Add(context.Background(), 1, metric.WithAttributes(attribute.String("queue", d.name())))
}
