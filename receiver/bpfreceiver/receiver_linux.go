package bpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/health"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/receiver/bpfreceiver/internal/metadata"
)

// bpfReceiver owns what it has been told to read: probes, with a goroutine that drains their ring buffer and one that
// drives the simulator, and a queue, with a goroutine of its own.
type bpfReceiver struct {
	config   *Config
	settings receiver.Settings
	next     consumer.Logs

	// From here on: set while it runs.
	dir       *bpf.Directory
	queue     *stage.Drain // nil: none
	probes    *bpf.Probes  // nil: none
	telemetry *metadata.TelemetryBuilder
	simulator simulator
	drain     drain
	losses    losses
	damaged   health.Recent // what of the ring buffers can't be trusted
	ended     chan struct{} // closed: the watch over the pins ends; nil: there is none
	watch     sync.WaitGroup
}

// Start opens and attaches everything, adopts what an earlier process left, and begins to deliver.
func (r *bpfReceiver) Start(_ context.Context, host component.Host) (err error) {
	if err := bpf.CheckRequirements(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.abandon())
		}
	}()
	if r.dir, err = bpf.OpenDirectory(r.config.PinPath, pinName(r.settings)); err != nil {
		return err
	}
	next, err := report(r.next, r.config, r.settings)
	if err != nil {
		return err
	}
	statuses := newStatuses(host)
	if r.config.Queue.HasValue() {
		r.queue = newQueue(r.config, r.settings, next)
		if err := r.queue.Start(statuses.of("queue"), statuses.of("losses of the queue"), r.dir); err != nil {
			return err
		}
	}
	if r.config.Probes.on() {
		if err := r.startProbes(statuses, next); err != nil {
			return err
		}
	} else if err := r.reportForgotten(); err != nil {
		return err
	}
	r.reportOrphans()
	return nil
}

// reportForgotten tells of probes of this receiver that were left attached, and that its configuration no longer has.
func (r *bpfReceiver) reportForgotten() error {
	attached, err := r.dir.ProbesAttached()
	if attached {
		r.settings.Logger.Warn("Probes that this receiver had before are still attached, and fill a ring buffer that nobody reads. "+
			"Start it with probes once more to deliver what waits there, or stop it and remove the directory with rm -r",
			zap.String("directory", r.dir.Path()))
	}
	return err
}

// startProbes fails before the first goroutine runs, or not at all.
func (r *bpfReceiver) startProbes(statuses *statuses, next consumer.Logs) (err error) {
	if r.probes, err = bpf.OpenProbes(r.dir, r.config.probes()); err != nil {
		return err
	}
	r.drain = drain{
		config: r.config, probes: r.probes, next: next, logger: r.settings.Logger, status: statuses.reporter("ring buffer"), damaged: &r.damaged,
	}
	if err := r.drain.noteDamage(errors.Join(r.probes.Damage()...)); err != nil {
		return err
	}
	if r.telemetry, err = metadata.NewTelemetryBuilder(r.settings.TelemetrySettings); err != nil {
		return err
	}
	if err := observe(r.telemetry, r.dir, r.probes, r.settings); err != nil {
		return err
	}
	if err := r.probes.Attach(); err != nil {
		return err
	}
	if _, waiting, _ := r.probes.RingUse(); r.probes.Adopted() {
		r.settings.Logger.Info("Adopted the probes of an earlier process", zap.String("directory", r.dir.Path()), zap.Uint64("waiting_events", waiting))
		r.reportLost()
	}
	r.losses = losses{config: r.config, probes: r.probes, logger: r.settings.Logger, host: statuses.of("losses")}
	r.losses.start(pinName(r.settings))
	r.drain.start()
	ended, dir, probes := make(chan struct{}), r.dir, r.probes
	r.ended = ended
	r.watch.Go(func() {
		health.Watch(ended, statuses.of("pinned state"), r.settings.Logger, "receiver "+r.settings.ID.String(), func(now time.Time) error {
			return errors.Join(r.damaged.Check(now), checkPins(dir, probes))
		})
	})
	if r.config.Probes.Simulate.HasValue() {
		r.simulator = simulator{config: *r.config.Probes.Simulate.Get(), probes: r.probes, logger: r.settings.Logger, status: statuses.reporter("simulator")}
		r.simulator.start()
	}
	return nil
}

