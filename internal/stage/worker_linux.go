package stage

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// deliverLane is the worker of a lane: it hands batches to the next component until the stage stops and the
// lane is empty.
func (s *Stage) deliverLane(lane int) {
	redelivered := s.queue.Pending(lane) // an earlier process may have delivered it, and died before it could say so
	untilStopped(s.stop, s.filled[lane], func() (bool, error) {
		n, err := s.deliverOne(s.queue, lane, redelivered) // on an error, what is in flight stays there
		redelivered = false
		if n > 0 {
			ring(s.room)
		}
		return n > 0, err
	})
}

// untilStopped calls turn, which says whether there was something to do: again at once if so, else when bell rings or
// patience ends. It returns on an error, and when stop was closed before a turn that found nothing.
func untilStopped(stop <-chan struct{}, bell <-chan struct{}, turn func() (bool, error)) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for idle := patience; ; {
		stopping := closed(stop) // before the turn: what comes in after it would stay behind
		busy, err := turn()
		switch {
		case err != nil, stopping && !busy:
			return
		case busy:
			idle = patience
			continue
		}
		timer.Reset(idle)
		select {
		case <-bell:
		case <-timer.C:
			idle = min(2*idle, longestPatience)
		case <-stop: // once more, for what came before it
		}
	}
}

// drainOlder delivers what is left in queues of another shape, then removes them.
func (s *Stage) drainOlder(older []*bpf.Queue) {
	for _, q := range older {
		if !s.drainOne(q) {
			return
		}
	}
}

// drainOne says whether there was the time for it.
func (s *Stage) drainOne(q *bpf.Queue) bool {
	for lane := range q.Config().Lanes {
		for redelivered := q.Pending(lane); ; redelivered = false {
			n, err := s.deliverOne(q, lane, redelivered)
			if err != nil {
				return false
			}
			if n == 0 {
				break
			}
		}
	}
	if err := q.Remove(); err != nil {
		s.logger.Error("a drained queue of another shape could not be removed", zap.Error(err))
	}
	s.forget(q)
	return true
}

// deliverOne delivers one batch of a lane and says how many events it had; 0 when the lane is empty. It
// fails only when the lifetime ends.
func (s *Stage) deliverOne(queue *bpf.Queue, lane int, redelivered bool) (int, error) {
	if err := s.delivery.lifetime.Err(); err != nil {
		return 0, err
	}
	popped, err := queue.Pop(lane, bpf.MaxBatch)
	if err != nil {
		s.broken[lane].Store(true)
		s.breaks.Add(1)
		s.fail(fmt.Errorf("read lane %d of the queue: %w", lane, err))
		return 0, err
	}
	batch := event.Batch{
		Source: popped.Source, Sequence: popped.Sequence, Redelivered: redelivered,
		Size: queue.Config().ElementSize, Data: popped.Data,
	}
	if batch.Len() == 0 {
		return 0, nil
	}
	letters := 0
	err = s.runs(batch, func(run event.Batch) error {
		more, err := s.delivery.deliver(run)
		letters += more
		return err
	})
	if err != nil {
		s.fail(err)
		return 0, err
	}
	s.deadLetter.acknowledge(queue, lane, letters)
	return batch.Len(), nil
}

// runs shows a batch, in parts where something between is no event: our programs push only events, others may push anything.
func (s *Stage) runs(batch event.Batch, visit func(event.Batch) error) error {
	first := 0
	flush := func(end int) error {
		run := batch
		run.Sequence += uint64(first)
		if run.Data = batch.Data[first*batch.Size : end*batch.Size]; len(run.Data) == 0 {
			return nil
		}
		return visit(run)
	}
	for i := range batch.Len() {
		invalid := batch.At(i).Validate()
		if invalid == nil {
			continue
		}
		if err := flush(i); err != nil {
			return err
		}
		first = i + 1
		s.invalid.Note(time.Now(), fmt.Errorf("an element of the queue is no event, and goes no further: %w", invalid))
		s.telemetry.KernelpipeStageInvalid.Add(context.Background(), 1, metric.WithAttributes(attribute.String("stage", s.settings.Name)))
	}
	return flush(batch.Len())
}

// fail reports what ends a worker, unless it is the end of the stage.
func (s *Stage) fail(err error) {
	if s.delivery.lifetime.Err() == nil {
		s.logger.Error("delivery has stopped", zap.Error(err))
		componentstatus.ReportStatus(s.host, componentstatus.NewPermanentErrorEvent(fmt.Errorf("%s: %w", s.settings.Name, err)))
	}
}
