package bpfaggregateconnector

import (
	"cmp"
	"slices"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

// finder finds the series of an event in several views at once: views that mean the same events, and whose dimensions
// are among those of the first. So metrics of less detail come at next to no cost.
type finder struct {
	registries []*registry // by view
	matchesAll bool        // as all of the views
	matcher    match.Matcher
	raw        *rawKey // of the first view
	cache      *rawCache
	key        [maxRawKey]uint64 // of the event at hand
}

// newFinders returns as few finders as the registries can do with.
func newFinders(registries []*registry) []*finder {
	var finders []*finder
	byDetail := slices.SortedStableFunc(slices.Values(registries), func(a, b *registry) int {
		return cmp.Compare(len(b.view.dimensions), len(a.view.dimensions))
	})
	for _, r := range byDetail {
		i := slices.IndexFunc(finders, func(f *finder) bool { return r.view.isAmong(f.registries[0].view) })
		if i < 0 {
			i = len(finders)
			finders = append(finders, &finder{})
		}
		r.finder = finders[i]
		r.finder.registries = append(r.finder.registries, r)
	}
	for _, f := range finders {
		first := f.registries[0].view
		f.matchesAll, f.matcher = first.matchesAll, first.matcher
		f.raw = newRawKey(first.dimensions)
		f.cache = newRawCache(f.raw.size, len(f.registries), first.limit)
	}
	return finders
}

// isAmong reports whether events of one series in the other view are of one series in this view too.
func (v *view) isAmong(other *view) bool {
	return v.conditions == other.conditions && !slices.ContainsFunc(v.dimensions, func(d dimension) bool { return !other.has(d.name) })
}

func (v *view) has(name string) bool {
	return slices.ContainsFunc(v.dimensions, func(d dimension) bool { return d.name == name })
}

// matches reports whether the views mean an event.
func (f *finder) matches(e *event.Event) bool { return f.matchesAll || f.matcher.Match(e) }

// find returns the slot of an event.
func (f *finder) find(e *event.Event, c *event.Context) rawSlot {
	hash := f.raw.take(e, c, &f.key)
	key := f.key[:f.raw.size]
	slot := f.cache.find(hash, key)
	if slot == nil {
		slot = f.cache.put(hash, key)
		for i, r := range f.registries {
			slot.setSeries(i, r.resolve(e, c))
		}
	}
	return slot
}
