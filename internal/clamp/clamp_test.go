package clamp

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestInt64(t *testing.T) {
	for n, want := range map[uint64]int64{0: 0, 1: 1, math.MaxInt64: math.MaxInt64, 1 << 63: math.MaxInt64, math.MaxUint64: math.MaxInt64} {
		assert.Equal(t, want, Int64(n), n)
	}
}
