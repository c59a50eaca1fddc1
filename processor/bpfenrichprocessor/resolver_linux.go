package bpfenrichprocessor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/container"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/users"
)

const (
	// workers look up at the same time: the more there are, the more can hang before all wait.
	workers = 4
	// maxOutstanding bounds the lookups that are asked for and not yet answered: a batch of new processes.
	maxOutstanding = 1024
	// usersInterval is how often the passwd file is looked at.
	usersInterval = 10 * time.Second
)

// job asks about a process, or, where that is zero, about a cgroup.
type job struct {
	process identity
	cgroup  uint64
}

// result answers a job.
type result struct {
	job
	facts     facts              // about the process
	container container.Identity // of the cgroup
	err       error              // errNotFound, errDenied, or something unexpected
}

// resolver looks up beside the event path, which is the only one to ask. Neither ever waits to hand something
// over: there is room for maxOutstanding jobs, and for as many results.
type resolver struct {
	logger    *zap.Logger
	newSource func() []processSource // for one worker; asked in their order until one knows the process
	cgroups   cgroupSource           // nil: there is none
	users     *users.Directory       // nil: there are none

	jobs    chan job
	results chan result
	end     chan struct{}
	ending  sync.Once
	running sync.WaitGroup
}

func newResolver(logger *zap.Logger, newSource func() []processSource, cgroups cgroupSource, directory *users.Directory) *resolver {
	return &resolver{
		logger: logger, newSource: newSource, cgroups: cgroups, users: directory,
		jobs: make(chan job, maxOutstanding), results: make(chan result, maxOutstanding), end: make(chan struct{}),
	}
}

func (r *resolver) start() {
	for range workers {
		sources := r.newSource()
		r.running.Go(func() {
			for {
				select {
				case job := <-r.jobs:
					r.results <- r.lookUp(sources, job)
				case <-r.end:
					return
				}
			}
		})
	}
	if r.users != nil {
		r.refreshUsers()
		r.running.Go(r.keepUsers)
	}
}

// stop ends the workers; what they have not answered is not answered any more. It fails when ctx ends while a
// lookup hangs.
func (r *resolver) stop(ctx context.Context) error {
	r.ending.Do(func() { close(r.end) })
	done := make(chan struct{})
	go func() {
		r.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a lookup in the file system hangs: %w", ctx.Err())
	}
}

func (r *resolver) lookUp(sources []processSource, job job) result {
	result := result{job: job, err: errNotFound}
	if job.process == (identity{}) {
		result.container, result.err = r.cgroups.cgroup(job.cgroup)
	} else {
		for _, source := range sources {
			result.facts, result.err = source.process(job.process)
			if !errors.Is(result.err, errNotFound) {
				break
			}
		}
	}
	if err := result.err; err != nil && !errors.Is(err, errNotFound) && !errors.Is(err, errDenied) {
		r.logger.Debug("lookup failed", zap.Uint32("pid", job.process.tgid), zap.Uint64("cgroup", job.cgroup), zap.Error(err))
	}
	return result
}

func (r *resolver) keepUsers() {
	ticker := time.NewTicker(usersInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.refreshUsers()
		case <-r.end:
			return
		}
	}
}

func (r *resolver) refreshUsers() {
	if err := r.users.Refresh(); err != nil {
		r.logger.Warn("user names stay as they are", zap.Error(err))
	}
}
