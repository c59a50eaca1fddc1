//go:build linux

package bpf

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"
)

// View is a set of series that are made in one way: of the same events, by the same dimensions.
type View struct {
	// Fingerprint identifies how the view's series are made: totals are kept for as long as it stays the same.
	// It is not 0.
	Fingerprint uint64
	// Name is for people.
	Name string
}

// DroppedView is a view that is no longer configured, and what was given up with it.
type DroppedView struct {
	Name   string
	Series int
	Events uint64
}

// Configure makes views the views of these stats. It returns their numbers, and drops the series of all others but those
// of the sealed interval: it is to be delivered as it is, so a view that it has series of keeps its number. It fails when
// there are more than MaxViews.
func (s *Stats) Configure(views []View) (numbers []uint16, dropped []DroppedView, err error) {
	if len(views) > MaxViews {
		return nil, nil, fmt.Errorf("%d views, and the stats have room for %d", len(views), MaxViews)
	}
	table := s.views()
	wanted := map[uint64]string{}
	for _, view := range views {
		wanted[view.Fingerprint] = view.Name
	}
	held, err := s.viewsOfSealed()
	if err != nil {
		return nil, nil, err
	}
	room := MaxViews
	for number := range held {
		if _, ok := wanted[table[number%MaxViews].fingerprint]; !ok {
			room--
		}
	}
	if len(views) > room {
		return nil, nil, fmt.Errorf("%d views, and there is room for %d while an interval of the configuration before is not delivered: "+
			"start that one until it is", len(views), room)
	}
	// First the series, then the note of what they are: a process that is killed in between leaves nothing that
	// could be misread.
	losses, err := s.dropExcept(func(view uint16) bool {
		_, ok := wanted[table[view%MaxViews].fingerprint]
		return ok && view < MaxViews
	})
	if err != nil {
		return nil, nil, err
	}
	for i := range table {
		slot := &table[i]
		if _, ok := wanted[slot.fingerprint]; slot.fingerprint == 0 || ok {
			continue
		}
		if drop, ok := losses[uint16(i)]; ok {
			drop.Name = slot.text()
			dropped = append(dropped, drop)
			delete(losses, uint16(i))
		}
		if !held[uint16(i)] {
			*slot = kernelView{}
		}
	}
	for number, drop := range losses { // of a number without a view, which no version of this leaves behind
		drop.Name = fmt.Sprintf("unknown view %d", number)
		dropped = append(dropped, drop)
	}
	for _, view := range views {
		number := slices.IndexFunc(table, func(slot kernelView) bool { return slot.fingerprint == view.Fingerprint })
		if number < 0 {
			number = slices.IndexFunc(table, func(slot kernelView) bool { return slot.fingerprint == 0 })
			table[number] = kernelView{}
		}
		slot := &table[number]
		clear(slot.name[:])
		copy(slot.name[:len(slot.name)-1], view.Name)
		atomic.StoreUint64(&slot.fingerprint, view.Fingerprint)
		numbers = append(numbers, uint16(number))
	}
	return numbers, dropped, nil
}

// viewsOfSealed returns the numbers of the views that the sealed interval has series of.
func (s *Stats) viewsOfSealed() (map[uint16]bool, error) {
	views := map[uint16]bool{}
	interval, sealed := s.Sealed()
	if !sealed {
		return views, nil
	}
	err := s.Each(func(id SeriesID, entry *Entry) bool {
		if id.Generation == interval.Number {
			views[entry.Series.View] = true
		}
		return true
	})
	return views, err
}

// dropExcept deletes the series of all views but those to keep, and says what went, by number. Those of the sealed interval
// stay.
func (s *Stats) dropExcept(keep func(view uint16) bool) (map[uint16]DroppedView, error) {
	losses := map[uint16]DroppedView{}
	interval, sealed := s.Sealed()
	var drop []SeriesID
	err := s.Each(func(id SeriesID, entry *Entry) bool {
		if view := entry.Series.View; !keep(view) && (!sealed || id.Generation != interval.Number) {
			drop = append(drop, id)
			loss := losses[view]
			loss.Series++
			loss.Events += entry.Totals.Events
			losses[view] = loss
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return losses, s.Retire(drop)
}

// kernelView has the layout of struct kp_view.
type kernelView struct {
	fingerprint                                uint64
	events, bytes, retiredEvents, retiredBytes uint64
	uncertainEvents, uncertainBytes            uint64
	name                                       [72]byte
}

func (s *Stats) views() []kernelView {
	generated := &s.state().View
	return unsafe.Slice((*kernelView)(unsafe.Pointer(generated)), len(generated))
}

func (v *kernelView) text() string {
	name, _, _ := bytes.Cut(v.name[:], []byte{0})
	return string(name)
}

// ViewBooks is the account of a view, over its whole life: Events is the sum over its series and
// RetiredEvents, and Bytes likewise. What is uncertain is retired too.
type ViewBooks struct {
	Events, Bytes, RetiredEvents, RetiredBytes, UncertainEvents, UncertainBytes uint64
}

// ViewNames returns the names of the views by number; empty: none. Names may be cut.
func (s *Stats) ViewNames() [MaxViews]string {
	var names [MaxViews]string
	for i, view := range s.views() {
		if view.fingerprint != 0 {
			names[i] = view.text()
		}
	}
	return names
}

// ViewBooks returns the account of a view by its number.
func (s *Stats) ViewBooks(number uint16) ViewBooks {
	view := &s.views()[number%MaxViews]
	return ViewBooks{
		Events:        atomic.LoadUint64(&view.events),
		Bytes:         atomic.LoadUint64(&view.bytes),
		RetiredEvents: atomic.LoadUint64(&view.retiredEvents),
		RetiredBytes:  atomic.LoadUint64(&view.retiredBytes),

		UncertainEvents: atomic.LoadUint64(&view.uncertainEvents),
		UncertainBytes:  atomic.LoadUint64(&view.uncertainBytes),
	}
}
