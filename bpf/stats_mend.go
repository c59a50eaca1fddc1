//go:build linux

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
)

// most is KP_MOST: the most that a sum can be.
const most = math.MaxInt64

// check reports what no version writes into an entry of the stats map. Such totals can't be exported: a sum of them may be
// negative or go back.
func (e *Entry) check() error {
	t := &e.Totals
	if t.Events > most || t.Bytes > most || t.Duration > most || t.Since > most || t.Last > most {
		return fmt.Errorf("%d events, %d bytes and %d ns since %d until %d", t.Events, t.Bytes, t.Duration, t.Since, t.Last)
	}
	if t.Timed > t.Events || t.Timed > 0 && t.Shortest > t.Longest {
		return fmt.Errorf("%d durations of %d events, from %d to %d ns", t.Timed, t.Events, t.Shortest, t.Longest)
	}
	left := t.Timed
	for i, n := range &t.Bucket {
		if n > left {
			return fmt.Errorf("%d durations, and bucket %d has %d of the last %d", t.Timed, i, n, left)
		}
		left -= n
	}
	return nil
}

// check reports what no version makes the key of a series.
func (id SeriesID) check() error {
	if id.Number == 0 && id.Reserved != 0 || id.Number > most {
		return fmt.Errorf("a number that none is given, with %d beside it", id.Reserved)
	}
	return nil
}

// mend makes the stats fit to be worked on before anything is: it removes the series that can't be, and what would have two
// series be one. It fails where nothing tells which series are of which interval.
func (s *Stats) mend() error {
	state := s.state()
	if state.Generation-state.Delivered > 1 {
		return damaged(s.group.place, statsMapStatsBooks, fmt.Errorf("interval %d is the current one, and those before %d are delivered", state.Generation, state.Delivered))
	}
	var remove []SeriesID
	var newest uint64
	reader := s.Reader()
	reader.all = true
	for {
		ids, entries, err := reader.Next()
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			break
		}
		for i, id := range ids {
			if wrong := cmp.Or(id.check(), entries[i].check()); wrong != nil {
				s.damage = append(s.damage, damaged(s.group.place, statsMapStats, fmt.Errorf("series %d has %w; it is removed, and begins anew", id.Number, wrong)))
				remove = append(remove, id)
				continue
			}
			if id.Generation > state.Generation { // what is older is left of what is delivered, and finish removes it
				return damaged(s.group.place, statsMapStatsBooks, fmt.Errorf("interval %d is the current one, and series %d is of interval %d",
					state.Generation, id.Number, id.Generation))
			}
			newest = max(newest, id.Number)
		}
	}
	for _, id := range remove {
		if err := s.group.maps[statsMapStats].Delete(&id); err != nil {
			return fmt.Errorf("remove a damaged series: %w", err)
		}
	}
	if state.Numbers < newest || state.Numbers > most {
		s.damage = append(s.damage, damaged(s.group.place, statsMapStatsBooks, fmt.Errorf("the last number of a series is %d, and there is one with %d: that one counts",
			state.Numbers, newest)))
		atomic.StoreUint64(&state.Numbers, newest)
	}
	views, seen := s.views(), map[uint64]bool{}
	for i := range views {
		if views[i].fingerprint != 0 && seen[views[i].fingerprint] {
			s.damage = append(s.damage, damaged(s.group.place, statsMapStatsBooks, fmt.Errorf("view %d is there twice: its series are dropped", i)))
			views[i].fingerprint = math.MaxUint64 - uint64(i) // nobody's
		}
		seen[views[i].fingerprint] = true
	}
	return nil
}

// Damage returns what could not be trusted when the stats were opened; nil: nothing.
func (s *Stats) Damage() error { return errors.Join(s.damage...) }

// Damaged returns how often a series was left out of a reading, as its totals can't be.
func (s *Stats) Damaged() uint64 { return s.damagedReads.Load() }
