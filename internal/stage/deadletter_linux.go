package stage

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/health"
)

// deadLetter keeps the events that could not be delivered, each with the reason, in a pinned queue.
type deadLetter struct {
	mu      sync.Mutex
	pending uint64 // letters whose batch is still in flight, where it is counted as well
	queue   *bpf.Queue
	onFull  bpf.OnFull
	stage   string
	logger  *zap.Logger

	logged health.Limit
}

func openDeadLetter(dir *bpf.Directory, stage string, config DeadLetterConfig, logger *zap.Logger) (*deadLetter, error) {
	queue, older, err := bpf.OpenQueue(dir, DeadLetterQueue, bpf.QueueConfig{ElementSize: event.DeadLetterSize, Capacity: config.Capacity, Lanes: 1})
	if err != nil {
		return nil, fmt.Errorf("dead letter: %w", err)
	}
	d := &deadLetter{queue: queue, stage: stage, logger: logger, onFull: bpf.DropOldest}
	if config.OnFull == DropNewest {
		d.onFull = bpf.DropNewest
	}
	for _, q := range older {
		if err := removeEmpty(q); err != nil {
			d.logger.Warn("dead letters of another capacity stay where they are until they are replayed", zap.Error(err))
		}
		q.Close()
	}
	return d, nil
}

// removeEmpty removes a queue of another capacity that has no letters. One that has is left to who replays them,
// as is one that is replayed at this moment.
func removeEmpty(q *bpf.Queue) error {
	switch err := q.Claim(); {
	case errors.Is(err, bpf.ErrClaimed):
		return nil
	case err != nil:
		return err
	}
	defer q.Disclaim()
	if empty, err := q.Empty(); err != nil || !empty {
		return err
	}
	return q.Remove()
}

// settled returns how many of the first events of a batch an earlier, interrupted attempt has settled, up to the last one
// that it has kept here: a lane is dealt with in order, so those before it were delivered or kept as well.
func (d *deadLetter) settled(batch event.Batch) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queue.Settled(batch.Source, batch.Sequence, batch.Len())
}

// put keeps the one event of a batch.
func (d *deadLetter) put(batch event.Batch, attempts int, reason error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending++
	d.log(attempts, reason)
	// That it is for good goes without saying, and there is room for a short text only.
	text := strings.TrimPrefix(reason.Error(), "Permanent error: ")
	event.PutDeadLetter(d.queue.Outgoing(0), batch, d.stage, attempts, text)
	d.queue.SetVerdict(0, 0)
	if _, err := d.queue.Push(0, 1, batch.Source, batch.Sequence, d.onFull); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	return nil
}

func (d *deadLetter) log(attempts int, reason error) {
	if letters := d.logged.Add(time.Now(), 1); letters > 0 {
		d.logger.Warn("events can't be delivered and go to the dead-letter queue",
			zap.Uint64("events", letters), zap.String("last_error", event.Escape(reason.Error())), zap.Int("attempts", attempts))
	}
}

// acknowledge settles a batch of a lane, of which letters events came here.
func (d *deadLetter) acknowledge(queue interface{ Ack(lane int) }, lane, letters int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	queue.Ack(lane)
	d.pending -= uint64(letters)
}

// close removes the queue if it never had a letter and no earlier process made it.
func (d *deadLetter) close() error {
	defer d.queue.Close()
	if d.queue.Books() != (bpf.QueueBooks{}) {
		return nil
	}
	return d.queue.Abandon()
}