func (r *bpfReceiver) stopWatchingPins() {
	close(r.ended)
	r.watch.Wait()
}

// checkPins reports whether pins were removed while the receiver has them open.
func checkPins(dir *bpf.Directory, probes *bpf.Probes) error {
	if err := dir.CheckPins(); err != nil {
		return err // that is the reason for all
	}
	return probes.CheckPins()
}

// reportOrphans tells of what is pinned and belongs to no running component. Receivers start last, so the other
// components of this collector have their directories open by now; another receiver of it may yet come.
func (r *bpfReceiver) reportOrphans() {
	orphans, err := bpf.Orphans(r.config.PinPath)
	if err != nil {
		r.settings.Logger.Warn("The pin directory can't be searched for what belongs to no component", zap.Error(err))
	}
	for _, orphan := range orphans {
		r.settings.Logger.Warn("Pinned state belongs to no running component. If none is to use it again, remove it with rm -r",
			zap.String("directory", event.Escape(orphan.Path)), zap.Bool("probes_attached", orphan.Attached))
	}
}

// abandon undoes a Start that failed. What an earlier process left stays.
func (r *bpfReceiver) abandon() error {
	var err error
	if r.queue != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		err = r.queue.Shutdown(now)
	}
	if r.probes != nil {
		err = errors.Join(err, r.probes.Abandon())
	}
	return errors.Join(err, r.release())
}

// Shutdown stops to drain the queue, in which the rest stays, and the simulator and the probes; it delivers what is in
// the ring buffer and lets go of everything. With keep_on_shutdown the probes go on, and what is in the ring buffer is
// left to the next process.
func (r *bpfReceiver) Shutdown(ctx context.Context) error {
	if r.dir == nil {
		return nil
	}
	ctx, cancel := stage.WithShutdownTimeout(ctx, r.config.ShutdownTimeout)
	defer cancel()
	var err error
	if r.queue != nil {
		err = r.queue.Shutdown(ctx)
	}
	if r.probes != nil {
		err = errors.Join(err, r.stopProbes(ctx))
	}
	return errors.Join(err, r.release())
}

func (r *bpfReceiver) stopProbes(ctx context.Context) error {
	r.stopWatchingPins() // before the probes are detached
	r.simulator.stop()
	var err error
	if !r.config.KeepOnShutdown {
		err = r.probes.Detach()
	}
	r.drain.stop(ctx)
	r.losses.stop() // its last look is at what the stop has lost
	return errors.Join(err, r.settle())
}

// settle closes the account: what is not drained is kept, or reported as lost. The books stay pinned for the next start.
func (r *bpfReceiver) settle() error {
	counts, err := r.probes.Counts()
	if err != nil {
		return err
	}
	var produced, lost uint64
	for _, count := range counts {
		produced += count.Produced
		lost += count.Lost
	}
	_, waiting, _ := r.probes.RingUse()
	books := r.probes.RingBooks()
	r.settings.Logger.Info("Stopped",
		zap.Uint64("produced", produced), zap.Uint64("delivered", books.Delivered), zap.Uint64("refused", books.Refused),
		zap.Uint64("lost", lost), zap.Uint64("waiting", waiting))
	switch {
	case r.config.KeepOnShutdown:
		return nil
	case waiting == 0:
		return errors.Join(r.probes.Retire(), r.probes.RemoveUnused())
	case r.dir.Pinned():
		r.settings.Logger.Warn("Not all events were delivered in time. They stay in the kernel for the next start",
			zap.Uint64("events", waiting), zap.String("directory", r.dir.Path()))
		return nil
	default:
		return fmt.Errorf("%d events are lost, for they were not delivered in time: set pin_path, so that they stay in the kernel for the next start", waiting)
	}
}

// release closes everything. What is pinned lives on.
func (r *bpfReceiver) release() error {
	r.queue = nil
	if r.telemetry != nil {
		r.telemetry.Shutdown() // no callback runs after this, or the books would be read after they are closed
		r.telemetry = nil
	}
	if r.probes != nil {
		r.probes.Close()
		r.probes = nil
	}
	var err error
	if r.dir != nil {
		err = r.dir.Close()
		r.dir = nil
	}
	return err
}
