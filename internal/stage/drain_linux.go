package stage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/health"
	"github.com/kernelpipe/kernelpipe/internal/stage/internal/metadata"
)

// DrainSettings are what a receiver makes a Drain from.
type DrainSettings struct {
	// Name is the receiver's, such as "receiver/bpf".
	Name string
	// Telemetry is the receiver's.
	Telemetry component.TelemetrySettings
	// PinPath, Owner and Queue say which queue to drain: the one called Queue of the component called Owner.
	PinPath, Owner, Queue string
	// Peek delivers copies of what is in the queue, once, and leaves it all there.
	Peek bool
	// DeadLetter is for what Next refuses.
	DeadLetter DeadLetterConfig
	// Health says what to report as the receiver's status; its zero value: nothing.
	Health HealthConfig
	Retry  configretry.BackOffConfig
	// Encoding is how events go to Next.
	Encoding event.Encoding
	// Next is the next component.
	Next consumer.Logs
}

// Drain takes the events out of a pinned queue of another component and delivers them. It waits for a queue that
// is not there yet, and follows one whose owner is started with another shape.
type Drain struct {
	settings   DrainSettings
	logger     *zap.Logger
	host       component.Host
	delivery   delivery
	deadLetter *deadLetter // nil: it only peeks
	telemetry  *metadata.TelemetryBuilder

	mu       sync.Mutex // for the telemetry, which asks at any time
	consumer *bpf.Consumer

	popped  bpf.InFlight // what is delivered at the moment
	packed  []byte
	shown   [bpf.MaxLanes]int // by lane: how much of what is in flight a Peek has shown
	abandon context.CancelFunc
	stop    chan struct{} // nil: it does not run
	worker  sync.WaitGroup
	ended   chan struct{} // closed: the watch over its losses ends
	watch   sync.WaitGroup
	invalid atomic.Uint64 // elements that hold no events
	damaged health.Recent // what of the pinned state was missing or wrong when it was opened
}

// NewDrain makes a Drain. It touches nothing before Start.
func NewDrain(settings DrainSettings) *Drain {
	return &Drain{settings: settings, logger: settings.Telemetry.Logger}
}

// How long the drain of an empty queue, or of one that is not there, waits before it looks again.
const (
	shortestIdle = 2 * time.Millisecond
	longestIdle  = 500 * time.Millisecond
)

// Start begins to deliver. dir is the receiver's own directory, for its dead letters. It fails where another
// process drains the queue, and where the queue is of another format.
// It has two statuses: whether the queue can be drained, and, for the host called losses, whether something is lost.
func (d *Drain) Start(host, losses component.Host, dir *bpf.Directory) error {
	d.host = host
	if err := d.open(dir); err != nil {
		return errors.Join(fmt.Errorf("queue %s: %w", d.name(), err), d.close())
	}
	lifetime, abandon := context.WithCancel(context.Background())
	d.abandon, d.stop = abandon, make(chan struct{})
	d.delivery = delivery{
		next: d.settings.Next, encode: d.encode, retry: d.settings.Retry, deadLetter: d.deadLetter, logger: d.logger,
		clocks: &event.Clocks{}, lifetime: lifetime, leave: d.stop,
	}
	d.worker.Go(d.run)
	d.watchHealth(losses)
	return nil
}

func (d *Drain) open(dir *bpf.Directory) error {
	err := d.claim()
	switch {
	case errors.Is(err, bpf.ErrNoQueue):
		d.logger.Info("there is no such queue yet; it is waited for", zap.String("queue", d.name()))
	case err != nil:
		return err
	}
	if !d.settings.Peek {
		if d.deadLetter, err = openDeadLetter(dir, d.settings.Name, d.settings.DeadLetter, d.logger); err != nil {
			return err
		}
	}
	return d.observe()
}

// claim opens the queue.
func (d *Drain) claim() error {
	consumer, err := bpf.OpenConsumer(d.settings.PinPath, d.settings.Owner, d.settings.Queue)
	if err != nil {
		return err
	}
	switch size := consumer.ElementSize(); size {
	case event.Size, event.EnrichedSize, event.DeadLetterSize:
	default:
		consumer.Close()
		return fmt.Errorf("its elements have %d bytes, which are no events", size)
	}
	d.inspect(consumer)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.consumer = consumer
	return nil
}

