package bpfaggregateconnector

import (
	"math"
	"math/bits"
	"time"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// maxRun is how many events go into one run: a delta counts them in 16 bits.
const maxRun = math.MaxUint16

// aggregator turns events into deltas of series and has the kernel add them: a batch's in one run, unless it has
// too many series for one. One goroutine at a time may use it.
type aggregator struct {
	stats      *bpf.Stats
	registries []*registry // by view
	now        func() time.Time
	buckets    *exponentialBuckets
	deltas     []bpf.Delta   // the kernel's
	counts     []bucketCount // by delta
	used       int           // deltas that have something
	spill      int           // further ones that their buckets need
	events     int           // in the deltas
	run        uint64        // number of the run
	generation uint8         // that new deltas belong to
	unenriched event.Context
}

// bucketCount counts the buckets of a delta. A bucket is found here at once, a delta has just those in use.
type bucketCount struct {
	count   [bpf.Buckets]uint16
	touched [(bpf.Buckets + 63) / 64]uint64 // bit n: bucket n has something
	size    int                             // how many have
}

func newAggregator(stats *bpf.Stats, registries []*registry, now func() time.Time) *aggregator {
	return &aggregator{
		stats: stats, registries: registries, now: now, buckets: newExponentialBuckets(),
		deltas: stats.Deltas(), counts: make([]bucketCount, bpf.MaxDeltas), run: 1, generation: stats.Current().Number,
	}
}

// add adds the events of a batch. On an error a part of it may be in the totals; if the batch comes again, as
// redelivered, that part is recognised.
func (a *aggregator) add(batch event.Batch) error {
	n, first := batch.Len(), 0
	if batch.Redelivered {
		first = a.stats.Settled(batch.Source, batch.Sequence, n)
	}
	if first == n {
		return nil
	}
	plain, enriched, err := views(batch)
	if err != nil {
		return err
	}
	now := event.Clock{}.Now()
	for i := first; i < n; i++ {
		if a.used+a.spill+len(a.registries) > bpf.MaxDeltas || a.events == maxRun {
			if err := a.flush(batch.Source, batch.Sequence+uint64(i)); err != nil {
				return err
			}
		}
		if enriched != nil {
			a.addEvent(&enriched[i].Event, &enriched[i].Context, now)
		} else {
			a.addEvent(&plain[i], &a.unenriched, now)
		}
	}
	return a.flush(batch.Source, batch.Sequence+uint64(n))
}

// views returns the events of a batch where they lie, in one of two slices.
func views(batch event.Batch) (plain []event.Event, enriched []event.Enriched, err error) {
	if batch.Enriched() {
		enriched, err = event.ViewEnriched(batch.Data)
	} else {
		plain, err = event.View(batch.Data)
	}
	return plain, enriched, err
}

func (a *aggregator) addEvent(e *event.Event, context *event.Context, now uint64) {
	a.events++
	for _, r := range a.registries {
		v := r.view
		if !v.matchesAll && !v.matcher.Match(e) {
			continue
		}
		slot := r.find(e, context)
		if !slot.hasDelta(a.run) {
			slot.setDelta(a.run, a.open(&r.entries[slot.series()], now))
		}
		i := slot.delta()
		delta := &a.deltas[i]
		delta.Events++
		delta.Bytes += e.Bytes
		ns := e.Duration
		if v.measure == ofLatency {
			ns = now - min(e.Time, now)
		} else if ns == 0 {
			continue // it has none
		}
		delta.Timed++
		delta.Duration += ns
		delta.Shortest = min(delta.Shortest, ns)
		delta.Longest = max(delta.Longest, ns)
		var bucket int
		if v.boundaries != nil {
			bucket = findBoundary(v.boundaries, ns)
		} else if bucket = a.buckets.find(ns); bucket == zeroBucket {
			continue
		}
		a.count(&a.counts[i], bucket)
	}
}

// open returns the delta of a series in this run.
func (a *aggregator) open(series *seriesEntry, now uint64) int32 {
	if series.run == a.run {
		return series.delta
	}
	series.run, series.delta, series.last = a.run, int32(a.used), now
	delta := &a.deltas[a.used]
	delta.Series = series.key
	delta.Series.Generation = a.generation
	delta.Events, delta.Bytes, delta.Timed, delta.Duration, delta.Shortest, delta.Longest, delta.Buckets = 0, 0, 0, 0, math.MaxUint64, 0, 0
	a.used++
	return series.delta
}

func (a *aggregator) count(c *bucketCount, bucket int) {
	if c.count[bucket] == 0 {
		c.touched[bucket/64] |= 1 << (bucket % 64)
		if c.size > 0 && c.size%bpf.MaxDeltaBuckets == 0 {
			a.spill++
		}
		c.size++
	}
	c.count[bucket]++
}

// flush has the kernel add the deltas, and note that the events before number next of the source are in.
func (a *aggregator) flush(source, next uint64) error {
	n := a.used
	for i := range a.used {
		n = a.writeBuckets(i, n)
	}
	err := a.stats.Add(n, source, next, a.events, a.now())
	if err == nil {
		a.countOverflow()
	}
	a.used, a.spill, a.events = 0, 0, 0
	a.run++
	return err
}

// writeBuckets moves the counts of delta i into it and, where they are too many, into further ones from end on. It
// returns the new end.
func (a *aggregator) writeBuckets(i, end int) int {
	counts, delta := &a.counts[i], &a.deltas[i]
	for word, touched := range counts.touched {
		for ; touched != 0; touched &= touched - 1 {
			if delta.Buckets == bpf.MaxDeltaBuckets {
				a.deltas[end] = bpf.Delta{Series: delta.Series}
				delta = &a.deltas[end]
				end++
			}
			bucket := word*64 + bits.TrailingZeros64(touched)
			delta.Bucket[delta.Buckets] = bpf.BucketDelta{Bucket: uint16(bucket), Count: counts.count[bucket]}
			delta.Buckets++
			counts.count[bucket] = 0
		}
		counts.touched[word] = 0
	}
	counts.size = 0
	return end
}

func (a *aggregator) countOverflow() {
	for i := range a.used {
		if delta := &a.deltas[i]; delta.Series.Flags&bpf.SeriesOverflow != 0 {
			for _, r := range a.registries {
				if r.view.number == delta.Series.View {
					r.overflowed.Add(delta.Events)
				}
			}
		}
	}
}
