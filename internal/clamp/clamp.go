// Package clamp turns what the kernel counts into what telemetry can report.
package clamp

import "math"

// Int64 returns n, and of more than an int64 can be the most that it can. Pinned counters can be forged, and none of them is
// to be seen as negative.
func Int64(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
