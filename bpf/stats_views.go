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

// Configure makes views the views of these stats. It returns their numbers, and drops the series of all others. It
// fails when there are more than MaxViews.
func (s *Stats) Configure(views []View) (numbers []uint16, dropped []DroppedView, err error) {
	if len(views) > MaxViews {
		return nil, nil, fmt.Errorf("%d views, and the stats have room for %d", len(views), MaxViews)
	}
	table := s.views()
	wanted := map[uint64]string{}
	for _, view := range views {
		wanted[view.Fingerprint] = view.Name
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
		drop := losses[uint16(i)]
		drop.Name = slot.text()
		dropped = append(dropped, drop)
		delete(losses, uint16(i))
		*slot = kernelView{}
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

// dropExcept deletes the series of all views but those to keep, and says what went, by number.
func (s *Stats) dropExcept(keep func(view uint16) bool) (map[uint16]DroppedView, error) {
	losses := map[uint16]DroppedView{}
	var drop []SeriesID
	err := s.Each(func(id SeriesID, entry *Entry) bool {
		if view := entry.Series.View; !keep(view) {
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
	name                                       [88]byte
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
// RetiredEvents, and Bytes likewise.
type ViewBooks struct {
	Events, Bytes, RetiredEvents, RetiredBytes uint64
}

// ViewBooks returns the account of a view by its number.
func (s *Stats) ViewBooks(number uint16) ViewBooks {
	view := &s.views()[number%MaxViews]
	return ViewBooks{
		Events:        atomic.LoadUint64(&view.events),
		Bytes:         atomic.LoadUint64(&view.bytes),
		RetiredEvents: atomic.LoadUint64(&view.retiredEvents),
		RetiredBytes:  atomic.LoadUint64(&view.retiredBytes),
	}
}
