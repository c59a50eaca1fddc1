package health

import (
	"errors"
	"fmt"
	"time"
)

// Counter counts the events that are lost in one way.
type Counter struct {
	// Unit is what is counted; empty: events.
	Unit string
	// Lost says what happened to the events and where: "were dropped", "of metric x went to the overflow series".
	Lost string
	// Remedy says what to do about it, such as which setting to change; empty: nothing is suggested.
	Remedy string
	// Tolerated losses are in the log only, however many there are: they are a known limit.
	Tolerated bool
	// Read returns how many events were lost until now, or 0 if that can't be told. It may be called until Watch has
	// returned.
	Read func() uint64
}

// Losses judges counters from one look to the next. What they count before NewLosses does not matter.
type Losses struct {
	config   Config
	counters []counter
}

type counter struct {
	Counter
	seen   uint64 // at the last look
	recent []loss // those that are remembered, oldest first: at most maxLosses
}

type loss struct {
	at     time.Time
	events uint64
}

// maxLosses bounds how many losses of a counter are remembered one by one; what comes closer together is one.
const maxLosses = 60

// NewLosses returns losses that begin with what counters count from now on.
func NewLosses(config Config, counters ...Counter) *Losses {
	l := &Losses{config: config}
	for _, c := range counters {
		if c.Unit == "" {
			c.Unit = "events"
		}
		l.counters = append(l.counters, counter{Counter: c, seen: c.Read()})
	}
	return l
}

// Check returns an error when something was lost within the window. It names each way and how much. Where no more was
// lost than may be, the error is a Tolerated one.
func (l *Losses) Check(now time.Time) error {
	var total uint64
	for i := range l.counters {
		c := &l.counters[i]
		c.look(now, l.config.LossWindow)
		if !c.Tolerated {
			total += c.events()
		}
	}
	var errs []error
	limit, window := l.config.MaxLoss, l.config.LossWindow
	for i := range l.counters {
		c := &l.counters[i]
		switch {
		case c.events() == 0:
		case c.Tolerated:
			errs = append(errs, Tolerated(c.tell(fmt.Sprintf(" within %s", window))))
		case total <= uint64(limit):
			errs = append(errs, Tolerated(c.tell(fmt.Sprintf("; max_loss %d allows that within %s", limit, window))))
		default:
			errs = append(errs, c.tell(fmt.Sprintf(", more than max_loss %d allows within %s", limit, window)))
		}
	}
	return errors.Join(errs...)
}

// events returns how many are remembered.
func (c *counter) events() uint64 {
	var events uint64
	for _, loss := range c.recent {
		events += loss.events
	}
	return events
}

// tell says what was lost; limit is how that is judged.
func (c *counter) tell(limit string) error {
	err := fmt.Errorf("%d %s %s since %s%s", c.events(), c.Unit, c.Lost, c.recent[0].at.Format(time.RFC3339), limit)
	if c.Remedy != "" {
		err = fmt.Errorf("%w: %s", err, c.Remedy)
	}
	return ofOrigin{err, c}
}

// look notes what was lost since the last look, and forgets what is older than window.
func (c *counter) look(now time.Time, window time.Duration) {
	for len(c.recent) > 0 && now.Sub(c.recent[0].at) >= window {
		c.recent = c.recent[1:]
	}
	lost := c.Read()
	if lost <= c.seen {
		return
	}
	events := lost - c.seen
	c.seen = lost
	if n := len(c.recent); n > 0 && now.Sub(c.recent[n-1].at) < window/maxLosses {
		c.recent[n-1].events += events
		return
	}
	c.recent = append(c.recent, loss{now, events})
}
