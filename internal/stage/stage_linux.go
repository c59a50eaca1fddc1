package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/health"
	"github.com/kernelpipe/kernelpipe/internal/stage/internal/metadata"
)

// Work looks at event i of a batch. It writes what is to go into the queue to out, which has the size of
// the stage's elements and may hold anything before, and returns true; or it returns false, and the event is
// filtered out. It is called for one event at a time.
type Work func(batch event.Batch, i int, out []byte) bool

// Prepare looks at a batch of at most bpf.MaxBatch events before Work is called for those in it that are new.
// Its error refuses the batch as it is: no event of it is counted or queued, and ConsumeLogs returns it.
type Prepare func(batch event.Batch) error

// Settings are what a component makes its stage from.
type Settings struct {
	// Name is unique among the stages that share a PinPath, such as "processor/bpf_filter".
	Name string
	// Telemetry is the component's.
	Telemetry component.TelemetrySettings
	// PinPath is where state is kept across restarts; empty: nowhere.
	PinPath string
	// ElementSize is the size of the events in the queue: event.Size or event.EnrichedSize.
	ElementSize int
	Queue       QueueConfig
	// DeadLetter is for what Next refuses; without a Next there is none.
	DeadLetter DeadLetterConfig
	// Health says what depth and losses to report as the component's status; its zero value: none.
	Health HealthConfig
	Retry  configretry.BackOffConfig
	// ShutdownTimeout is how long Shutdown may take to drain the queue into Next; 0: as long as its context lasts.
	ShutdownTimeout time.Duration
	// Encoding is how events go to Next.
	Encoding event.Encoding
	// Next is the next component; nil: none, and then the events stay in the queue for another process.
	Next consumer.Logs
	// Prepare is called for each batch before Work; nil: there is nothing to prepare.
	Prepare Prepare
	// CheckPins reports whether what else the component has pinned is there still; nil: it has nothing else.
	CheckPins func() error
	// Work is done on each event on its way into the queue.
	Work Work
}

// Stage is a queue in the kernel with work before it and workers behind it.
type Stage struct {
	settings Settings
	logger   *zap.Logger
	host     component.Host // which is told of the stage's status

	dir        *bpf.Directory
	queue      *bpf.Queue
	deadLetter *deadLetter // nil: none
	telemetry  *metadata.TelemetryBuilder

	pushing chan struct{} // holds a token while someone pushes, or changes the next one
	open    bool          // events are let in
	closing chan struct{} // closed: who waits for room goes away
	dealt   uint64        // events dealt out whose number is not known, for RoundRobin
	filled  []chan struct{}
	room    chan struct{}

	refused health.Recent             // batches of sources that there is no room for
	invalid health.Recent             // elements of the queue that are no events
	damaged health.Recent             // what of the pinned state was missing or wrong at the start
	breaks  atomic.Int32              // how often a lane became one of broken
	broken  [bpf.MaxLanes]atomic.Bool // lanes that can't be delivered
	losses  []health.Counter
	foreign atomic.Uint64 // log records that hold no events

	mu    sync.Mutex
	older []*bpf.Queue // of another shape, not yet drained

	running  bool
	delivery delivery
	abandon  context.CancelFunc
	stop     chan struct{} // closed: end when the queue is empty
	workers  sync.WaitGroup
	ended    chan struct{} // closed: the watch over the stage's health ends
	watch    sync.WaitGroup
}

