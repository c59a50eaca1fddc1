package bpfaggregateconnector

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// seconds converts a duration in ns to the unit of durations outside. It divides, so that 100 ns are 1e-7 exactly.
func seconds(ns uint64) float64 { return float64(ns) / 1e9 }

// fillExponential makes totals a point of an exponential histogram of at most the configured size and scale.
func fillExponential(p pmetric.ExponentialHistogramDataPoint, totals *bpf.Totals, shape HistogramConfig) {
	p.SetCount(totals.Timed)
	p.SetSum(seconds(totals.Duration))
	p.SetMin(seconds(totals.Shortest))
	p.SetMax(seconds(totals.Longest))
	first, last, inBuckets := usedBuckets(&totals.Bucket)
	p.SetZeroCount(totals.Timed - inBuckets)
	p.SetScale(int32(shape.MaxScale))
	if inBuckets == 0 {
		return
	}
	// Two buckets of a scale are one of the scale below: the index loses its lowest bit.
	shift := bpf.BucketScale - shape.MaxScale
	index := func(i int) int { return (i + bpf.BucketOffset) >> shift }
	for index(last)-index(first) >= shape.MaxSize {
		shift++
	}
	p.SetScale(int32(bpf.BucketScale - shift))
	p.Positive().SetOffset(int32(index(first)))
	counts := make([]uint64, index(last)-index(first)+1)
	for i := first; i <= last; i++ {
		counts[index(i)-index(first)] += totals.Bucket[i]
	}
	p.Positive().BucketCounts().FromRaw(counts)
}

// usedBuckets returns the first and the last bucket that have something, and what all have together.
func usedBuckets(buckets *[bpf.Buckets]uint64) (first, last int, sum uint64) {
	first = -1
	for i, n := range buckets {
		if n == 0 {
			continue
		}
		if first < 0 {
			first = i
		}
		last = i
		sum += n
	}
	return first, last, sum
}

// fillExplicit makes totals of a view with boundaries a point of a histogram.
func fillExplicit(p pmetric.HistogramDataPoint, totals *bpf.Totals, boundaries []uint64) {
	p.SetCount(totals.Timed)
	p.SetSum(seconds(totals.Duration))
	p.SetMin(seconds(totals.Shortest))
	p.SetMax(seconds(totals.Longest))
	bounds := make([]float64, len(boundaries))
	for i, boundary := range boundaries {
		bounds[i] = seconds(boundary)
	}
	p.ExplicitBounds().FromRaw(bounds)
	p.BucketCounts().FromRaw(totals.Bucket[:len(boundaries)+1])
}

// quantile returns the q-quantile in seconds of what the buckets count and of zeros, of which there is something.
// Within a bucket it interpolates as the buckets grow, exponentially, so it is off by at most a bucket's width:
// a factor of 2^(1/8).
func quantile(q float64, zeros uint64, buckets *[bpf.Buckets]uint64) float64 {
	total := zeros
	for _, n := range buckets {
		total += n
	}
	rank := q * float64(total)
	if rank <= float64(zeros) && zeros > 0 {
		return 0
	}
	before := float64(zeros)
	last := 0
	for i, n := range buckets {
		if n == 0 {
			continue
		}
		last = i
		if rank <= before+float64(n) {
			return bucketEnd(float64(i) + (rank-before)/float64(n))
		}
		before += float64(n)
	}
	return bucketEnd(float64(last + 1)) // the sum was rounded
}

// bucketEnd returns the lower end of bucket i in seconds.
func bucketEnd(i float64) float64 {
	return math.Exp2((i + bpf.BucketOffset) / (1 << bpf.BucketScale))
}

// bucketCounts is some buckets and their counts.
type bucketCounts []struct {
	bucket uint16
	count  uint64
}

// gained returns the buckets of now that have more than before, and by how much, in memory of room.
func gained(now, before *[bpf.Buckets]uint64, room bucketCounts) bucketCounts {
	room = room[:0]
	for i := range now {
		if n := now[i] - before[i]; n != 0 {
			room = append(room, struct {
				bucket uint16
				count  uint64
			}{uint16(i), n})
		}
	}
	return room
}
