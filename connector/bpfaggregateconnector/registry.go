package bpfaggregateconnector

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// registry knows the series of a view and keeps their number at its limit. It does not know of generations:
// its keys have generation 0.
type registry struct {
	view    *view
	finder  *finder // nil: none, so far
	entries []seriesEntry
	index   map[bpf.Series]int32
	free    []int32

	active     atomic.Int64  // series
	expired    atomic.Uint64 // series
	overflowed atomic.Uint64 // events
}

// seriesEntry is a series.
type seriesEntry struct {
	key     bpf.Series
	last    uint64 // boot-time ns of its last event here
	run     uint64 // the last run that has an account of it
	account int32  // and the index of that
	epoch   uint64 // the last of the aggregator in which it was made in the kernel
}

func newRegistry(v *view) *registry {
	return &registry{view: v, index: map[bpf.Series]int32{}}
}

// resolve returns an event's series: a new one if there is none, and the overflow series when there are as many as
// there may be.
func (r *registry) resolve(e *event.Event, c *event.Context) int32 {
	enriched := event.Enriched{Event: *e, Context: *c}
	key := bpf.Series{View: r.view.number}
	for i := range r.view.dimensions {
		r.view.dimensions[i].take(&enriched, &key)
	}
	if i, ok := r.index[key]; ok {
		return i
	}
	overflow := r.overflow()
	i, ok := r.index[overflow]
	switch room := r.view.limit - len(r.index); {
	case room > 1 || ok && room > 0: // one is for the overflow series
		return r.add(key, 0)
	case ok:
		return i
	default:
		return r.add(overflow, 0)
	}
}

// overflow returns the key of the overflow series.
func (r *registry) overflow() bpf.Series {
	return bpf.Series{View: r.view.number, Flags: bpf.SeriesOverflow}
}

// add registers a series. The limit is the caller's to keep.
func (r *registry) add(key bpf.Series, last uint64) int32 {
	entry := seriesEntry{key: key, last: last}
	i := int32(len(r.entries))
	if n := len(r.free); n > 0 {
		i = r.free[n-1]
		r.free = r.free[:n-1]
		r.entries[i] = entry
	} else {
		r.entries = append(r.entries, entry)
	}
	r.index[key] = i
	r.active.Store(int64(len(r.index)))
	return i
}

// adopt registers a series that is in the kernel, whatever the limit.
func (r *registry) adopt(key bpf.Series, last uint64) {
	key.Generation = 0
	if i, ok := r.index[key]; ok {
		r.entries[i].last = max(r.entries[i].last, last)
		return
	}
	r.add(key, last)
}

// excess returns the series that are more than there may be, those that were idle for longest.
func (r *registry) excess() []bpf.Series {
	var keys []bpf.Series
	for key := range r.index {
		if key.Flags&bpf.SeriesOverflow == 0 {
			keys = append(keys, key)
		}
	}
	if len(keys) < r.view.limit {
		return nil
	}
	slices.SortFunc(keys, func(a, b bpf.Series) int {
		return cmp.Compare(r.entries[r.index[a]].last, r.entries[r.index[b]].last)
	})
	return keys[:len(keys)-(r.view.limit-1)]
}

// remove forgets series. What was found before is then found anew: there may be room for it now.
func (r *registry) remove(keys []bpf.Series) {
	for _, key := range keys {
		if i, ok := r.index[key]; ok {
			delete(r.index, key)
			r.entries[i] = seriesEntry{}
			r.free = append(r.free, i)
		}
	}
	if r.finder != nil {
		r.finder.cache.clear()
	}
	r.active.Store(int64(len(r.index)))
}

// idle returns the series that had no event since a boot time in ns.
func (r *registry) idle(since uint64) []bpf.Series {
	var keys []bpf.Series
	for key, i := range r.index {
		if r.entries[i].last < since {
			keys = append(keys, key)
		}
	}
	return keys
}
