package bpfaggregateconnector

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// Which series have a place of their own, where there are more than the limit allows. README.md explains it in "A lid
// on cardinality"; in short:
//
//   - A cgroup may have up to newShare times as many series as there are free places. However many it makes, some places
//     stay free for other cgroups.
//   - A series that was refused in the interval before too has returningShare instead: those that keep coming have places
//     that no number of names which come once can take.
//   - An interval in which a series was refused ends with the removal of series that have been idle for longer than they
//     were active, or for more than maxIdle intervals, until a quarter of the places is free.
const (
	newShare       = 8
	returningShare = 2 * newShare
	maxIdle        = 60
)

// admits reports whether a series that is not there may have a place.
func (r *registry) admits(series *bpf.Series, cgroup uint64) bool {
	free := r.places() - r.used
	if r.view.fits && free > 0 || r.cgroups[cgroup] < newShare*free {
		return true
	}
	hash := maphash.Comparable(r.seed, *series)
	if r.cgroups[cgroup] < returningShare*free && r.refusedBefore.has(hash) {
		return true
	}
	if r.refused == nil {
		r.refused = &hashSet{}
	}
	r.refused.add(hash)
	return false
}

// places returns how many series there may be beside the overflow series.
func (r *registry) places() int { return r.view.limit - 1 }

// endInterval notes which series had events in the interval that ends, and returns those that had none for so long that
// they are to be removed. All that they had has been exported: boot is a boot time in ns before the export read the
// totals. Series without events since another boot time expire in any case.
func (r *registry) endInterval(boot, since uint64) []int32 {
	var expired, idle []int32
	for i := range r.entries {
		entry := &r.entries[i]
		if entry.number == 0 { // it is free
			continue
		}
		if entry.last >= r.intervalStart {
			entry.active++
			entry.idle = 0
		} else {
			entry.idle++
		}
		switch {
		case entry.last < since:
			expired = append(expired, int32(i))
		case entry.overdue() > 0 && !entry.isOverflow():
			idle = append(idle, int32(i))
		}
	}
	r.intervalStart = boot
	underPressure := r.refused != nil
	r.refusedBefore, r.refused = r.refused, nil
	if !underPressure {
		return expired
	}
	if r.finder != nil {
		r.finder.cache.clear() // it knows those that were refused as of the overflow series
	}
	return append(expired, r.excessIdle(idle, len(expired))...)
}

// excessIdle returns those of the idle entries that have to go, beside others that go already, for a quarter of the
// places to be free: the most overdue first, and none of a cgroup that has no more than its share.
func (r *registry) excessIdle(idle []int32, others int) []int32 {
	keep := r.places() * 3 / 4
	excess := r.used - others - keep
	slices.SortFunc(idle, func(a, b int32) int { return cmp.Compare(r.entries[b].overdue(), r.entries[a].overdue()) })
	left := map[uint64]int{}
	var going []int32
	for _, i := range idle {
		cgroup := r.entries[i].cgroup
		if len(going) >= excess {
			break
		}
		if _, ok := left[cgroup]; !ok {
			left[cgroup] = r.cgroups[cgroup] - keep/len(r.cgroups)
		}
		if left[cgroup] > 0 {
			left[cgroup]--
			going = append(going, i)
		}
	}
	return going
}

// overdue returns for how many intervals a series has been idle beyond what it may be.
func (e *seriesEntry) overdue() int { return int(e.idle) - int(min(e.active, maxIdle)) }

func (e *seriesEntry) isOverflow() bool { return e.series.Flags&bpf.SeriesOverflow != 0 }

// hashSet is a Bloom filter: with 50,000 hashes in it, it has 1 in 1,000 that were not added.
type hashSet [1 << 14]uint64

// hashProbes is how many bits a hash sets.
const hashProbes = 4

func (s *hashSet) add(hash uint64) {
	for i := range uint64(hashProbes) {
		bit := bitOf(hash, i)
		s[bit/64] |= 1 << (bit % 64)
	}
}

// has reports whether a hash was added, or may have been. A nil set has none.
func (s *hashSet) has(hash uint64) bool {
	if s == nil {
		return false
	}
	for i := range uint64(hashProbes) {
		if bit := bitOf(hash, i); s[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

// bitOf returns the i-th bit of a hash.
func bitOf(hash, i uint64) uint64 {
	return (hash + i*(hash>>32|1)) % (64 * uint64(len(hashSet{})))
}
