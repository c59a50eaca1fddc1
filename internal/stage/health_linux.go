package stage

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"
)

// watchHealth reports changes of the stage's health as the component's status, until the stage ends.
func (s *Stage) watchHealth() {
	s.ended = make(chan struct{})
	if s.settings.Health == (HealthConfig{}) {
		return
	}
	health := health{config: s.settings.Health, lost: s.Books().lost()}
	s.watch.Go(func() {
		ticker := time.NewTicker(healthInterval)
		defer ticker.Stop()
		failing := false
		for {
			select {
			case <-s.ended:
				return
			case now := <-ticker.C:
				err := health.check(now, s.Books(), s.queue.Config().Capacity)
				switch {
				case err != nil && !failing:
					s.logger.Warn("unhealthy", zap.Error(err))
					componentstatus.ReportStatus(s.host, componentstatus.NewRecoverableErrorEvent(fmt.Errorf("%s: %w", s.settings.Name, err)))
				case err == nil && failing:
					s.logger.Info("healthy again")
					componentstatus.ReportStatus(s.host, componentstatus.NewEvent(componentstatus.StatusOK))
				}
				failing = err != nil
			}
		}
	})
}

// health judges the books of a stage from one look to the next.
type health struct {
	config HealthConfig
	lost   uint64 // at the last look
	deep   int    // looks since the queue became too full
	losses []loss // that are remembered, oldest first: at most one for each look
}

type loss struct {
	at     time.Time
	events uint64
}

func (h *health) check(now time.Time, books Books, capacity int) error {
	if lost := books.lost(); lost > h.lost {
		h.losses = append(h.losses, loss{now, lost - h.lost})
		h.lost = lost
	}
	for len(h.losses) > 0 && now.Sub(h.losses[0].at) >= h.config.LossWindow {
		h.losses = h.losses[1:]
	}
	var recent uint64
	for _, l := range h.losses {
		recent += l.events
	}
	var errs []error
	if depth := float64(books.Queued) / float64(capacity); depth > h.config.MaxDepthRatio {
		h.deep++
	} else {
		h.deep = 0
	}
	if h.deep > 1 { // once may be a burst, or a look in the middle of a pop
		errs = append(errs, fmt.Errorf("%d events wait in a queue for %d, more than max_depth_ratio %v allows: they are taken out too slowly", books.Queued, capacity, h.config.MaxDepthRatio))
	}
	if recent > uint64(h.config.MaxLoss) {
		errs = append(errs, fmt.Errorf("%d events were dropped or went to the dead letter since %s, more than max_loss %d allows within %s",
			recent, h.losses[0].at.Format(time.RFC3339), h.config.MaxLoss, h.config.LossWindow))
	}
	return errors.Join(errs...)
}

// lost is what did not arrive and will not.
func (b Books) lost() uint64 {
	return b.DroppedNewest + b.DroppedOldest + b.DroppedLowPriority + b.DeadLettered
}
