package stage

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Between the turn that finds nothing and the look at stop, events may come in and the stop too.
func TestWorkerTakesWhatCameBeforeTheStop(t *testing.T) {
	stop, waiting, took := make(chan struct{}), 0, 0
	turns := 0
	untilStopped(stop, nil, func() (bool, error) {
		turns++
		if turns == 1 {
			waiting = 200
			close(stop)
			return false, nil
		}
		busy := waiting > 0
		took, waiting = took+waiting, 0
		return busy, nil
	})
	assert.Equal(t, 200, took)
	assert.Equal(t, 3, turns, "until a turn after the stop finds nothing")
}

func TestWorkerEndsWithAnError(t *testing.T) {
	turns := 0
	untilStopped(make(chan struct{}), nil, func() (bool, error) {
		turns++
		return true, errors.New("the lifetime is over")
	})
	assert.Equal(t, 1, turns)
}
