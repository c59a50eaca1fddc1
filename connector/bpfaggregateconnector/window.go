package bpfaggregateconnector

import (
	"time"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// history is what the series of a view gained in each of the last intervals, as far back as the longest window of
// its metrics. It is in the process: a new one begins a new window.
type history struct {
	view    *view
	buckets bool // of interest
	turn    int  // the interval at hand, modulo the number that is kept
	spans   []time.Duration
	series  map[uint64]*gains // by bpf.SeriesID.Number: generations are of no interest here
}

// gains is what a series gained, by interval.
type gains struct {
	series  bpf.Series
	events  []uint64
	zeros   []uint64
	buckets []bucketCounts
	// What of the totals was gained before this interval, or before this process began.
	lastSince             uint64 // the totals' Since; 0: there is nothing of that kind
	lastEvents, lastTimed uint64
	lastBuckets           *[bpf.Buckets]uint64
}

// newHistory returns nil where no metric of the view looks back.
func newHistory(v *view) *history {
	if v.intervals == 0 {
		return nil
	}
	h := &history{view: v, spans: make([]time.Duration, v.intervals), series: map[uint64]*gains{}}
	for _, m := range v.metrics {
		h.buckets = h.buckets || m.kind == Quantiles
	}
	return h
}

// of returns the gains of a series.
func (h *history) of(id bpf.SeriesID, series *bpf.Series) *gains {
	g := h.series[id.Number]
	if g == nil {
		g = &gains{series: *series, events: make([]uint64, h.view.intervals)}
		if h.buckets {
			g.zeros, g.buckets = make([]uint64, h.view.intervals), make([]bucketCounts, h.view.intervals)
			g.lastBuckets = &[bpf.Buckets]uint64{}
		}
		h.series[id.Number] = g
	}
	return g
}

// begin begins an interval that has lasted for span: all gains of it are none until observed.
func (h *history) begin(span time.Duration) {
	h.turn = (h.turn + 1) % h.view.intervals
	h.spans[h.turn] = span
	for _, g := range h.series {
		g.events[h.turn] = 0
		if h.buckets {
			g.zeros[h.turn], g.buckets[h.turn] = 0, g.buckets[h.turn][:0]
		}
	}
}

// observe notes the totals of a series at the end of the interval.
func (h *history) observe(id bpf.SeriesID, entry *bpf.Entry) {
	g, totals := h.of(id, &entry.Series), &entry.Totals
	if g.lastSince != totals.Since {
		g.forget() // somebody has removed it from the kernel, and it began anew
	}
	g.events[h.turn] = totals.Events - g.lastEvents
	if h.buckets {
		g.buckets[h.turn] = gained(&totals.Bucket, g.lastBuckets, g.buckets[h.turn])
		var inBuckets uint64
		for _, b := range g.buckets[h.turn] {
			inBuckets += b.count
		}
		g.zeros[h.turn] = totals.Timed - g.lastTimed - inBuckets
	}
	g.forget()
	g.skip(totals)
}

// skip leaves what a series has out of what it gains from now on: it was gained before.
func (h *history) skip(id bpf.SeriesID, entry *bpf.Entry) {
	h.of(id, &entry.Series).skip(&entry.Totals)
}

// restart has the totals of all series begin at 0.
func (h *history) restart() {
	for _, g := range h.series {
		g.forget()
	}
}

func (g *gains) skip(totals *bpf.Totals) {
	if g.lastSince == 0 || totals.Since < g.lastSince { // as when totals move in the kernel
		g.lastSince = totals.Since
	}
	g.lastEvents += totals.Events
	g.lastTimed += totals.Timed
	if g.lastBuckets != nil {
		for i, n := range &totals.Bucket {
			g.lastBuckets[i] += n
		}
	}
}

func (g *gains) forget() {
	g.lastSince, g.lastEvents, g.lastTimed = 0, 0, 0
	if g.lastBuckets != nil {
		*g.lastBuckets = [bpf.Buckets]uint64{}
	}
}

func (h *history) remove(ids []bpf.SeriesID) {
	for _, id := range ids {
		delete(h.series, id.Number)
	}
}

// last calls visit with the index of each of the last n intervals.
func (h *history) last(n int, visit func(turn int)) {
	for i := range n {
		visit((h.turn - i + h.view.intervals) % h.view.intervals)
	}
}

// rate returns the events per second of the last n intervals; those before the start have no length and no events.
func (h *history) rate(g *gains, n int) float64 {
	var events uint64
	var span time.Duration
	h.last(n, func(turn int) {
		events += g.events[turn]
		span += h.spans[turn]
	})
	if span <= 0 {
		return 0
	}
	return float64(events) / span.Seconds()
}

// sum adds up the buckets of the last n intervals.
func (h *history) sum(g *gains, n int) (zeros uint64, buckets [bpf.Buckets]uint64) {
	h.last(n, func(turn int) {
		zeros += g.zeros[turn]
		for _, b := range g.buckets[turn] {
			buckets[b.bucket] += b.count
		}
	})
	return zeros, buckets
}
