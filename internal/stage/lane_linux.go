package stage

import (
	"encoding/binary"
	"errors"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

var errBroken = errors.New("the pinned state of the component's queue is damaged, so it takes no events; see its status")

// workingLane picks the lane of an event among those that can be delivered.
func (s *Stage) workingLane(chunk event.Batch, i int) (uint32, error) {
	lane, lanes := s.lane(chunk, i), uint32(s.settings.Queue.Lanes)
	for n := range lanes {
		if next := (lane + n) % lanes; !s.broken[next].Load() {
			return next, nil
		}
	}
	return 0, errBroken
}

// checkLanes finds the lanes that can't be delivered where another process takes the events out: what comes goes to the others.
func (s *Stage) checkLanes() error {
	if s.settings.Next != nil {
		return nil // the workers find them
	}
	var errs []error
	for lane := range s.settings.Queue.Lanes {
		err := s.queue.CheckLane(lane)
		if was := s.broken[lane].Swap(err != nil); err != nil && !was {
			s.breaks.Add(1)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// lane picks the lane of an event. Where the event's number is known the choice depends on nothing else, so
// that a batch that is handed in again falls to the same lanes.
func (s *Stage) lane(chunk event.Batch, i int) uint32 {
	lanes := uint32(s.settings.Queue.Lanes)
	switch {
	case lanes == 1:
		return 0
	case s.settings.Queue.Distribution == Hash:
		return spread(s.settings.Queue.HashBy.key(chunk.At(i))) % lanes
	case chunk.Source != 0:
		return uint32((chunk.Sequence + uint64(i)) % uint64(lanes))
	}
	s.dealt++
	return uint32(s.dealt % uint64(lanes))
}

// key returns a number that is the same for events that belong together.
func (h HashBy) key(e *event.Event) uint64 {
	switch h {
	case HashByTID:
		return uint64(e.Process.TID)
	case HashByUID:
		return uint64(e.Process.UID)
	case HashByCgroup:
		return e.Process.CgroupID
	case HashByCommand:
		return fold(e.Process.Comm)
	case HashByRemoteAddress:
		if e.Category == event.CategoryNetwork {
			return fold(e.Network().RemoteAddress)
		}
	}
	return uint64(e.Process.TGID)
}

// fold makes 8 bytes of 16, so that neither half cancels the other.
func fold(b [16]byte) uint64 {
	return binary.NativeEndian.Uint64(b[:8])*golden ^ binary.NativeEndian.Uint64(b[8:])
}

const golden = 0x9e3779b97f4a7c15 // the golden ratio's bits spread neighbours

func spread(key uint64) uint32 { return uint32(key * golden >> 40) }

// Where a lane is so full, events of this priority are dropped by DropLowPriority, in percent.
const (
	lowLimit    = 75
	mediumLimit = 90
)

// limit returns from how many waiting events on this one is dropped; 0: there is no such limit.
func (s *Stage) limit(out []byte) uint32 {
	if s.settings.Queue.OnFull != DropLowPriority {
		return 0
	}
	e := event.Batch{Size: len(out), Data: out}.At(0)
	priority := e.Priority
	if priority == event.PriorityUnset {
		priority = e.Category.Priority()
	}
	config := s.queue.Config()
	capacity := config.Capacity / config.Lanes
	switch priority {
	case event.PriorityHigh:
		return 0
	case event.PriorityMedium:
		return uint32(max(capacity*mediumLimit/100, 1))
	default:
		return uint32(max(capacity*lowLimit/100, 1))
	}
}
