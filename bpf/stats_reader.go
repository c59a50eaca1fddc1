//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"
)

// StatsReader reads the stats map a chunk at a time, so that who adds to it need not wait for long:
//
//	for reader := stats.Reader(); ; {
//		ids, entries, err := reader.Next()
//		if err != nil || len(ids) == 0 { … }
//	}
type StatsReader struct {
	stats   *ebpf.Map
	cursor  ebpf.MapBatchCursor
	ids     []SeriesID
	entries []Entry
	ended   bool
	all     bool           // those that can't be too
	damaged *atomic.Uint64 // counts those that were left out
}

// readChunk is how many series are read in one call; a hash bucket of the kernel must fit in.
const readChunk = 256

// Reader returns a reader of all series.
func (s *Stats) Reader() *StatsReader {
	return &StatsReader{stats: s.group.maps[statsMapStats], damaged: &s.damagedReads, ids: make([]SeriesID, readChunk), entries: make([]Entry, readChunk)}
}

// Next returns the next series and, at the same index, what is in the map of them; none at the end. Both are valid until
// the next call. Totals are consistent in themselves if no Add runs during the call.
func (r *StatsReader) Next() ([]SeriesID, []Entry, error) {
	for !r.ended {
		n, err := r.stats.BatchLookup(&r.cursor, r.ids, r.entries, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, nil, fmt.Errorf("read stats map: %w", err)
		}
		r.ended = err != nil // that was the last chunk
		if !r.all {
			n = r.leaveOut(n)
		}
		if n > 0 {
			return r.ids[:n], r.entries[:n], nil
		}
	}
	return nil, nil, nil
}

// leaveOut removes from the first n series those whose totals can't be, and returns how many there are left.
func (r *StatsReader) leaveOut(n int) int {
	kept := 0
	for i := range n {
		if r.entries[i].check() != nil {
			r.damaged.Add(1)
			continue
		}
		if kept < i {
			r.ids[kept], r.entries[kept] = r.ids[i], r.entries[i]
		}
		kept++
	}
	return kept
}

// Rewind makes the reader start anew.
func (r *StatsReader) Rewind() { r.cursor, r.ended = ebpf.MapBatchCursor{}, false }

// Each calls visit with every series, until visit returns false. The entry is reused.
func (s *Stats) Each(visit func(SeriesID, *Entry) bool) error {
	reader := s.Reader()
	for {
		ids, entries, err := reader.Next()
		if err != nil || len(ids) == 0 {
			return err
		}
		for i, id := range ids {
			if !visit(id, &entries[i]) {
				return nil
			}
		}
	}
}
