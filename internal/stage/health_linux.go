package stage

import (
	"errors"
	"fmt"
	"time"

	"github.com/kernelpipe/kernelpipe/internal/health"
)

// watchHealth reports changes of the stage's health as the component's status, until the stage ends.
func (s *Stage) watchHealth() {
	s.ended = make(chan struct{})
	books := s.Books()
	judge := newJudge(s.settings.Health, &books)
	s.watch.Go(func() {
		health.Watch(s.ended, s.host, s.logger, s.settings.Name, func(now time.Time) error {
			err := errors.Join(s.refused.Check(now), s.invalid.Check(now), s.checkPins())
			if s.settings.Health != (HealthConfig{}) {
				books = s.Books()
				err = errors.Join(err, judge.check(now, s.queue.Config().Capacity))
			}
			return err
		})
	})
}

// checkPins reports whether pins were removed while the stage has them open.
func (s *Stage) checkPins() error {
	err := s.dir.CheckPins()
	if err == nil { // else there is one reason for all
		err = s.queue.CheckPins()
	}
	if err == nil && s.deadLetter != nil {
		err = s.deadLetter.queue.CheckPins()
	}
	if err == nil && s.settings.CheckPins != nil {
		err = s.settings.CheckPins()
	}
	return err
}

// judge judges the books of a stage from one look to the next.
type judge struct {
	config HealthConfig
	books  *Books // as they are at the look
	losses *health.Losses
	deep   int // looks since the queue became too full
}

func newJudge(config HealthConfig, books *Books) *judge {
	lost := health.Counter{Lost: "were dropped or went to the dead letter", Read: func() uint64 { return books.lost() }}
	return &judge{config: config, books: books, losses: health.NewLosses(config.losses(), lost)}
}

func (j *judge) check(now time.Time, capacity int) error {
	queued := j.books.Queued
	if float64(queued)/float64(capacity) > j.config.MaxDepthRatio {
		j.deep++
	} else {
		j.deep = 0
	}
	var err error
	if j.deep > 1 { // once may be a burst, or a look in the middle of a pop
		err = fmt.Errorf("%d events wait in a queue for %d, more than max_depth_ratio %v allows: they are taken out too slowly", queued, capacity, j.config.MaxDepthRatio)
	}
	return errors.Join(err, j.losses.Check(now))
}

// lost is what did not arrive and will not.
func (b *Books) lost() uint64 {
	return b.DroppedNewest + b.DroppedOldest + b.DroppedLowPriority + b.DeadLettered + b.Lost
}
