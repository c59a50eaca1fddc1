package bpfaggregateconnector

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// above reports whether ns > 2^(index/8) s, by whole numbers: both sides to the power of 8.
func above(ns uint64, index int) bool {
	left := new(big.Int).Exp(new(big.Int).SetUint64(ns), big.NewInt(8), nil)
	right := new(big.Int).Exp(big.NewInt(1e9), big.NewInt(8), nil)
	if index < 0 {
		left.Lsh(left, uint(-index))
	} else {
		right.Lsh(right, uint(index))
	}
	return left.Cmp(right) > 0
}

func TestExponentialBucketsAreExact(t *testing.T) {
	buckets := newExponentialBuckets()
	check := func(ns uint64) {
		i := buckets.find(ns)
		index := i + bpf.BucketOffset
		if !above(ns, index) || i < bpf.Buckets-1 && above(ns, index+1) {
			t.Errorf("%d ns is in bucket %d", ns, i)
		}
	}
	for _, upper := range buckets.upper[:bpf.Buckets-1] {
		check(upper)
		check(upper + 1)
	}
	for ns := range uint64(2000) {
		check(ns + 1)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		check(max(1, r.Uint64()>>r.IntN(64)))
	}
	assert.Equal(t, zeroBucket, buckets.find(0))
	assert.Zero(t, buckets.find(1))
	assert.Equal(t, bpf.Buckets-1, buckets.find(math.MaxUint64))
	assert.Equal(t, -1-bpf.BucketOffset, buckets.find(uint64(time.Second)), "a power of two is the upper end of its bucket")
}

func TestFindBoundary(t *testing.T) {
	boundaries := []uint64{0, 10, 20, 30}
	for ns, want := range map[uint64]int{0: 0, 1: 1, 10: 1, 11: 2, 30: 3, 31: 4, math.MaxUint64: 4} {
		assert.Equal(t, want, findBoundary(boundaries, ns), ns)
	}
	assert.Zero(t, findBoundary(nil, 5))
}

// totalsOf adds durations up as the kernel does.
func totalsOf(durations []uint64) *bpf.Totals {
	totals := &bpf.Totals{Timed: uint64(len(durations)), Shortest: math.MaxUint64}
	buckets := newExponentialBuckets()
	for _, ns := range durations {
		totals.Duration += ns
		totals.Shortest, totals.Longest = min(totals.Shortest, ns), max(totals.Longest, ns)
		if i := buckets.find(ns); i != zeroBucket {
			totals.Bucket[i]++
		}
	}
	return totals
}

// distributions are durations as they come in life, in ns, and as they don't.
func distributions(n int) map[string][]uint64 {
	r := rand.New(rand.NewPCG(7, 7))
	make := func(next func() float64) []uint64 {
		durations := make([]uint64, n)
		for i := range durations {
			durations[i] = uint64(next())
		}
		return durations
	}
	return map[string][]uint64{
		"exponential": make(func() float64 { return r.ExpFloat64() * 1e6 }),
		"log_normal":  make(func() float64 { return math.Exp(r.NormFloat64()*2 + 12) }),
		"uniform":     make(func() float64 { return r.Float64() * 1e9 }),
		"two_modes":   make(func() float64 { return 1e3 + r.Float64()*100 + float64(r.IntN(2))*1e9 }),
		"one_value":   make(func() float64 { return 12345 }),
		"with_zeros":  make(func() float64 { return max(0, r.NormFloat64()) * 1e5 }),
		"all_scales":  make(func() float64 { return math.Exp2(r.Float64() * 56) }),
	}
}

// TestExponentialHistogram counts the durations in each bucket of the point anew, by its scale and offset.
func TestExponentialHistogram(t *testing.T) {
	for name, durations := range distributions(5000) {
		totals := totalsOf(durations)
		for _, shape := range []HistogramConfig{
			{MaxSize: 160, MaxScale: 3}, {MaxSize: 448, MaxScale: 3}, {MaxSize: 20, MaxScale: 3}, {MaxSize: 2, MaxScale: 3}, {MaxSize: 160, MaxScale: 0}, {MaxSize: 160, MaxScale: -10},
		} {
			p := pmetric.NewExponentialHistogramDataPoint()
			fillExponential(p, totals, shape)
			assert.LessOrEqual(t, p.Scale(), int32(shape.MaxScale))
			assert.LessOrEqual(t, p.Positive().BucketCounts().Len(), shape.MaxSize)
			if p.Scale() < int32(shape.MaxScale) {
				assert.Greater(t, 2*p.Positive().BucketCounts().Len()+1, shape.MaxSize, "%s: the scale is lower than need be", name)
			}
			var zeros uint64
			var sum float64
			want := make([]uint64, p.Positive().BucketCounts().Len())
			for _, ns := range durations {
				sum += float64(ns) / 1e9
				if ns == 0 {
					zeros++
					continue
				}
				// The bucket of the point's scale that holds it, by the definition.
				index := int(math.Ceil(math.Log2(float64(ns)/1e9)*math.Exp2(float64(p.Scale())))) - 1
				i := index - int(p.Positive().Offset())
				i = max(0, min(i, len(want)-1)) // where the logarithm is off by a hair
				want[i]++
			}
			assert.Equal(t, uint64(len(durations)), p.Count(), name)
			assert.Equal(t, zeros, p.ZeroCount(), name)
			assert.InEpsilon(t, sum, p.Sum(), 1e-9, name)
			assert.InDelta(t, float64(slices.Min(durations))/1e9, p.Min(), 1e-18, name)
			assert.InDelta(t, float64(slices.Max(durations))/1e9, p.Max(), 1e-6, name)
			assert.Equal(t, want, p.Positive().BucketCounts().AsRaw(), "%s %+v", name, shape)
		}
	}
	p := pmetric.NewExponentialHistogramDataPoint()
	fillExponential(p, totalsOf([]uint64{0, 0}), HistogramConfig{MaxSize: 160, MaxScale: 3})
	assert.EqualValues(t, 2, p.ZeroCount())
	assert.Zero(t, p.Positive().BucketCounts().Len())
}

// TestQuantiles holds them against those of the sorted durations: an error of one bucket at most.
func TestQuantiles(t *testing.T) {
	width := math.Exp2(1.0 / (1 << bpf.BucketScale))
	for name, durations := range distributions(10_000) {
		totals := totalsOf(durations)
		_, _, inBuckets := usedBuckets(&totals.Bucket)
		zeros := totals.Timed - inBuckets
		slices.Sort(durations)
		for _, q := range []float64{0, 0.001, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1} {
			exact := float64(durations[max(0, int(math.Ceil(q*float64(len(durations))))-1)]) / 1e9
			got := quantile(q, zeros, &totals.Bucket)
			if exact == 0 {
				assert.Zero(t, got, "%s: %v", name, q)
				continue
			}
			ratio := got / exact
			assert.LessOrEqual(t, max(ratio, 1/ratio), width+1e-9, "%s: the %v-quantile is %v, exactly it is %v", name, q, got, exact)
		}
	}
	var none [bpf.Buckets]uint64
	assert.Zero(t, quantile(0.5, 3, &none))
	require.Zero(t, quantile(1, 3, &none))
}

func BenchmarkFindBucket(b *testing.B) {
	buckets := newExponentialBuckets()
	durations := distributions(4096)["log_normal"]
	i := 0
	for b.Loop() {
		buckets.find(durations[i%4096])
		i++
	}
}
