package stage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// ConsumeLogs does the stage's work on every event in logs and pushes the results. It returns when all
// are in the queue, or dropped and counted as the configuration says. On an error some may be in the queue;
// handed in again as redelivered frames they are recognised. Log records that hold no events are counted. Outside of
// Start and Shutdown it takes nothing and returns an error.
func (s *Stage) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	if err := s.enter(ctx); err != nil { // also logs without events are not for a stage that does not run
		return err
	}
	s.leave()
	return event.Decode(logs,
		func(batch event.Batch) error { return s.enqueue(ctx, batch) },
		func(_ plog.LogRecord, err error) { s.refuse(ctx, err) })
}

func (s *Stage) refuse(ctx context.Context, err error) {
	if s.enter(ctx) != nil {
		return // it is not running, and so has not taken it
	}
	defer s.leave()
	s.logger.Debug("log record passed over", zap.Error(err))
	s.foreign.Add(1)
	s.telemetry.KernelpipeStageForeign.Add(ctx, 1, metric.WithAttributes(
		attribute.String("reason", string(event.ReasonOf(err))), attribute.String("stage", s.settings.Name)))
}

var errNotRunning = errors.New("the component is not running, so it takes no events")

// enter waits until nobody else pushes. While one has entered, what the stage has open stays open.
func (s *Stage) enter(ctx context.Context) error {
	select {
	case s.pushing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !s.open {
		s.leave()
		return errNotRunning
	}
	return nil
}

func (s *Stage) leave() { <-s.pushing }

// openUp lets events in.
func (s *Stage) openUp() {
	s.closing = make(chan struct{})
	s.pushing <- struct{}{}
	s.open = true
	s.leave()
}

// shut lets no more events in, and sends away who waits for room.
func (s *Stage) shut() {
	close(s.closing)
	s.pushing <- struct{}{}
	s.open = false
	s.leave()
}

// enqueue pushes one batch, in chunks of what one program run moves.
func (s *Stage) enqueue(ctx context.Context, batch event.Batch) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	for start := 0; start < batch.Len(); start += bpf.MaxBatch {
		end := min(start+bpf.MaxBatch, batch.Len())
		chunk := batch
		chunk.Data = batch.Data[start*batch.Size : end*batch.Size]
		chunk.Sequence += uint64(start)
		if err := s.enqueueChunk(ctx, chunk); err != nil {
			if errors.Is(err, bpf.ErrSources) {
				s.refused.Note(time.Now(), err)
				s.telemetry.KernelpipeStageSourcesRefused.Add(ctx, 1, metric.WithAttributes(attribute.String("stage", s.settings.Name)))
			}
			return err
		}
	}
	return nil
}

func (s *Stage) enqueueChunk(ctx context.Context, chunk event.Batch) error {
	if prepare := s.settings.Prepare; prepare != nil {
		if err := prepare(chunk); err != nil {
			return err
		}
	}
	n := chunk.Len()
	settled := 0
	if chunk.Redelivered {
		var err error
		if settled, err = s.queue.Settled(chunk.Source, chunk.Sequence, n); err != nil {
			return err
		}
	}
	for i := range settled {
		s.queue.Skip(i)
	}
	for i := settled; i < n; i++ {
		out := s.queue.Outgoing(i)
		if !s.settings.Work(chunk, i, out) {
			s.queue.SetVerdict(i, bpf.Filtered)
			continue
		}
		lane, err := s.workingLane(chunk, i)
		if err != nil {
			return err
		}
		s.queue.SetLane(i, bpf.Verdict(lane), s.limit(out))
	}
	return s.push(ctx, chunk, n)
}

// push settles the n entries that are prepared, waiting for room where the configuration says so.
func (s *Stage) push(ctx context.Context, chunk event.Batch, n int) error {
	onFull := map[OnFull]bpf.OnFull{Block: bpf.Block, DropNewest: bpf.DropNewest, DropOldest: bpf.DropOldest, DropLowPriority: bpf.DropNewest}[s.settings.Queue.OnFull]
	breaks := s.breaks.Load()
	var deadline time.Time
	wait := s.patience()
	for first := 0; ; {
		settled, err := s.queue.Push(first, n, chunk.Source, chunk.Sequence, onFull)
		if err != nil {
			return fmt.Errorf("push to queue: %w", err)
		}
		if settled > first {
			deadline, wait = time.Time{}, s.patience()
			for _, bell := range s.filled {
				ring(bell)
			}
		}
		if first = settled; first == n {
			return nil
		}
		if timeout := s.settings.Queue.BlockTimeout; timeout > 0 {
			if deadline.IsZero() {
				deadline = time.Now().Add(timeout)
			} else if !time.Now().Before(deadline) {
				onFull = bpf.DropNewest
				continue
			}
		}
		if err := s.waitForRoom(ctx, wait, deadline); err != nil {
			return err
		}
		if s.breaks.Load() != breaks {
			return errBroken // it may be the lane that has no room: tried again, the rest goes to another
		}
		wait = min(2*wait, patience)
	}
}

// patience is short at first where no worker of this process rings the bell.
func (s *Stage) patience() time.Duration {
	if s.settings.Next == nil {
		return shortestPatience
	}
	return patience
}

func (s *Stage) waitForRoom(ctx context.Context, wait time.Duration, deadline time.Time) error {
	if !deadline.IsZero() {
		wait = min(wait, max(time.Until(deadline), 0))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-s.room:
	case <-timer.C:
	case <-s.closing:
		return errNotRunning
	case <-ctx.Done():
		return fmt.Errorf("queue is full: %w", ctx.Err())
	}
	return nil
}
