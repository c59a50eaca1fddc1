package event

import (
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/kernelpipe/kernelpipe/internal/boottime"
)

// Clock converts the times of events, ns of the boot-time clock, to Unix time. The zero Clock takes them
// for Unix time as they are.
//
// The difference between the two clocks changes when the time of day is set or slewed, so a process that runs for
// days takes its Clock from Clocks.
type Clock struct {
	offset int64 // Unix time - boot time, ns
}

// NewClock reads the difference between the clocks. On other systems than Linux it is 0.
func NewClock() (Clock, error) {
	offset, err := bootOffset()
	return Clock{offset: offset}, err
}

// Unix converts a time of the boot-time clock in ns, and one that can't be as the nearest that can.
func (c Clock) Unix(bootNs uint64) pcommon.Timestamp {
	return pcommon.Timestamp(max(int64(min(bootNs, MaxTime))+c.offset, 0))
}

// Now returns the boot-time clock in ns, the kernel's bpf_ktime_get_boot_ns(). On other systems than
// Linux it is 0.
func (Clock) Now() uint64 { return boottime.Now() }

// clockAge is how long a comparison of the two clocks is good for. It takes 30 system calls.
const clockAge = 10 * time.Second

// Clocks gives out a Clock that is at most 10 s old. It is for any number of goroutines; the zero value is ready.
type Clocks struct {
	last atomic.Pointer[clockReading]
}

type clockReading struct {
	clock Clock
	at    time.Time
}

// Get returns the last Clock or, where that is too old, a new one. Its error is NewClock's.
func (c *Clocks) Get() (Clock, error) {
	now := time.Now()
	if last := c.last.Load(); last != nil && now.Sub(last.at) < clockAge {
		return last.clock, nil
	}
	clock, err := NewClock()
	if err == nil {
		c.last.Store(&clockReading{clock: clock, at: now})
	}
	return clock, err
}
