package bpfreceiver

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/health"
)

// How a batch that the next component can't take now is tried again: for as long as it takes.
const (
	firstRetry = 10 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// drain reads the ring buffers and delivers what it finds, batch by batch and in order. A batch is committed
// when the next component has accepted it, or has refused it for good.
type drain struct {
	config *Config
	probes *bpf.Probes
	next   consumer.Logs
	logger *zap.Logger
	status func(*componentstatus.Event)

	stopped  chan struct{}   // closed: end when the ring buffer is empty, or at once if the probes are kept
	deliver  context.Context // ended: give up
	giveUp   context.CancelFunc
	finished chan struct{}

	clocks  event.Clocks
	packed  []byte
	refused health.Limit
	damaged *health.Recent // what of the ring buffers can't be trusted
}

func (d *drain) start() {
	d.stopped, d.finished = make(chan struct{}), make(chan struct{})
	d.deliver, d.giveUp = context.WithCancel(context.Background())
	go func() {
		defer close(d.finished)
		if err := d.run(); err != nil && d.deliver.Err() == nil {
			d.logger.Error("Stopped reading the ring buffer", zap.Error(err))
			d.status(componentstatus.NewPermanentErrorEvent(err))
		}
	}()
}

// stop ends the goroutine and waits for it. At the end of ctx it gives up what is not delivered by then.
func (d *drain) stop(ctx context.Context) {
	defer context.AfterFunc(ctx, d.giveUp)()
	close(d.stopped)
	d.probes.Ring().Wake()
	<-d.finished
	d.giveUp()
}

func (d *drain) stopping() bool {
	select {
	case <-d.stopped:
		return true
	default:
		return false
	}
}

// run returns when it is told to stop, and nil then.
func (d *drain) run() error {
	for {
		stopping := d.stopping() // before the read: nothing comes after it then
		if d.deliver.Err() != nil || stopping && d.config.KeepOnShutdown {
			return nil
		}
		ring := d.probes.OlderRing()
		older := ring != nil
		if !older {
			ring = d.probes.Ring()
		}
		batch := ring.Read(bpf.MaxBatch)
		if len(batch.Records) > 0 && !d.settle(ring, batch) {
			return nil
		}
		var err error
		switch full := len(batch.Records) == bpf.MaxBatch; {
		case full || stopping && len(batch.Records) > 0:
		case older && len(batch.Records) == 0:
			err = d.noteDamage(d.probes.DropOlderRing())
		case older:
		case stopping:
			return nil
		default:
			err = ring.Wait(d.config.PollInterval)
		}
		if err != nil {
			return err
		}
	}
}

// noteDamage logs damage and has it in the status for a while, and returns any other error.
func (d *drain) noteDamage(err error) error {
	if !errors.As(err, new(*bpf.DamageError)) {
		return err
	}
	d.logger.Error("Pinned state can't be trusted. What it holds is left out, and all else goes on", zap.Error(err))
	d.damaged.Note(time.Now(), err)
	return nil
}

// settle delivers a batch, as often as it takes, and commits it. False: it was told to give up.
func (d *drain) settle(ring *bpf.Ring, batch bpf.RingBatch) bool {
	failing := false
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		redelivered := ring.HandOn() > 0
		err := d.consume(ring.ID(), batch, redelivered)
		switch {
		case err == nil:
			if failing {
				d.status(componentstatus.NewEvent(componentstatus.StatusOK))
			}
			ring.Commit()
			return true
		case consumererror.IsPermanent(err):
			if refused := d.refused.Add(time.Now(), len(batch.Records)); refused > 0 {
				d.logger.Error("The next component refused events for good, so they are dropped",
					zap.Uint64("events", refused), zap.String("last_error", event.Escape(err.Error())))
			}
			ring.Refuse()
			return true
		}
		if !failing {
			failing = true
			d.logger.Warn("The next component does not take events. They wait in the kernel and are tried again", zap.Error(err))
			d.status(componentstatus.NewRecoverableErrorEvent(err))
		}
		if !d.sleep(wait) {
			return false
		}
	}
}

// sleep returns false if it was told to give up.
func (d *drain) sleep(wait time.Duration) bool {
	var leave <-chan struct{}
	if d.config.KeepOnShutdown {
		leave = d.stopped
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-leave:
		return false
	case <-d.deliver.Done():
		return false
	}
}

func (d *drain) consume(source uint64, batch bpf.RingBatch, redelivered bool) error {
	logs, err := d.encode(source, batch, redelivered)
	if err != nil {
		return err
	}
	return d.next.ConsumeLogs(d.deliver, logs)
}

// encode copies the batch out of the ring buffer.
func (d *drain) encode(source uint64, batch bpf.RingBatch, redelivered bool) (plog.Logs, error) {
	if d.config.Encoding == event.EncodingFrames {
		return event.EncodeFrame(source, batch.Sequence, redelivered, event.Size, batch.Records), nil
	}
	clock, err := d.clocks.Get()
	if err != nil {
		return plog.Logs{}, err
	}
	d.packed = d.packed[:0]
	for _, record := range batch.Records {
		d.packed = append(d.packed, record...)
	}
	return event.Encode(event.EncodingRecords, event.Batch{
		Source: source, Sequence: batch.Sequence, Redelivered: redelivered, Size: event.Size, Data: d.packed,
	}, clock), nil
}
