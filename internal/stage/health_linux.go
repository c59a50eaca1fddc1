package stage

import (
	"errors"
	"slices"
	"time"

	"github.com/kernelpipe/kernelpipe/internal/health"
)

// watchHealth reports changes of the stage's health as the component's status, until the stage ends.
func (s *Stage) watchHealth() {
	s.ended = make(chan struct{})
	books := s.Books()
	more := append(slices.Clone(s.losses), unreadable("log records", "otelcol_kernelpipe_stage_foreign", s.foreign.Load))
	if s.deadLetter != nil {
		more = append(more, s.deadLetter.lettersDropped(), s.deadLetter.lettersLost())
	}
	judge := newJudge(s.settings.Health, &books, more...)
	s.watch.Go(func() {
		health.Watch(s.ended, s.host, s.logger, s.settings.Name, func(now time.Time) error {
			err := errors.Join(s.refused.Check(now), s.invalid.Check(now), s.damaged.Check(now), s.checkLanes(), s.checkPins())
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
	depth  health.Depth
}

// newJudge: more has what else counts as a loss.
func newJudge(config HealthConfig, books *Books, more ...health.Counter) *judge {
	counters := []health.Counter{
		dropped(DropNewest, func() uint64 { return books.DroppedNewest }),
		dropped(DropOldest, func() uint64 { return books.DroppedOldest }),
		dropped(DropLowPriority, func() uint64 { return books.DroppedLowPriority }),
		deadLettered(func() uint64 { return books.DeadLettered }),
		lostWithPins(func() uint64 { return books.Lost }),
	}
	return &judge{config: config, books: books, losses: health.NewLosses(config.Losses(), append(counters, more...)...)}
}

func (j *judge) check(now time.Time, capacity int) error {
	full := j.depth.Check(j.books.Queued, uint64(capacity), j.config.MaxDepthRatio, "events wait in a queue for")
	return errors.Join(full, j.losses.Check(now))
}

// dropped counts what a queue dropped by a policy.
func dropped(by OnFull, read func() uint64) health.Counter {
	what := map[OnFull]string{
		DropNewest:      "found the queue full and were dropped (drop_newest)",
		DropOldest:      "waited longest in a full queue and were dropped (drop_oldest)",
		DropLowPriority: "found no room in the queue for their priority and were dropped (drop_low_priority)",
	}
	return health.Counter{
		Lost: what[by], Read: read,
		Remedy: "raise queue.capacity, make the next component faster with more queue.lanes, or set on_full: block",
	}
}

// lostWithPins counts what was in a queue whose pins were removed.
func lostWithPins(read func() uint64) health.Counter {
	return health.Counter{
		Lost: "were lost with the pins of their queue", Remedy: "let no other process remove what is pinned", Read: read,
	}
}

// deadLettered counts what the next component refused.
func deadLettered(read func() uint64) health.Counter {
	return health.Counter{
		Lost: "were refused for good by the next component and went to the dead letter", Read: read,
		Remedy: "the log has the reason; replay them with a receiver that has queue: { dead_letter_of: … }",
	}
}

// unreadable counts what was no event.
func unreadable(unit, metric string, read func() uint64) health.Counter {
	return health.Counter{
		Unit: unit, Lost: "hold no events of this version and were passed over", Remedy: metric + " has the reason", Read: read,
	}
}

// lettersDropped counts what the dead-letter queue had no room for.
func (d *deadLetter) lettersDropped() health.Counter {
	return health.Counter{
		Unit: "dead letters", Lost: "found no room in the dead-letter queue and were dropped, or those before them",
		Remedy: "replay or discard the letters, or raise dead_letter.capacity",
		Read: func() uint64 {
			books := d.queue.Books()
			return books.DroppedNewest + books.DroppedOldest
		},
	}
}

// lettersLost counts what was in a dead-letter queue whose pins were removed.
func (d *deadLetter) lettersLost() health.Counter {
	c := lostWithPins(func() uint64 { return d.queue.Books().Lost })
	c.Unit = "dead letters"
	return c
}
