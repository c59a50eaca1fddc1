//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// For metrics of delta temporality the series come in generations, one for each interval. Seal ends the current
// interval; then nothing is added to it any more, and it can be delivered, again and again and after a restart
// with the same numbers, until Delivered or RetireRefused. There is at most one sealed interval.

// Interval is a time whose events have series of their own.
type Interval struct {
	Number     uint32 // SeriesID.Generation
	Start, End time.Time
	Refused    bool // for good: RetireRefused has begun, and could not end
}

// Current returns the interval that new series belong to. It has no end yet.
func (s *Stats) Current() Interval {
	number := s.state().Generation
	return Interval{Number: number, Start: s.intervalStart(number)}
}

// Sealed returns the interval that has ended and has series yet to be delivered, or to be retired as refused, if there is one.
func (s *Stats) Sealed() (Interval, bool) {
	number := s.state().Generation
	if s.state().Delivered == number {
		return Interval{}, false
	}
	return Interval{
		Number: number - 1, Start: s.intervalStart(number - 1), End: s.intervalStart(number), Refused: s.state().Refused == number,
	}, true
}

// Seal ends the current interval at now and begins another. No other may be sealed. The description is kept with the
// sealed one: what the caller needs to deliver it, whatever its configuration is by then.
func (s *Stats) Seal(now time.Time, description []byte) error {
	if len(description) > MaxDescription {
		return fmt.Errorf("the description of an interval has %d bytes, and there is room for %d", len(description), MaxDescription)
	}
	text := as[statsKpDescription](s.sealed)
	for i, b := range description {
		text.Text[i] = int8(b)
	}
	text.Size = uint32(len(description))
	state := s.state()
	state.GenerationUnixNs[(state.Generation+1)%2] = uint64(now.UnixNano())
	atomic.StoreUint32(&state.Generation, state.Generation+1) // only this seals
	return nil
}

// Description returns what Seal was given with the sealed interval.
func (s *Stats) Description() []byte {
	text := as[statsKpDescription](s.sealed)
	description := make([]byte, min(int(text.Size), MaxDescription))
	for i := range description {
		description[i] = byte(text.Text[i])
	}
	return description
}

// Delivered notes that the sealed interval is delivered. Its series are of no use any more.
func (s *Stats) Delivered() {
	state := s.state()
	atomic.StoreUint32(&state.Delivered, state.Generation)
}

// RetireRefused notes that the sealed interval was refused for good, and removes its series. Their views' books have them as
// uncertain. A process that is killed meanwhile leaves the rest to the next.
func (s *Stats) RetireRefused() error {
	number := s.state().Generation
	atomic.StoreUint32(&s.state().Refused, number)
	series, err := s.seriesOf(func(generation uint32) bool { return generation == number-1 })
	if err != nil {
		return err
	}
	if err := s.retire(series, true); err != nil {
		return err
	}
	s.Delivered()
	return nil
}

// finish does what a killed process began: it removes what is left of intervals that were refused or delivered.
func (s *Stats) finish() error {
	interval, sealed := s.Sealed()
	if sealed && interval.Refused {
		if err := s.RetireRefused(); err != nil {
			return err
		}
		sealed = false
	}
	current := s.Current().Number
	series, err := s.seriesOf(func(generation uint32) bool {
		return generation != current && (!sealed || generation != interval.Number)
	})
	return errors.Join(err, s.Retire(series))
}

// seriesOf returns the series of generations.
func (s *Stats) seriesOf(wanted func(generation uint32) bool) (series []SeriesID, err error) {
	err = s.Each(func(id SeriesID, _ *Entry) bool {
		if wanted(id.Generation) {
			series = append(series, id)
		}
		return true
	})
	return series, err
}

// SealedSeries returns how many series the sealed interval has.
func (s *Stats) SealedSeries() (int, error) {
	interval, ok := s.Sealed()
	if !ok {
		return 0, nil
	}
	series, err := s.seriesOf(func(generation uint32) bool { return generation == interval.Number })
	return len(series), err
}

func (s *Stats) intervalStart(number uint32) time.Time {
	return time.Unix(0, int64(s.state().GenerationUnixNs[number%2]))
}