// inspect notes what is missing of the queue that the consumer has come to.
func (d *Drain) inspect(consumer *bpf.Consumer) {
	noteDamage(&d.damaged, d.logger, append(consumer.Damage(), consumer.Reconcile())...)
}

// name is the queue's, for people.
func (d *Drain) name() string {
	if d.settings.Queue == Queue {
		return d.settings.Owner
	}
	return d.settings.Owner + "/" + d.settings.Queue
}

// Shutdown lets the delivery that is on its way end, and stops. What is in the queue stays there, as does what
// is in flight when ctx ends first.
func (d *Drain) Shutdown(ctx context.Context) error {
	if d.stop == nil {
		return d.close()
	}
	defer context.AfterFunc(ctx, d.abandon)()
	close(d.stop)
	d.worker.Wait()
	d.abandon()
	close(d.ended)
	d.watch.Wait()
	d.stop = nil
	return d.close()
}

func (d *Drain) close() error {
	if d.telemetry != nil {
		d.telemetry.Shutdown()
		d.telemetry = nil
	}
	var err error
	if d.deadLetter != nil {
		err = d.deadLetter.close()
		d.deadLetter = nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release()
	return err
}

// run delivers until it is told to stop.
func (d *Drain) run() {
	failing := false
	for idle := shortestIdle; ; {
		moved, err := d.round()
		switch {
		case d.delivery.leaving():
			return
		case err != nil && !failing:
			failing = true
			d.logger.Error("queue can't be drained; it is tried again", zap.String("queue", d.name()), zap.Error(err))
			componentstatus.ReportStatus(d.host, componentstatus.NewRecoverableErrorEvent(fmt.Errorf("queue %s: %w", d.name(), err)))
		case err == nil && failing:
			failing = false
			componentstatus.ReportStatus(d.host, componentstatus.NewEvent(componentstatus.StatusOK))
		}
		switch {
		case moved && !d.settings.Peek:
			idle = shortestIdle
			continue
		case moved && err == nil:
			<-d.stop // once is enough
			return
		}
		if d.delivery.pause(idle) != nil {
			return
		}
		idle = min(2*idle, longestIdle)
	}
}

// round goes once through all lanes, and says whether there was anything. A lane that is damaged does not keep it from the others.
func (d *Drain) round() (moved bool, err error) {
	if d.consumer == nil {
		if err := d.claim(); errors.Is(err, bpf.ErrNoQueue) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	var damage []error
	for lane := range d.consumer.Lanes() {
		n, err := d.deliverLane(lane)
		switch {
		case errors.As(err, new(*bpf.DamageError)):
			damage = append(damage, err)
		case err != nil:
			return moved, err
		}
		moved = moved || n > 0
	}
	if !moved && !d.settings.Peek {
		moved, err = d.follow()
	}
	return moved, errors.Join(append(damage, err)...)
}

// follow goes on to the next queue of the owner, if there is one.
func (d *Drain) follow() (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	moved, err := d.consumer.Follow()
	if errors.Is(err, bpf.ErrNoQueue) { // removed by someone; there may be another one later
		d.logger.Warn("the queue was removed; it is waited for", zap.String("queue", d.name()))
		d.release()
		return false, nil
	}
	if moved {
		d.inspect(d.consumer)
	}
	return moved, err
}

// release gives the queue up; d.mu is held.
func (d *Drain) release() {
	if d.consumer != nil {
		d.consumer.Close()
		d.consumer = nil
	}
}

// deliverLane delivers one batch of a lane and says how many elements it had.
func (d *Drain) deliverLane(lane int) (int, error) {
	redelivered := d.consumer.Pending(lane) // an earlier process may have delivered it, and died before it could say so
	var err error
	if d.popped, err = d.consumer.Pop(lane, bpf.MaxBatch); err != nil {
		return 0, err
	}
	size := d.consumer.ElementSize()
	letters, shown := 0, d.shown[lane]
	err = d.batches(size, func(batch event.Batch) error {
		if d.settings.Peek {
			return d.show(lane, batch)
		}
		batch.Redelivered = redelivered
		more, err := d.delivery.deliver(batch)
		letters += more
		return err
	})
	if err != nil {
		return 0, err
	}
	n := len(d.popped.Data) / size
	switch {
	case !d.settings.Peek && n > 0:
		d.deadLetter.acknowledge(d.consumer, lane, letters)
	case d.shown[lane] > shown:
		d.logger.Info("delivered copies; the events stay in the queue", zap.String("queue", d.name()), zap.Int("lane", lane), zap.Int("events", n))
	}
	return n, nil
}

// show delivers copies, but not those that it has delivered before a failure.
func (d *Drain) show(lane int, batch event.Batch) error {
	first := int(batch.Sequence - d.popped.Sequence)
	if first < d.shown[lane] {
		return nil
	}
	batch.Source, batch.Sequence = 0, uint64(first) // what follows is not to take it for delivered
	if _, err := d.delivery.try(&batch, d.delivery.deadline()); err != nil {
		return fmt.Errorf("the next component refused copies: %w", err)
	}
	d.shown[lane] = first + batch.Len()
	return nil
}

// batches shows what was popped in runs of events that have one size and numbers without a gap.
func (d *Drain) batches(size int, visit func(event.Batch) error) error {
	run := event.Batch{Source: d.popped.Source}
	flush := func() error {
		if run.Data = d.packed; len(run.Data) == 0 {
			return nil
		}
		d.packed = d.packed[:0]
		return visit(run)
	}
	for i := range len(d.popped.Data) / size {
		e, err := eventIn(d.popped.Data[i*size : (i+1)*size])
		if err != nil || len(e) != run.Size || len(d.packed) == 0 {
			if err := flush(); err != nil {
				return err
			}
			run.Size, run.Sequence = len(e), d.popped.Sequence+uint64(i)
		}
		if err != nil {
			d.refuse(err)
			continue
		}
		d.packed = append(d.packed, e...)
	}
	return flush()
}

// eventIn returns the event in an element of a queue.
func eventIn(element []byte) ([]byte, error) {
	size := len(element)
	switch size {
	case event.DeadLetterSize:
		letters, err := event.ViewDeadLetters(element)
		if err != nil {
			return nil, err
		}
		if size = int(letters[0].EventSize); size != event.Size && size != event.EnrichedSize {
			return nil, fmt.Errorf("dead letter with an event of %d bytes", size)
		}
	case event.EnrichedSize:
		enriched, err := event.ViewEnriched(element)
		if err != nil {
			return nil, err
		}
		if enriched[0].Context == (event.Context{}) { // bpf_queue makes it so
			size = event.Size
		}
	}
	return element[:size], event.Batch{Size: size, Data: element[:size]}.At(0).Validate()
}

// encode says with records what a dead letter knows beyond its event. A frame has no room for it.
func (d *Drain) encode(batch event.Batch, clock event.Clock) plog.Logs {
	logs := event.Encode(d.settings.Encoding, batch, clock)
	if d.settings.Encoding != event.EncodingRecords || d.consumer.ElementSize() != event.DeadLetterSize {
		return logs
	}
	letters, err := event.ViewDeadLetters(d.popped.Data)
	if err != nil {
		return logs
	}
	at := batch.Sequence
	if !d.settings.Peek {
		at -= d.popped.Sequence
	}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				letter := &letters[at]
				record.Attributes().PutStr("kernelpipe.dead_letter.stage", event.Escape(event.Text(letter.Stage[:])))
				record.Attributes().PutStr("kernelpipe.dead_letter.reason", event.Escape(event.Text(letter.Reason[:])))
				record.Attributes().PutInt("kernelpipe.dead_letter.attempts", int64(letter.Attempts))
				record.Attributes().PutStr("kernelpipe.dead_letter.time", clock.Unix(letter.Time).AsTime().Format(time.RFC3339Nano))
				at++
			}
		}
	}
	return logs
}
