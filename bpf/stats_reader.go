//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

// StatsReader reads the stats map a chunk at a time, so that who adds to it need not wait for long:
//
//	for reader := stats.Reader(); ; {
//		series, totals, err := reader.Next()
//		if err != nil || len(series) == 0 { … }
//	}
type StatsReader struct {
	stats  *ebpf.Map
	cursor ebpf.MapBatchCursor
	keys   []statsKpSeries
	values []statsKpTotals
	ended  bool
}

// readChunk is how many series are read in one call; a hash bucket of the kernel must fit in.
const readChunk = 256

// Reader returns a reader of all series.
func (s *Stats) Reader() *StatsReader {
	return &StatsReader{
		stats: s.group.maps[statsMapStats],
		keys:  make([]statsKpSeries, readChunk), values: make([]statsKpTotals, readChunk),
	}
}

// Next returns the next series and, at the same index, their totals; none at the end. Both are valid until
// the next call. Totals are consistent in themselves if no Add runs during the call.
func (r *StatsReader) Next() ([]Series, []Totals, error) {
	for !r.ended {
		n, err := r.stats.BatchLookup(&r.cursor, r.keys, r.values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, nil, fmt.Errorf("read stats map: %w", err)
		}
		r.ended = err != nil // that was the last chunk
		if n > 0 {
			return unsafe.Slice((*Series)(unsafe.Pointer(&r.keys[0])), n), unsafe.Slice((*Totals)(unsafe.Pointer(&r.values[0])), n), nil
		}
	}
	return nil, nil, nil
}

// Rewind makes the reader start anew.
func (r *StatsReader) Rewind() { r.cursor, r.ended = ebpf.MapBatchCursor{}, false }

// Each calls visit with every series and its totals, until visit returns false. Both are reused.
func (s *Stats) Each(visit func(*Series, *Totals) bool) error {
	reader := s.Reader()
	for {
		series, totals, err := reader.Next()
		if err != nil || len(series) == 0 {
			return err
		}
		for i := range series {
			if !visit(&series[i], &totals[i]) {
				return nil
			}
		}
	}
}
