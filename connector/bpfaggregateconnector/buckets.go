package bpfaggregateconnector

import (
	"math"
	"math/big"
	"math/bits"
	"slices"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// zeroBucket is what durations of 0 count in: it is the difference of Totals.Timed and all buckets.
const zeroBucket = -1

// exponentialBuckets finds the bucket of a duration in the scheme of bpf/c/stats.h, exactly: a bucket's upper
// end is part of it, and the ends are not whole nanoseconds, so their whole parts decide.
type exponentialBuckets struct {
	upper [bpf.Buckets]uint64 // ns: the longest duration of the bucket
	// first is the lower bucket of all durations with the same length in bits and the same four bits after the first: they
	// are in this bucket and the next.
	first [64 * 16]uint16
}

func newExponentialBuckets() *exponentialBuckets {
	b := &exponentialBuckets{}
	const precision = 256 // bits: far more than the 64 of a duration
	number := func(n int64) *big.Float { return new(big.Float).SetPrec(precision).SetInt64(n) }
	step := number(2) // 2^(1/8), by three square roots
	for range bpf.BucketScale {
		step.Sqrt(step)
	}
	for i := range b.upper {
		// 2^((i+1+offset)/8) s: the whole part of the exponent is exact.
		exponent := i + 1 + bpf.BucketOffset
		end := number(1e9)
		for range exponent & (1<<bpf.BucketScale - 1) {
			end.Mul(end, step)
		}
		end.SetMantExp(end, exponent>>bpf.BucketScale)
		b.upper[i], _ = end.Uint64()
	}
	b.upper[bpf.Buckets-1] = math.MaxUint64 // the last one takes all that is longer
	for slot := range b.first {
		length, next := slot/16, uint64(slot%16)
		lowest := (16 | next) << max(length-4, 0) >> max(4-length, 0) // the shortest duration of the slot
		i, _ := slices.BinarySearch(b.upper[:], lowest)
		b.first[slot] = uint16(i)
	}
	return b
}

// find returns the bucket of a duration in ns.
func (b *exponentialBuckets) find(ns uint64) int {
	if ns == 0 {
		return zeroBucket
	}
	length := bits.Len64(ns) - 1
	next := ns << (63 - length) >> 59 & 15
	i := b.first[length*16+int(next)]
	_, isNext := bits.Sub64(b.upper[i], ns, 0) // no branch: it would be taken at random
	return int(i) + int(isNext)
}

// findBoundary returns the explicit bucket of a duration: the first whose boundary is not below it.
func findBoundary(boundaries []uint64, ns uint64) int {
	low, high := 0, len(boundaries)
	for low < high {
		if middle := int(uint(low+high) / 2); boundaries[middle] < ns {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}
