package event

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// How often the clocks are compared; the comparison that took the least time counts.
const comparisons = 10

// bootOffset returns CLOCK_REALTIME - CLOCK_BOOTTIME. Realtime is read between two readings of boottime and
// taken to be in the middle, so the error is at most half of their distance.
func bootOffset() (int64, error) {
	var offset int64
	best := int64(-1)
	for range comparisons {
		var before, real, after unix.Timespec
		for _, reading := range []struct {
			clock int32
			time  *unix.Timespec
		}{{unix.CLOCK_BOOTTIME, &before}, {unix.CLOCK_REALTIME, &real}, {unix.CLOCK_BOOTTIME, &after}} {
			if err := unix.ClockGettime(reading.clock, reading.time); err != nil {
				return 0, fmt.Errorf("read clock %d to convert event times: %w", reading.clock, err)
			}
		}
		if distance := after.Nano() - before.Nano(); best < 0 || distance < best {
			best = distance
			offset = real.Nano() - (before.Nano() + distance/2)
		}
	}
	return offset, nil
}

func bootNow() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil { // only for a clock that the kernel lacks, and it has had this one since 2.6.39
		return 0
	}
	return uint64(now.Nano())
}
