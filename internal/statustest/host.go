// Package statustest records the statuses that components report in tests.
package statustest

import (
	"slices"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// Host records the statuses that are reported to it. Its zero value is ready, and any number of goroutines may use it.
type Host struct {
	mu     sync.Mutex
	events []*componentstatus.Event
}

// GetExtensions returns none.
func (*Host) GetExtensions() map[component.ID]component.Component { return nil }

// Report records a status.
func (h *Host) Report(event *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
}

// Events returns what was reported until now, oldest first.
func (h *Host) Events() []*componentstatus.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

// Statuses returns the statuses of Events.
func (h *Host) Statuses() []componentstatus.Status {
	var statuses []componentstatus.Status
	for _, event := range h.Events() {
		statuses = append(statuses, event.Status())
	}
	return statuses
}
