package bpfaggregateconnector

import (
	"unsafe"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// rawKey takes from an event all that its series depends on, as it lies in memory: events with the same raw key
// are of the same series. It is what makes the common case cheap; of different raw keys, some may have one series.
type rawKey struct {
	event, context []maskedWord
	failure        bool // errorOf
	known          bool // processKnown
	executable     bool
	size           int // words
}

// maskedWord says which bits of a word count.
type maskedWord struct {
	index  uint64
	mask   uint64
	factor uint64 // of its hash
}

const (
	halfWords = event.Size / 8
	// maxRawKey is more than there are words to depend on; a power of two, so that the compiler sees that an
	// index stays below it.
	maxRawKey = 64
	// executableWords is the size of Context.Executable; a thread's name is shorter.
	executableWords = 3
)

func newRawKey(dimensions []dimension) *rawKey {
	k := &rawKey{}
	var used event.Enriched
	for i := range dimensions {
		switch d := &dimensions[i]; {
		case d.uses != nil:
			d.uses(&used)
		case d.name == dimensionError:
			k.failure = true
		case d.name == dimensionExecutable:
			k.executable = true
		}
	}
	process := &used.Event.Process
	k.known = process.TGID|process.TID|process.UID|process.GID != 0
	for i, mask := range (*[2 * halfWords]uint64)(unsafe.Pointer(&used)) {
		word := maskedWord{index: uint64(i % halfWords), mask: mask, factor: hashFactors[k.size%len(hashFactors)]}
		switch {
		case mask == 0:
			continue
		case i < halfWords:
			k.event = append(k.event, word)
		default:
			k.context = append(k.context, word)
		}
		k.size++
	}
	if k.failure || k.known {
		k.size++
	}
	if k.executable {
		k.size += executableWords
	}
	return k
}

// take writes the key of an event to key and returns its hash.
func (k *rawKey) take(e *event.Event, c *event.Context, key *[maxRawKey]uint64) (hash uint64) {
	n := 0
	words := (*[halfWords]uint64)(unsafe.Pointer(e))
	for i := range k.event {
		w := &k.event[i]
		word := words[w.index%halfWords] & w.mask
		key[n%maxRawKey] = word
		hash += word * w.factor
		n++
	}
	words = (*[halfWords]uint64)(unsafe.Pointer(c))
	for i := range k.context {
		w := &k.context[i]
		word := words[w.index%halfWords] & w.mask
		key[n%maxRawKey] = word
		hash += word * w.factor
		n++
	}
	if k.failure || k.known {
		word := k.derived(e)
		key[n%maxRawKey] = word
		hash += word * hashDerived
		n++
	}
	if k.executable {
		name := [executableWords]uint64(((*[executableWords]uint64)(unsafe.Pointer(&c.Executable)))[:])
		if c.Known&event.KnownExecutable == 0 {
			thread := (*[executableWords - 1]uint64)(unsafe.Pointer(&e.Process.Comm))
			name = [executableWords]uint64{thread[0], thread[1], 0}
		}
		key[n%maxRawKey], key[(n+1)%maxRawKey], key[(n+2)%maxRawKey] = name[0], name[1], name[2]
		hash += name[0]*hashName0 + name[1]*hashName1 + name[2]*hashName2
	}
	hash ^= hash >> 32
	return hash * hashFinal >> 16
}

// derived is what is not to be taken as it lies in the event: how many bytes a successful read returned does not
// matter, and a process is known by all of its fields.
func (k *rawKey) derived(e *event.Event) (word uint64) {
	if k.failure {
		word = uint64(uint32(errorOf(e)))
	}
	if k.known && processKnown(e) {
		word |= 1 << 32
	}
	return word
}

// A hash is the sum of all words, each times a factor of its own, stirred. The factors are odd numbers with bits
// all over; the multiplications do not wait for each other, so it costs next to nothing.
const (
	hashDerived = 0x8ebc6af09c88c6e3
	hashName0   = 0x9e3779b97f4a7c15
	hashName1   = 0xd6e8feb86659fd93
	hashName2   = 0xa0761d6478bd642f
	hashFinal   = 0xe7037ed1a0b428db
)

var hashFactors = [...]uint64{
	0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0xff51afd7ed558ccd, 0xc4ceb9fe1a85ec53, 0x87c37b91114253d5, 0x4cf5ad432745937f,
	0x52dce729da3ed7b1, 0x38495ab5bd1f8a3d, 0x2545f4914f6cdd1d, 0x589965cc75374cc3, 0x1d8e4e27c47d124f, 0xeb44accab455d165,
}

// rawCache remembers the series of raw keys, and their accounts, in a number of views. It is bounded: full at its greatest
// size, it is emptied.
type rawCache struct {
	views int      // that a slot has the series of
	words int      // of a slot
	last  uint64   // index of the last slot; the number of slots is a power of two
	slots []uint64 // what a slot has lies side by side: all of it is used together
	used  int      // slots
	most  int      // slots that it may grow to
}

// The words of a slot; the key comes behind the views.
const (
	slotHash  = iota
	slotRun   // the last run in which an event came by, or one of:
	slotViews // by view: the index of the series in the upper half; in the lower, that of its account in that run
)

// What a slot has instead of a run.
const (
	slotFree = iota
	slotIdle // no event came by in a run yet
	firstRun // the lowest number of a run
)

// rawSlot is a slot of a cache, valid until the next put.
type rawSlot []uint64

func (s rawSlot) series(view int) int32            { return int32(s[slotViews+view] >> 32) }
func (s rawSlot) setSeries(view int, series int32) { s[slotViews+view] = uint64(series) << 32 }

func (s rawSlot) hasAccounts(run uint64) bool { return s[slotRun] == run }
func (s rawSlot) setRun(run uint64)           { s[slotRun] = run }
func (s rawSlot) account(view int) int        { return int(uint32(s[slotViews+view])) }
func (s rawSlot) setAccount(view int, account int32) {
	s[slotViews+view] = s[slotViews+view]>>32<<32 | uint64(account)
}

// The bounds of a cache, in slots. It starts small, so that few series lie close together, and grows until it has
// room for three times as many keys as there may be series.
const (
	minCacheSlots = 64
	maxCacheSlots = 1 << 14
)

func newRawCache(size, views, series int) *rawCache {
	c := &rawCache{views: views, words: slotViews + views + size, most: minCacheSlots}
	for c.most < 3*series && c.most < maxCacheSlots {
		c.most *= 2
	}
	c.resize(minCacheSlots)
	return c
}

// resize empties the cache.
func (c *rawCache) resize(slots int) {
	c.last, c.used = uint64(slots-1), 0
	c.slots = make([]uint64, slots*c.words)
}

func (c *rawCache) slot(hash uint64) rawSlot { return c.slots[int(hash&c.last)*c.words:][:c.words] }

// find returns the slot of a key, nil if the key is not there.
func (c *rawCache) find(hash uint64, key []uint64) rawSlot {
	for at := hash; ; at++ {
		slot := c.slot(at)
		if slot[slotRun] == slotFree {
			return nil
		}
		if slot[slotHash] == hash && equal(slot[slotViews+c.views:], key) {
			return slot
		}
	}
}

// equal compares the first len(b) words; for so few it is quicker than a call to compare memory.
func equal(a, b []uint64) bool {
	a = a[:len(b)]
	for i := range b {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// put takes a slot for a key that find has not found. Its series are to be set.
func (c *rawCache) put(hash uint64, key []uint64) rawSlot {
	if slots := int(c.last) + 1; c.used > slots/3 {
		if slots < c.most {
			c.resize(2 * slots) // what was in it comes back at the next event of each
		} else {
			c.clear()
		}
	}
	at := hash
	for c.slot(at)[slotRun] != slotFree {
		at++
	}
	slot := c.slot(at)
	slot[slotHash], slot[slotRun] = hash, slotIdle
	copy(slot[slotViews+c.views:], key)
	c.used++
	return slot
}

func (c *rawCache) clear() {
	clear(c.slots)
	c.used = 0
}
