package bpfaggregateconnector

import (
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
	// first is the lowest bucket of all durations with the same length in bits and the same three bits after
	// the first: they are within two buckets.
	first [64 * 8]uint16
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
	for slot := range b.first {
		length, next := slot/8, uint64(slot%8)
		lowest := (8 | next) << max(length-3, 0) >> max(3-length, 0) // the shortest duration of the slot
		i, _ := slices.BinarySearch(b.upper[:], lowest)
		b.first[slot] = uint16(min(i, bpf.Buckets-1))
	}
	return b
}

// find returns the bucket of a duration in ns.
func (b *exponentialBuckets) find(ns uint64) int {
	if ns == 0 {
		return zeroBucket
	}
	length := bits.Len64(ns) - 1
	next := ns << (63 - length) >> 60 & 7
	i := int(b.first[length*8+int(next)])
	for i < bpf.Buckets-1 && ns > b.upper[i] {
		i++
	}
	return i
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
