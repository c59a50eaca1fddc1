package stage

import (
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// deadLetter keeps the events that could not be delivered, each with the reason, in a pinned queue.
type deadLetter struct {
	mu     sync.Mutex
	queue  *bpf.Queue
	onFull bpf.OnFull
	stage  string
	logger *zap.Logger
}

func openDeadLetter(dir *bpf.Directory, settings Settings) (*deadLetter, error) {
	queue, older, err := bpf.OpenQueue(dir, "dead_letter", bpf.QueueConfig{ElementSize: event.DeadLetterSize, Capacity: settings.DeadLetter.Capacity, Lanes: 1})
	if err != nil {
		return nil, fmt.Errorf("dead letter: %w", err)
	}
	d := &deadLetter{queue: queue, stage: settings.Name, logger: settings.Telemetry.Logger, onFull: bpf.DropOldest}
	if settings.DeadLetter.OnFull == DropNewest {
		d.onFull = bpf.DropNewest
	}
	for _, q := range older {
		if err := d.move(q); err != nil {
			d.close()
			return nil, fmt.Errorf("dead letter of another capacity: %w", err)
		}
	}
	return d, nil
}

// move takes over the letters of a queue of another capacity and removes it.
func (d *deadLetter) move(from *bpf.Queue) error {
	defer from.Close()
	for {
		popped, err := from.Pop(0, bpf.MaxBatch)
		if err != nil {
			return err
		}
		n := len(popped.Data) / event.DeadLetterSize
		if n == 0 {
			return from.Remove()
		}
		for i := range n {
			copy(d.queue.Outgoing(i), popped.Data[i*event.DeadLetterSize:])
			d.queue.SetVerdict(i, 0)
		}
		if _, err := d.queue.Push(0, n, 0, 0, d.onFull); err != nil {
			return err
		}
		from.Ack(0)
	}
}

// put keeps the one event of a batch. An event that an earlier, killed attempt has kept already is not kept again.
func (d *deadLetter) put(batch event.Batch, attempts int, reason error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queue.Settled(batch.Source, batch.Sequence, 1) > 0 {
		return nil
	}
	d.logger.Warn("event can't be delivered and goes to the dead-letter queue", zap.Error(reason), zap.Int("attempts", attempts))
	event.PutDeadLetter(d.queue.Outgoing(0), batch, d.stage, attempts, reason.Error())
	d.queue.SetVerdict(0, 0)
	if _, err := d.queue.Push(0, 1, batch.Source, batch.Sequence, d.onFull); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	return nil
}

func (d *deadLetter) close() { d.queue.Close() }
