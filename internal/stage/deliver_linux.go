package stage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// delivery is the way to the next component: tries, and what becomes of what it refuses.
type delivery struct {
	next       consumer.Logs
	encode     func(event.Batch, event.Clock) plog.Logs
	clocks     *event.Clocks
	retry      configretry.BackOffConfig
	deadLetter *deadLetter
	logger     *zap.Logger
	lifetime   context.Context // it ends: give up
	leave      <-chan struct{} // it is closed: do not begin another try
}

// deliver hands a batch to the next component until that has accepted it. A failure that may pass is
// tried again, with back-off; after one that won't, the batch is divided to find the events that cause it,
// and those go to the dead-letter queue: deliver returns how many. Its error is that the lifetime ends, or that
// the dead-letter queue can't be written. Of a batch that is redelivered, what was settled before the last letter of it
// is left out.
func (d *delivery) deliver(batch event.Batch) (letters int, err error) {
	if batch.Redelivered {
		settled, err := d.deadLetter.settled(batch)
		if err != nil {
			return 0, fmt.Errorf("dead letter: %w", err)
		}
		batch.Data = batch.Data[settled*batch.Size:]
		batch.Sequence += uint64(settled)
	}
	if batch.Len() == 0 {
		return 0, nil
	}
	return d.deliverUntil(d.deadline(), batch)
}

// deadline is until when a batch is tried again, with all its parts; zero: for ever.
func (d *delivery) deadline() time.Time {
	if d.retry.MaxElapsedTime == 0 {
		return time.Time{}
	}
	return time.Now().Add(d.retry.MaxElapsedTime)
}

// deliverUntil tries each part once also after the deadline: only so it is known which events are refused.
func (d *delivery) deliverUntil(deadline time.Time, batch event.Batch) (letters int, err error) {
	attempts, err := d.try(&batch, deadline)
	switch {
	case err == nil:
		return 0, nil
	case d.leaving():
		return 0, errLeaving
	case batch.Len() > 1:
		half := batch.Len() / 2
		first, second := batch, batch
		first.Data, second.Data = batch.Data[:half*batch.Size], batch.Data[half*batch.Size:]
		second.Sequence += uint64(half)
		if letters, err = d.deliverUntil(deadline, first); err != nil {
			return letters, err
		}
		more, err := d.deliverUntil(deadline, second)
		return letters + more, err
	}
	if err := d.deadLetter.put(batch, attempts, err); err != nil {
		return 0, err
	}
	return 1, nil
}

// try hands a batch on, once at least, until it is accepted or refused for good, or a further try would be after deadline.
func (d *delivery) try(batch *event.Batch, deadline time.Time) (attempts int, err error) {
	retry := d.retry
	delays := backoff.ExponentialBackOff{
		InitialInterval: retry.InitialInterval, RandomizationFactor: retry.RandomizationFactor,
		Multiplier: retry.Multiplier, MaxInterval: retry.MaxInterval,
	}
	delays.Reset()
	for {
		clock, err := d.clocks.Get()
		if err == nil {
			attempts++
			err = d.next.ConsumeLogs(d.lifetime, d.encode(*batch, clock))
		}
		batch.Redelivered = true // from now on: a part of it may have got through
		if err == nil || consumererror.IsPermanent(err) || !retry.Enabled {
			return attempts, err
		}
		delay := delays.NextBackOff()
		if !deadline.IsZero() && time.Now().Add(delay).After(deadline) {
			return attempts, err
		}
		d.logger.Debug("the next component refused a batch; it is tried again", zap.Error(err), zap.Duration("delay", delay))
		if err := d.pause(delay); err != nil {
			return attempts, err
		}
	}
}

// leaving reports whether the time for tries is over.
func (d *delivery) leaving() bool {
	return closed(d.leave) || d.lifetime.Err() != nil
}

var errLeaving = errors.New("the component stops")

func (d *delivery) pause(delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-d.leave:
	case <-d.lifetime.Done():
	}
	return errLeaving
}
