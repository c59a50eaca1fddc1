package event

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/boottime"
)

// How often the clocks are compared; the comparison that took the least time counts.
const comparisons = 10

// bootOffset returns CLOCK_REALTIME - the kernel's boot-time clock. Realtime is read between two readings of boottime and
// taken to be in the middle, so the error is at most half of their distance.
func bootOffset() (int64, error) {
	ahead, err := boottime.Offset()
	if err != nil {
		return 0, err
	}
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
	return offset + ahead, nil
}
