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
	registries []*registry
	finders    []*finder
	now        func() time.Time
	buckets    *exponentialBuckets
	accounts   []account   // of this run
	owners     []*registry // of the accounts
	overflows  []int32     // accounts of overflow series
	used       int         // accounts
	counted    int         // events in the buckets of all accounts
	events     int         // of this run
	run        uint64      // its number
	generation uint32      // of the kernel's series; see begin
	epoch      uint64      // series that are known to be in the kernel have the same
	deltas     []bpf.Delta // the kernel's: what the accounts are written to
	newcomers  []bpf.Series
	unenriched event.Context
}

// account is what a series has in this run. What every event changes lies side by side.
type account struct {
	events, bytes, timed, duration, shortest, longest uint64
	touched                                           [(bpf.Buckets + 63) / 64]uint64 // bit n: bucket n has something
	count                                             [bpf.Buckets]uint16
}

func newAggregator(stats *bpf.Stats, registries []*registry, now func() time.Time) *aggregator {
	a := &aggregator{
		stats: stats, registries: registries, finders: newFinders(registries), now: now, buckets: newExponentialBuckets(),
		accounts: make([]account, bpf.MaxDeltas), owners: make([]*registry, bpf.MaxDeltas), run: firstRun,
		generation: stats.Current().Number, epoch: 1, deltas: stats.Deltas(), newcomers: stats.Newcomers(),
	}
	for i := range a.accounts {
		a.accounts[i].clear()
	}
	return a
}

// add adds the events of a batch. On an error a part of it may be in the totals; if the batch comes again, as
// redelivered, that part is recognised.
func (a *aggregator) add(batch event.Batch) error {
	n, first := batch.Len(), 0
	if batch.Redelivered {
		var err error
		if first, err = a.stats.Settled(batch.Source, batch.Sequence, n); err != nil {
			return err
		}
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
		if a.full() {
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

// full reports whether the deltas may have no room for another event. A series takes one delta, and further ones where it
// has more buckets than fit in one: no more than there are events for, and no more than there are buckets.
func (a *aggregator) full() bool {
	used, counted := a.used+len(a.registries), a.counted+len(a.registries)
	further := min(counted/bpf.MaxDeltaBuckets, used*(bpf.Buckets/bpf.MaxDeltaBuckets))
	return used+further > bpf.MaxDeltas || a.events == maxRun
}

func (a *aggregator) addEvent(e *event.Event, context *event.Context, now uint64) {
	a.events++
	for _, f := range a.finders {
		if !f.matches(e) {
			continue
		}
		slot := f.find(e, context)
		if !slot.hasAccounts(a.run) {
			for i, r := range f.registries {
				slot.setAccount(i, a.open(r, slot.series(i), now))
			}
			slot.setRun(a.run)
		}
		for i, r := range f.registries {
			a.addTo(&a.accounts[slot.account(i)], r.view, e, now)
		}
	}
}

// addTo adds an event to the account of a series.
func (a *aggregator) addTo(account *account, v *view, e *event.Event, now uint64) {
	account.events++
	account.bytes += e.Bytes
	ns := e.Duration
	if v.measure == ofLatency {
		ns = now - min(e.Time, now)
	} else if ns == 0 {
		return // it has none
	}
	account.timed++
	if account.duration += ns; account.duration < ns {
		account.duration = math.MaxUint64
	}
	account.shortest = min(account.shortest, ns)
	account.longest = max(account.longest, ns)
	var bucket int
	if v.boundaries != nil {
		bucket = findBoundary(v.boundaries, ns)
	} else if bucket = a.buckets.find(ns); bucket == zeroBucket {
		return
	}
	a.counted++
	account.touched[uint(bucket)/64] |= 1 << (uint(bucket) % 64)
	account.count[bucket]++
}

// begin begins a generation: all series are to be made in the kernel anew.
func (a *aggregator) begin(generation uint32) {
	a.generation = generation
	a.epoch++
}

// open returns the account of a series in this run.
func (a *aggregator) open(r *registry, entry int32, now uint64) int32 {
	series := &r.entries[entry]
	if series.run == a.run {
		return series.account
	}
	account := int32(a.used)
	a.used++
	series.run, series.account, series.last = a.run, account, now
	a.owners[account] = r
	if series.series.Flags&bpf.SeriesOverflow != 0 {
		a.overflows = append(a.overflows, account)
	}
	delta := &a.deltas[account]
	delta.ID = bpf.SeriesID{Number: series.number, Generation: a.generation}
	delta.State = bpf.DeltaKnown
	if series.epoch != a.epoch {
		series.epoch = a.epoch
		delta.State, a.newcomers[account] = bpf.DeltaNew, series.series
	}
	return account
}

// flush has the kernel add what the accounts have, and note that the events before number next of the source are in.
func (a *aggregator) flush(source, next uint64) error {
	n := a.used
	for i := range a.used {
		n = a.write(i, n)
	}
	lost, err := a.stats.Add(n, source, next, a.events, a.now())
	if err == nil {
		for _, i := range a.overflows {
			a.owners[i].overflowed.Add(a.deltas[i].Events)
		}
	}
	if lost > 0 {
		a.countLost()
	}
	if err != nil || lost > 0 {
		a.epoch++ // what the kernel has is known no more
	}
	a.used, a.overflows, a.counted, a.events = 0, a.overflows[:0], 0, 0
	a.run++
	return err
}

// countLost counts the events of series that were removed from the kernel by somebody else.
func (a *aggregator) countLost() {
	for i := range a.used {
		if a.deltas[i].State == bpf.DeltaLost {
			a.owners[i].lost.Add(a.deltas[i].Events)
		}
	}
}

// write moves account i to delta i and, where it has too many buckets for one, to further ones from end on. It returns
// the new end.
func (a *aggregator) write(i, end int) int {
	account, delta := &a.accounts[i], &a.deltas[i]
	delta.Events, delta.Bytes, delta.Timed, delta.Duration = account.events, account.bytes, account.timed, account.duration
	delta.Shortest, delta.Longest, delta.Buckets = account.shortest, account.longest, 0
	for word, touched := range account.touched {
		for ; touched != 0; touched &= touched - 1 {
			if delta.Buckets == bpf.MaxDeltaBuckets {
				a.deltas[end] = bpf.Delta{ID: delta.ID, State: bpf.DeltaKnown}
				delta = &a.deltas[end]
				end++
			}
			bucket := word*64 + bits.TrailingZeros64(touched)
			delta.Bucket[delta.Buckets] = bpf.BucketDelta{Bucket: uint16(bucket), Count: account.count[bucket]}
			delta.Buckets++
			account.count[bucket] = 0
		}
	}
	account.clear()
	return end
}

// clear empties an account whose buckets are empty already.
func (a *account) clear() {
	a.events, a.bytes, a.timed, a.duration, a.shortest, a.longest = 0, 0, 0, 0, math.MaxUint64, 0
	a.touched = [len(a.touched)]uint64{}
}
