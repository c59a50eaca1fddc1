package health

import "time"

// Limit keeps what happens often from filling the log. Its zero value is ready.
type Limit struct {
	last    time.Time
	pending uint64
}

// limitInterval is the least time between two lines of one Limit.
const limitInterval = 10 * time.Second

// Add counts events, and returns those that were not logged yet, if it is time to: 0 means not now.
func (l *Limit) Add(now time.Time, events int) uint64 {
	l.pending += uint64(events)
	if now.Sub(l.last) < limitInterval {
		return 0
	}
	pending := l.pending
	l.last, l.pending = now, 0
	return pending
}
