package bpfaggregateconnector

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/kernelpipe/kernelpipe/bpf"
)

func windowed() *view {
	return &view{intervals: 3, metrics: []definition{{kind: Rate, intervals: 3}, {kind: Quantiles, intervals: 2}}}
}

func entry(events, zeros uint64, buckets map[int]uint64) *bpf.Entry {
	e := &bpf.Entry{Totals: bpf.Totals{Since: 1000, Events: events, Timed: zeros}}
	for i, n := range buckets {
		e.Totals.Bucket[i] = n
		e.Totals.Timed += n
	}
	return e
}

func TestHistoryOfCumulativeTotals(t *testing.T) {
	h := newHistory(windowed())
	series := bpf.SeriesID{Number: 1}
	h.skip(series, entry(1000, 0, map[int]uint64{7: 1000})) // by an earlier process: not of this window
	g := h.of(series, nil)
	assert.Zero(t, h.rate(g, 3), "there is no interval yet")

	h.begin(10 * time.Second)
	h.observe(series, entry(1100, 1, map[int]uint64{7: 1050, 9: 49}))
	assert.InEpsilon(t, 10, h.rate(g, 3), 1e-9, "the window is not full: it is over what there was")
	zeros, buckets := h.sum(g, 2)
	assert.EqualValues(t, 1, zeros)
	assert.EqualValues(t, 50, buckets[7])
	assert.EqualValues(t, 49, buckets[9])

	h.begin(20 * time.Second) // late
	h.observe(series, entry(1200, 1, map[int]uint64{7: 1150, 9: 49}))
	h.begin(10 * time.Second)
	h.observe(series, entry(1200, 1, map[int]uint64{7: 1150, 9: 49}))
	assert.InEpsilon(t, 5, h.rate(g, 3), 1e-9)
	assert.InEpsilon(t, 100.0/30, h.rate(g, 2), 1e-9)
	h.begin(10 * time.Second)
	h.observe(series, entry(1200, 1, map[int]uint64{7: 1150, 9: 49}))
	assert.InEpsilon(t, 2.5, h.rate(g, 3), 1e-9, "the first interval is out of the window")
	zeros, buckets = h.sum(g, 2)
	assert.Zero(t, zeros)
	assert.Zero(t, buckets)

	later := bpf.SeriesID{Number: 2} // its first event came in this interval
	h.observe(later, entry(30, 0, nil))
	assert.InEpsilon(t, 0.75, h.rate(h.of(later, nil), 3), 1e-9)
	h.remove([]bpf.SeriesID{series})
	assert.Len(t, h.series, 1)
}

func TestHistoryOfDeltas(t *testing.T) {
	h := newHistory(windowed())
	for generation := range uint32(3) {
		h.begin(10 * time.Second)
		h.observe(bpf.SeriesID{Number: 1, Generation: generation}, entry(50, 0, map[int]uint64{3: 50}))
		h.restart() // the next interval begins
	}
	assert.Len(t, h.series, 1, "generations are one series")
	g := h.of(bpf.SeriesID{Number: 1}, nil)
	assert.InEpsilon(t, 5, h.rate(g, 3), 1e-9)
	_, buckets := h.sum(g, 2)
	assert.EqualValues(t, 100, buckets[3])
	h.begin(10 * time.Second) // nothing came
	assert.InEpsilon(t, 100.0/30, h.rate(g, 3), 1e-9)
}

// A series that somebody has removed from the kernel begins anew.
func TestHistoryOfRemovedSeries(t *testing.T) {
	h := newHistory(windowed())
	series := bpf.SeriesID{Number: 1}
	h.begin(10 * time.Second)
	h.observe(series, entry(50, 0, map[int]uint64{3: 50}))
	again := entry(60, 0, map[int]uint64{4: 60})
	again.Totals.Since++
	h.begin(10 * time.Second)
	h.observe(series, again)
	g := h.of(series, nil)
	assert.InEpsilon(t, 110.0/20, h.rate(g, 3), 1e-9)
	zeros, buckets := h.sum(g, 2)
	assert.Zero(t, zeros)
	assert.Equal(t, []uint64{50, 60}, buckets[3:5])
}
