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
// called name, and a warning in its log: the warning is repeated while it lasts, at most once a minute. At the end there
// is only the warning, as the status of a component that stops is not its own to report.
func Watch(ended <-chan struct{}, host component.Host, logger *zap.Logger, name string, check func(now time.Time) error) {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	failing := false
	var logged time.Time
	for {
		select {
		case <-ended:
			if err := check(time.Now()); err != nil && !failing {
				logger.Warn("unhealthy", zap.Error(err))
			}
			return
		case now := <-ticker.C:
			err := check(now)
			switch {
			case err != nil && !failing:
				componentstatus.ReportStatus(host, componentstatus.NewRecoverableErrorEvent(fmt.Errorf("%s: %w", name, err)))
			case err == nil && failing:
				logger.Info("healthy again")
				componentstatus.ReportStatus(host, componentstatus.NewEvent(componentstatus.StatusOK))
			}
			if err != nil && (!failing || now.Sub(logged) >= logInterval) {
				logged = now
				logger.Warn("unhealthy", zap.Error(err))
			}
			failing = err != nil
		}
	}
}
