package bpfaggregateconnector

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync/atomic"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// registry knows the series of a view and keeps their number at its limit. It does not know of generations: a
// series has the same number in all of them.
type registry struct {
	view      *view
	finder    *finder // nil: none, so far
	newNumber func() uint64
	entries   []seriesEntry
	index     map[bpf.Series]int32 // of entries
	free      []int32              // entries

	used                   int            // entries, without the overflow series
	cgroups                map[uint64]int // how many of them a cgroup has
	intervalStart          uint64         // boot-time ns
	seed                   maphash.Seed   // of the hashes of series
	refused, refusedBefore *hashSet       // series, in this interval and in the one before; nil: none

	active     atomic.Int64  // series
	expired    atomic.Uint64 // series
	overflowed atomic.Uint64 // events
	lost       atomic.Uint64 // events
}

// seriesEntry is a series.
type seriesEntry struct {
	number  uint64 // bpf.SeriesID.Number
	last    uint64 // boot-time ns of its last event here
	run     uint64 // the last run that has an account of it
	epoch   uint64 // the last of the aggregator in which it was made in the kernel
	account int32  // of that run: its index
	series  bpf.Series
	cgroup  uint64 // of the event that made it; unknownCgroup: not known yet
	active  uint32 // intervals with events
	idle    uint32 // intervals without since then
}

// unknownCgroup is the cgroup of series that were adopted, until they have events.
const unknownCgroup = ^uint64(0)

// newRegistry returns a registry without series. newNumber gives those that are new their numbers.
func newRegistry(v *view, newNumber func() uint64) *registry {
	return &registry{view: v, newNumber: newNumber, index: map[bpf.Series]int32{}, cgroups: map[uint64]int{}, seed: maphash.MakeSeed()}
}

// resolve returns the entry of an event's series: a new one if there is none, and the overflow series where that is not
// admitted.
func (r *registry) resolve(e *event.Event, c *event.Context) int32 {
	enriched := event.Enriched{Event: *e, Context: *c}
	series := bpf.Series{View: r.view.number}
	for i := range r.view.dimensions {
		r.view.dimensions[i].take(&enriched, &series)
	}
	if i, ok := r.index[series]; ok {
		r.setCgroup(&r.entries[i], e.Process.CgroupID)
		return i
	}
	if r.admits(&series, e.Process.CgroupID) {
		return r.add(series, r.newNumber(), 0, e.Process.CgroupID)
	}
	overflow := r.overflow()
	if i, ok := r.index[overflow]; ok {
		return i
	}
	return r.add(overflow, r.newNumber(), 0, unknownCgroup)
}

// overflow returns the overflow series.
func (r *registry) overflow() bpf.Series {
	return bpf.Series{View: r.view.number, Flags: bpf.SeriesOverflow}
}

// add registers a series and returns its entry. The limit is the caller's to keep.
func (r *registry) add(series bpf.Series, number, last, cgroup uint64) int32 {
	entry := seriesEntry{series: series, number: number, last: last, cgroup: cgroup}
	i := int32(len(r.entries))
	if n := len(r.free); n > 0 {
		i = r.free[n-1]
		r.free = r.free[:n-1]
		r.entries[i] = entry
	} else {
		r.entries = append(r.entries, entry)
	}
	r.index[series] = i
	r.count(&entry, 1)
	r.active.Store(int64(len(r.index)))
	return i
}

// count adds n to the number of series, of all and of a cgroup.
func (r *registry) count(entry *seriesEntry, n int) {
	if entry.isOverflow() {
		return
	}
	r.used += n
	r.cgroups[entry.cgroup] += n
	if r.cgroups[entry.cgroup] == 0 {
		delete(r.cgroups, entry.cgroup)
	}
}

// setCgroup has a series that was adopted belong to the cgroup of its first event here.
func (r *registry) setCgroup(entry *seriesEntry, cgroup uint64) {
	if entry.cgroup == unknownCgroup && !entry.isOverflow() {
		r.count(entry, -1)
		entry.cgroup = cgroup
		r.count(entry, 1)
	}
}

// adopt registers a series, whatever the limit, with this number if it is new here. It returns the series' number.
func (r *registry) adopt(number uint64, series bpf.Series, last uint64) uint64 {
	i, ok := r.index[series]
	if !ok {
		i = r.add(series, number, last, unknownCgroup)
	}
	r.entries[i].last = max(r.entries[i].last, last)
	return r.entries[i].number
}

// excess returns the entries that are more than there may be, those that were idle for longest.
func (r *registry) excess() []int32 {
	var entries []int32
	if r.used <= r.places() {
		return nil
	}
	for series, i := range r.index {
		if series.Flags&bpf.SeriesOverflow == 0 {
			entries = append(entries, i)
		}
	}
	slices.SortFunc(entries, func(a, b int32) int { return cmp.Compare(r.entries[a].last, r.entries[b].last) })
	return entries[:len(entries)-r.places()]
}

// ids returns what the series of entries are in the kernel, in a generation.
func (r *registry) ids(entries []int32, generation uint32) []bpf.SeriesID {
	ids := make([]bpf.SeriesID, len(entries))
	for i, entry := range entries {
		ids[i] = bpf.SeriesID{Number: r.entries[entry].number, Generation: generation}
	}
	return ids
}

// remove forgets entries. What was found before is then found anew: there may be room for it now.
func (r *registry) remove(entries []int32) {
	for _, i := range entries {
		delete(r.index, r.entries[i].series)
		r.count(&r.entries[i], -1)
		r.entries[i] = seriesEntry{}
		r.free = append(r.free, i)
	}
	if r.finder != nil {
		r.finder.cache.clear()
	}
	r.active.Store(int64(len(r.index)))
}
