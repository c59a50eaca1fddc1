package health

import (
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"
)

// logInterval is the least time between two warnings about a component that stays unhealthy.
const logInterval = time.Minute

// Watch calls check at intervals until ended is closed, and once more then. An error becomes the status of the component
// called name, unless it is Tolerated, and in any case a warning in its log: at once when there is more to tell than before, and
// repeated while it lasts, at most once a minute. At the end there is only the warning, as the status of a component that stops is
// not its own to report.
func Watch(ended <-chan struct{}, host component.Host, logger *zap.Logger, name string, check func(now time.Time) error) {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	w := watch{host: host, logger: logger, name: name}
	for {
		select {
		case <-ended:
			if err := check(time.Now()); err != nil && err.Error() != w.text {
				w.warn(err)
			}
			return
		case now := <-ticker.C:
			w.look(now, check(now))
		}
	}
}

type watch struct {
	host    component.Host
	logger  *zap.Logger
	name    string
	failing bool
	parts   int       // of the error at the last look
	logged  time.Time // the last warning
	text    string    // and what it said
}

func (w *watch) look(now time.Time, err error) {
	reason := Serious(err)
	switch {
	case reason != nil && !w.failing:
		componentstatus.ReportStatus(w.host, componentstatus.NewRecoverableErrorEvent(fmt.Errorf("%s: %w", w.name, reason)))
	case reason == nil && w.failing:
		w.logger.Info("healthy again")
		componentstatus.ReportStatus(w.host, componentstatus.NewEvent(componentstatus.StatusOK))
	}
	parts := count(err)
	if err != nil && (parts > w.parts || now.Sub(w.logged) >= logInterval) {
		w.logged = now
		w.warn(err)
	}
	w.failing, w.parts = reason != nil, parts
}

func (w *watch) warn(err error) {
	w.text = err.Error()
	if Serious(err) != nil {
		w.logger.Warn("unhealthy", zap.Error(err))
	} else {
		w.logger.Warn("events were lost", zap.Error(err))
	}
}
