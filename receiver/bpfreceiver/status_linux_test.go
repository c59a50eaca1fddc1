package bpfreceiver

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
)

type statusHost struct {
	component.Host
	last *componentstatus.Event
}

func (h *statusHost) Report(event *componentstatus.Event) { h.last = event }

// A part that is well again does not hide that another one is not.
func TestStatusIsThatOfTheWorstPart(t *testing.T) {
	host := &statusHost{Host: componenttest.NewNopHost()}
	all := newStatuses(host)
	ring, queue := all.reporter("ring buffer"), all.reporter("queue")
	well := componentstatus.NewEvent(componentstatus.StatusOK)
	full, taken := errors.New("full"), errors.New("taken")
	ring(componentstatus.NewRecoverableErrorEvent(full))
	assert.Equal(t, full, host.last.Err())
	queue(componentstatus.NewPermanentErrorEvent(taken))
	assert.Equal(t, taken, host.last.Err())
	ring(well)
	assert.Equal(t, componentstatus.StatusPermanentError, host.last.Status())
	ring(componentstatus.NewRecoverableErrorEvent(full))
	queue(well)
	assert.Equal(t, full, host.last.Err())
	ring(well)
	assert.Equal(t, componentstatus.StatusOK, host.last.Status())
}
