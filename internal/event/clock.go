package event

import "go.opentelemetry.io/collector/pdata/pcommon"

// Clock converts the times of events, ns of the boot-time clock, to Unix time. The zero Clock takes them
// for Unix time as they are.
//
// The difference between the two clocks changes when the time of day is set or slewed: make a new Clock
// now and then in a process that runs for days.
type Clock struct {
	offset int64 // Unix time - boot time, ns
}

// NewClock reads the difference between the clocks. On other systems than Linux it is 0.
func NewClock() (Clock, error) {
	offset, err := bootOffset()
	return Clock{offset: offset}, err
}

// Unix converts a time of the boot-time clock in ns.
func (c Clock) Unix(bootNs uint64) pcommon.Timestamp {
	return pcommon.Timestamp(bootNs + uint64(c.offset))
}

// Now returns the boot-time clock in ns, the kernel's bpf_ktime_get_boot_ns(). On other systems than
// Linux it is 0.
func (Clock) Now() uint64 { return bootNow() }
