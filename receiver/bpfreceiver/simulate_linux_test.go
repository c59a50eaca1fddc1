package bpfreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// At any moment, what was made and what is due are together the rate times the time, whatever happened before.
func TestPace(t *testing.T) {
	start := time.Unix(0, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	p := pace{rate: 1000, start: start}
	for _, step := range []struct {
		at   time.Duration
		due  int
		made int64
		wait time.Duration
	}{
		{0, 0, 0, time.Millisecond},
		{time.Millisecond, 1, 1, time.Millisecond},
		{1500 * time.Microsecond, 0, 0, 500 * time.Microsecond},
		{time.Second, 999, 500, -498 * time.Millisecond}, // the ring buffer was full
		{time.Second, 499, 499, time.Millisecond},
		{time.Hour, 1024, 1024, 2025*time.Millisecond - time.Hour},
	} {
		assert.Equal(t, step.due, p.due(at(step.at), 1024), step.at)
		p.made += step.made
		assert.InDelta(t, step.wait, p.wait(at(step.at)), 10, step.at)
	}
	p = pace{start: start}
	assert.Equal(t, 1024, p.due(at(0), 1024))
	assert.Zero(t, p.wait(at(0)))
}
