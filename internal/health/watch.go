package health

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"
)

// logInterval is the least time between two warnings about the same trouble of a component whose status stays.
const logInterval = time.Minute

// Watch calls check at intervals until ended is closed, and once more then. An error becomes the status of the
// component called name, unless it is Tolerated, and in any case a warning in its log. The warning comes at once where
// the status changes, or the error has a kind of trouble that no warning of the last minute told of; while the error
// lasts, it comes each minute. At the end there is only the warning, as the status of a component that stops is not its
// own to report.
func Watch(ended <-chan struct{}, host component.Host, logger *zap.Logger, name string, check func(now time.Time) error) {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	w := newWatch(host, logger, name)
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
	warned  map[kind]time.Time // when there was the last warning about each, within the last logInterval
	text    string             // what the last warning said
}

func newWatch(host component.Host, logger *zap.Logger, name string) *watch {
	return &watch{host: host, logger: logger, name: name, warned: map[kind]time.Time{}}
}

func (w *watch) look(now time.Time, err error) {
	maps.DeleteFunc(w.warned, func(_ kind, at time.Time) bool { return now.Sub(at) >= logInterval })
	kinds, reason := kindsOf(err), Serious(err)
	if reason != nil && !w.failing || slices.ContainsFunc(kinds, func(k kind) bool { return w.warned[k].IsZero() }) {
		for _, k := range kinds {
			w.warned[k] = now
			w.warned[kind{of: k.of}] = now // what falls from serious to tolerated is no news
		}
		w.warn(err)
	}
	switch {
	case reason != nil && !w.failing:
		status := fmt.Errorf("%s: %w", w.name, reason)
		componentstatus.ReportStatus(w.host, componentstatus.NewRecoverableErrorEvent(status))
	case reason == nil && w.failing:
		w.logger.Info("healthy again")
		componentstatus.ReportStatus(w.host, componentstatus.NewEvent(componentstatus.StatusOK))
	}
	w.failing = reason != nil
}

func (w *watch) warn(err error) {
	w.text = err.Error()
	if Serious(err) != nil {
		w.logger.Warn("unhealthy", zap.Error(err))
	} else {
		w.logger.Warn("events were lost", zap.Error(err))
	}
}
