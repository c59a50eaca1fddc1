//go:build linux

package bpf

import (
	"sync/atomic"
	"time"
)

// For metrics of delta temporality the series come in generations, one for each interval. Freeze ends the
// current one; then nothing is added to it any more, and it can be delivered, again and again and after a
// restart with the same numbers, until Delivered. There is at most one frozen generation.

// Generation is an interval whose events have series of their own.
type Generation struct {
	Number     uint32 // SeriesID.Generation
	Start, End time.Time
}

// Current returns the generation that new series belong to. It has no end yet.
func (s *Stats) Current() Generation {
	number := s.state().Generation
	return Generation{Number: number, Start: s.generationStart(number)}
}

// Frozen returns the generation that has ended and is not delivered, if there is one.
func (s *Stats) Frozen() (Generation, bool) {
	number := s.state().Generation
	if s.state().Delivered == number {
		return Generation{}, false
	}
	return Generation{Number: number - 1, Start: s.generationStart(number - 1), End: s.generationStart(number)}, true
}

// Freeze ends the current generation at now and begins another. No other may be frozen.
func (s *Stats) Freeze(now time.Time) {
	state := s.state()
	state.GenerationUnixNs[(state.Generation+1)%2] = uint64(now.UnixNano())
	atomic.StoreUint32(&state.Generation, state.Generation+1)
}

// Delivered notes that the frozen generation is delivered. Its series are of no use any more.
func (s *Stats) Delivered() {
	state := s.state()
	atomic.StoreUint32(&state.Delivered, state.Generation)
}

// Thaw ends the frozen generation, whose series have all been moved to the current one: that began when the frozen one did.
func (s *Stats) Thaw() {
	state := s.state()
	atomic.StoreUint64(&state.GenerationUnixNs[state.Generation%2], state.GenerationUnixNs[(state.Generation+1)%2])
	s.Delivered()
}

func (s *Stats) generationStart(number uint32) time.Time {
	return time.Unix(0, int64(s.state().GenerationUnixNs[number%2]))
}
