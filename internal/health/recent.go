package health

import (
	"fmt"
	"sync"
	"time"
)

// recentWindow is how long an error is remembered: longer than the longest pause between two tries of a delivery.
const recentWindow = time.Minute

// Recent makes a condition of an error that comes now and then: Check returns it until it has not come for a minute.
// The zero value is ready, and any number of goroutines may use it.
type Recent struct {
	mu    sync.Mutex
	err   error
	since time.Time
	last  time.Time
	times int
}

// Note remembers an error.
func (r *Recent) Note(now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.since, r.times = now, 0
	}
	r.err, r.last = err, now
	r.times++
}

// Check returns the last error that was noted, and how often one was, nil where none was for a minute.
func (r *Recent) Check(now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil && now.Sub(r.last) >= recentWindow {
		r.err = nil
	}
	if r.err == nil {
		return nil
	}
	return ofOrigin{fmt.Errorf("%w (%d times since %s)", r.err, r.times, r.since.Format(time.RFC3339)), r}
}
