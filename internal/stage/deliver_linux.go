package stage

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// deliverLane is the worker of a lane: it hands batches to the next component until the stage stops and the
// lane is empty.
func (s *Stage) deliverLane(lane int) {
	redelivered := s.queue.Pending(lane) // an earlier process may have delivered it, and died before it could say so
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		n, err := s.deliverOne(s.queue, lane, redelivered)
		redelivered = false
		if err != nil {
			return // the stage is out of time; what is in flight stays there
		}
		if n > 0 {
			ring(s.room)
			continue
		}
		select {
		case <-s.stop:
			return
		default:
		}
		timer.Reset(patience)
		select {
		case <-s.filled[lane]:
		case <-timer.C:
		case <-s.stop: // once more, for what came before it
		}
	}
}

// drainOlder delivers what is left in queues of another shape, then removes them.
func (s *Stage) drainOlder(older []*bpf.Queue) {
	defer func() {
		for _, q := range older {
			q.Close()
		}
	}()
	for _, q := range older {
		for lane := range q.Config().Lanes {
			redelivered := q.Pending(lane)
			for {
				n, err := s.deliverOne(q, lane, redelivered)
				if err != nil {
					return
				}
				if n == 0 {
					break
				}
				redelivered = false
			}
		}
		if err := q.Remove(); err != nil {
			s.logger.Error("a drained queue of another shape could not be removed", zap.Error(err))
		}
	}
}

// deliverOne delivers one batch of a lane and says how many events it had; 0 when the lane is empty. It
// fails only when the lifetime ends.
func (s *Stage) deliverOne(queue *bpf.Queue, lane int, redelivered bool) (int, error) {
	if err := s.lifetime.Err(); err != nil {
		return 0, err
	}
	popped, err := queue.Pop(lane, bpf.MaxBatch)
	if err != nil {
		s.logger.Error("queue can't be read", zap.Int("lane", lane), zap.Error(err))
		return 0, err
	}
	batch := event.Batch{
		Source: popped.Source, Sequence: popped.Sequence, Redelivered: redelivered,
		Size: queue.Config().ElementSize, Data: popped.Data,
	}
	if batch.Len() == 0 {
		return 0, nil
	}
	if err := s.deliver(batch); err != nil {
		return 0, err
	}
	queue.Ack(lane)
	return batch.Len(), nil
}

// deliver hands a batch to the next component until that has accepted it. A failure that may pass is
// tried again, with back-off; after one that won't, the batch is divided to find the events that cause it,
// and those go to the dead-letter queue. It fails only when the lifetime ends.
func (s *Stage) deliver(batch event.Batch) error {
	attempts, err := s.try(&batch)
	switch {
	case err == nil:
		return nil
	case s.lifetime.Err() != nil:
		return s.lifetime.Err()
	case batch.Len() > 1:
		half := batch.Len() / 2
		first, second := batch, batch
		first.Data, second.Data = batch.Data[:half*batch.Size], batch.Data[half*batch.Size:]
		second.Sequence += uint64(half)
		return errors.Join(s.deliver(first), s.deliver(second))
	}
	return s.deadLetter.put(batch, attempts, err)
}

// try hands a batch on until it is accepted, refused for good, or has been tried for as long as configured.
func (s *Stage) try(batch *event.Batch) (attempts int, err error) {
	retry := s.settings.Retry
	delays := backoff.ExponentialBackOff{
		InitialInterval: retry.InitialInterval, RandomizationFactor: retry.RandomizationFactor,
		Multiplier: retry.Multiplier, MaxInterval: retry.MaxInterval,
	}
	delays.Reset()
	start := time.Now()
	for {
		clock, err := event.NewClock()
		if err == nil {
			attempts++
			err = s.settings.Next.ConsumeLogs(s.lifetime, event.Encode(s.settings.Encoding, *batch, clock))
		}
		batch.Redelivered = true // from now on: a part of it may have got through
		if err == nil || consumererror.IsPermanent(err) || !retry.Enabled {
			return attempts, err
		}
		delay := delays.NextBackOff()
		if retry.MaxElapsedTime > 0 && time.Since(start)+delay > retry.MaxElapsedTime {
			return attempts, err
		}
		s.logger.Debug("the next component refused a batch; it is tried again", zap.Error(err), zap.Duration("delay", delay))
		if err := pause(s.lifetime, delay); err != nil {
			return attempts, err
		}
	}
}

func pause(ctx context.Context, delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