// New makes a stage. It touches nothing before Start.
func New(settings Settings) *Stage {
	return &Stage{settings: settings, logger: settings.Telemetry.Logger, pushing: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// Watch adds to what is judged by Health from the next Start on: what else the component loses.
func (s *Stage) Watch(losses ...health.Counter) { s.losses = losses }

// Start opens the queue, adopting what an earlier process left in it, and starts the workers. It fails when
// the kernel or the process lacks what is needed, when another process has the stage, and when what is
// pinned is of another format.
func (s *Stage) Start(_ context.Context, host component.Host) error {
	s.host = host
	if err := s.begin(); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", s.settings.Name, err), s.abandonQueue(), s.close())
	}
	s.watchHealth()
	s.openUp()
	return nil
}

func (s *Stage) begin() error {
	if err := bpf.CheckRequirements(); err != nil {
		return err
	}
	var err error
	if s.dir, err = bpf.OpenDirectory(s.settings.PinPath, s.settings.Name); err != nil {
		return err
	}
	if s.queue, s.older, err = bpf.OpenQueue(s.dir, Queue, bpf.QueueConfig{
		ElementSize: s.settings.ElementSize,
		Capacity:    s.settings.Queue.Capacity,
		Lanes:       s.settings.Queue.Lanes,
	}); err != nil {
		return err
	}
	for i := range s.broken {
		s.broken[i].Store(false)
	}
	damage := s.queue.Damage()
	defer func() { noteDamage(&s.damaged, s.logger, damage...) }() // also where the start fails: what was missing is made anew
	if s.settings.Next == nil {                                    // what is in there is left to the process that drains it
		s.closeOlder()
		_ = s.checkLanes() // the watch reports it
	} else {
		if err := s.queue.Claim(); err != nil {
			return err
		}
		damage = append(damage, s.queue.Reconcile(s.older))
		if s.deadLetter, err = openDeadLetter(s.dir, s.settings.Name, s.settings.DeadLetter, s.logger); err != nil {
			return err
		}
	}
	if err := s.observe(); err != nil {
		return err
	}
	if books := s.queue.Books(); books.Queued+books.InFlight > 0 {
		s.logger.Info("adopted events of an earlier process", zap.Uint64("queued", books.Queued), zap.Uint64("in_flight", books.InFlight))
	}
	s.startWorkers()
	return nil
}

// noteDamage logs what of the pinned state was found missing or wrong, and has it in the status for a while. All else goes on.
func noteDamage(damaged *health.Recent, logger *zap.Logger, damage ...error) {
	if err := errors.Join(damage...); err != nil {
		logger.Error("pinned state is damaged", zap.Error(err))
		damaged.Note(time.Now(), err)
	}
}

func (s *Stage) startWorkers() {
	s.running = true
	s.stop = make(chan struct{})
	lifetime, abandon := context.WithCancel(context.Background())
	s.abandon = abandon
	s.delivery = delivery{
		next: s.settings.Next, retry: s.settings.Retry, deadLetter: s.deadLetter, logger: s.logger, clocks: &event.Clocks{}, lifetime: lifetime,
		encode: func(batch event.Batch, clock event.Clock) plog.Logs {
			return event.Encode(s.settings.Encoding, batch, clock)
		},
	}
	s.filled = nil
	for range s.settings.Queue.Lanes {
		s.filled = append(s.filled, make(chan struct{}, 1))
	}
	if s.settings.Next == nil {
		return
	}
	older, olderDone := slices.Clone(s.older), make(chan struct{})
	s.workers.Go(func() {
		defer close(olderDone)
		s.drainOlder(older)
	})
	for lane := range s.settings.Queue.Lanes {
		s.workers.Go(func() {
			<-olderDone // order: what was queued first is delivered first
			s.deliverLane(lane)
		})
	}
}

// forget closes a queue of another shape that is drained.
func (s *Stage) forget(q *bpf.Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.older = slices.DeleteFunc(s.older, func(other *bpf.Queue) bool { return other == q })
	q.Close()
}

func (s *Stage) closeOlder() {
	for _, q := range slices.Clone(s.older) {
		s.forget(q)
	}
}

// Shutdown drains the queue into the next component and stops the workers; upstream has stopped before. When ctx or
// the ShutdownTimeout ends first, what is left stays pinned for the next start, or, where nothing is pinned, is lost
// and reported.
func (s *Stage) Shutdown(ctx context.Context) error {
	if !s.running {
		return s.close()
	}
	ctx, cancel := WithShutdownTimeout(ctx, s.settings.ShutdownTimeout)
	defer cancel()
	s.running = false
	s.shut()
	close(s.stop)
	done := make(chan struct{})
	go func() {
		s.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.abandon()
		<-done
	}
	s.abandon()
	close(s.ended)
	s.watch.Wait()
	err := s.reportLeft()
	if s.Unused() {
		err = errors.Join(err, s.abandonQueue())
	}
	return errors.Join(err, s.close())
}

// Unused reports whether no event has ever come, to this process or an earlier one. So it is where another component has kept the
// Collector from starting.
func (s *Stage) Unused() bool {
	return s.queue == nil || s.queue.Books() == (bpf.QueueBooks{})
}

// abandonQueue removes the queue if this process has made it and it is empty. One for another process stays: that may be about
// to push to it, or to drain it.
func (s *Stage) abandonQueue() error {
	if s.queue == nil || s.settings.Next == nil {
		return nil
	}
	return s.queue.Abandon()
}

func (s *Stage) reportLeft() error {
	books := s.queue.Books()
	left := books.Queued + books.InFlight
	switch {
	case left == 0 || s.settings.Next == nil && s.dir.Pinned():
		return nil
	case s.dir.Pinned():
		s.logger.Warn("the time to stop was up; undelivered events stay pinned for the next start", zap.Uint64("events", left), zap.String("directory", s.dir.Path()))
		return nil
	}
	return fmt.Errorf("%s: %d events were not delivered in the time to stop and are lost: there is no pin_path", s.settings.Name, left)
}

func (s *Stage) close() error {
	if s.telemetry != nil {
		s.telemetry.Shutdown() // before the memory that it reads goes
		s.telemetry = nil
	}
	var err error
	if s.deadLetter != nil {
		err = s.deadLetter.close()
		s.deadLetter = nil
	}
	s.closeOlder()
	if s.queue != nil {
		s.queue.Close()
		s.queue = nil
	}
	err = errors.Join(err, s.dir.Close())
	s.dir = nil
	return err
}

// patience is how long a waiting goroutine trusts that it will be woken before it looks again, and what that grows
// to where nothing happens: programs of others may push to a queue, and another process may pop from one.
const (
	shortestPatience = time.Millisecond // where only another process can make room
	patience         = 100 * time.Millisecond
	longestPatience  = time.Second
)

// ring rings a bell that someone may wait for.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default: // it has been rung and not been heard yet
	}
}

// closed says whether c, on which nothing is sent, is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
