package bpfreceiver

import (
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// statuses makes one status of those of the receiver's parts: it is as well as the worst of them.
type statuses struct {
	host component.Host
	mu   sync.Mutex
	last map[string]*componentstatus.Event
}

func newStatuses(host component.Host) *statuses {
	return &statuses{host: host, last: map[string]*componentstatus.Event{}}
}

// of returns the host that a part reports to.
func (s *statuses) of(part string) component.Host { return &partHost{Host: s.host, all: s, part: part} }

// reporter returns of(part) as a function.
func (s *statuses) reporter(part string) func(*componentstatus.Event) {
	host := s.of(part)
	return func(event *componentstatus.Event) { componentstatus.ReportStatus(host, event) }
}

type partHost struct {
	component.Host
	all  *statuses
	part string
}

// Report implements componentstatus.Reporter.
func (h *partHost) Report(event *componentstatus.Event) {
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	h.all.last[h.part] = event
	for _, other := range h.all.last {
		if other.Status() > event.Status() { // they rise from OK over recoverable to permanent
			event = other
		}
	}
	componentstatus.ReportStatus(h.all.host, event)
}
