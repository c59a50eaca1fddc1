package health

import "fmt"

// Depth judges how full a queue is from one look to the next. Its zero value is ready.
type Depth struct {
	deep int // looks since it became too full
}

// Check returns an error when what is used is more than a part of the capacity, at a second look too: once may be a
// burst, or a look in the middle of a delivery. what says what waits, such as "events wait in a queue for".
func (d *Depth) Check(used, capacity uint64, maxRatio float64, what string) error {
	if float64(used) <= maxRatio*float64(capacity) {
		d.deep = 0
		return nil
	}
	if d.deep++; d.deep == 1 {
		return nil
	}
	return ofOrigin{fmt.Errorf("%d %s %d, more than max_depth_ratio %v allows: they are taken out too slowly",
		used, what, capacity, maxRatio), d}
}
