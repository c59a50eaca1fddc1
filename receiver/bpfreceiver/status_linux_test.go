package bpfreceiver

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/component/componentstatus"

	"github.com/kernelpipe/kernelpipe/internal/statustest"
)

// A part that is well again does not hide that another one is not.
func TestStatusIsThatOfTheWorstPart(t *testing.T) {
	host := &statustest.Host{}
	last := func() *componentstatus.Event {
		events := host.Events()
		return events[len(events)-1]
	}
	all := newStatuses(host)
	ring, queue := all.reporter("ring buffer"), all.reporter("queue")
	well := componentstatus.NewEvent(componentstatus.StatusOK)
	full, taken := errors.New("full"), errors.New("taken")
	ring(componentstatus.NewRecoverableErrorEvent(full))
	assert.Equal(t, full, last().Err())
	queue(componentstatus.NewPermanentErrorEvent(taken))
	assert.Equal(t, taken, last().Err())
	ring(well)
	assert.Equal(t, componentstatus.StatusPermanentError, last().Status())
	ring(componentstatus.NewRecoverableErrorEvent(full))
	queue(well)
	assert.Equal(t, full, last().Err())
	ring(well)
	assert.Equal(t, componentstatus.StatusOK, last().Status())
}
