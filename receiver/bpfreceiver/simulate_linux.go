package bpfreceiver

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// How long the simulator sleeps where the ring buffer is full, and at most between two events.
const (
	shortestSleep = time.Millisecond
	longestSleep  = time.Second
)

// simulator has the kernel make events at a rate, until all are made. How many are is kept in the kernel.
type simulator struct {
	config SimulateConfig
	probes *bpf.Probes
	logger *zap.Logger
	status func(*componentstatus.Event)

	cancel   context.CancelFunc
	finished chan struct{}
}

func (s *simulator) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.finished = cancel, make(chan struct{})
	s.logger.Info("Simulating events", zap.Int64("events", s.config.Events), zap.Int64("rate", s.config.Rate), zap.Int64("seed", s.config.Seed))
	go func() {
		defer close(s.finished)
		if err := s.run(ctx); err != nil {
			s.logger.Error("Stopped simulating", zap.Error(err))
			s.status(componentstatus.NewPermanentErrorEvent(err))
		}
	}()
}

// stop ends the goroutine and waits for it; also without start.
func (s *simulator) stop() {
	if s.cancel == nil {
		return
	}
	s.cancel()
	<-s.finished
}

func (s *simulator) run(ctx context.Context) error {
	pace := pace{rate: s.config.Rate, start: time.Now()}
	for ctx.Err() == nil {
		due := pace.due(time.Now(), bpf.SimulateBatch)
		made, err := s.probes.Simulate(due)
		if err != nil {
			return err
		}
		pace.made += int64(made)
		if made == bpf.SimulateBatch {
			continue
		}
		if made < due { // the ring buffer is full, or that was the last
			simulated, err := s.probes.Simulated()
			if err != nil || simulated >= uint64(s.config.Events) {
				return err
			}
		}
		sleep(ctx, min(max(pace.wait(time.Now()), shortestSleep), longestSleep))
	}
	return nil
}

// pace says how many events are due: after a time t at rate r, r times t in all, so that no error adds up.
type pace struct {
	rate  int64 // events per second; 0: no limit
	start time.Time
	made  int64
}

// due returns how many events to make now, at most limit.
func (p *pace) due(now time.Time, limit int) int {
	if p.rate == 0 {
		return limit
	}
	due := int64(now.Sub(p.start).Seconds()*float64(p.rate)) - p.made
	return int(min(max(due, 0), int64(limit)))
}

// wait returns how long it is to the next event.
func (p *pace) wait(now time.Time) time.Duration {
	if p.rate == 0 {
		return 0
	}
	next := float64(p.made+1) / float64(p.rate)
	return time.Duration((next - now.Sub(p.start).Seconds()) * float64(time.Second))
}

// sleep ends early with ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
