// Package clock is a bounded cache that replaces by the CLOCK rule: what was used since the hand last came by gets a
// second chance. It finds what was unused for long nearly as well as an LRU list does, and a hit costs no more
// than the lookup in a map and one store.
package clock

// Cache holds up to a limit of values by their keys. One goroutine at a time may use it.
type Cache[K comparable, V any] struct {
	slots map[K]*slot[K, V]
	ring  []*slot[K, V]
	hand  int
	limit int
}

type slot[K comparable, V any] struct {
	value V // first, where its user will look
	key   K
	used  bool
}

// New returns an empty cache for up to limit values, at least 1.
func New[K comparable, V any](limit int) *Cache[K, V] {
	return &Cache[K, V]{slots: map[K]*slot[K, V]{}, limit: max(limit, 1)}
}

// Get returns the value of a key, nil if there is none. The pointer stays good when the value has left the cache.
func (c *Cache[K, V]) Get(key K) *V {
	found := c.slots[key]
	if found == nil {
		return nil
	}
	found.used = true
	return &found.value
}

// Contains is Get for those who do not use the value.
func (c *Cache[K, V]) Contains(key K) bool { return c.slots[key] != nil }

// Len returns the number of values.
func (c *Cache[K, V]) Len() int { return len(c.ring) }

// Add puts a zero value in for a key that the cache has no value of, and returns it. It reports whether
// another value had to leave.
func (c *Cache[K, V]) Add(key K) (value *V, evicted bool) {
	added := &slot[K, V]{key: key} // the hand comes to it last
	c.slots[key] = added
	if len(c.ring) < c.limit {
		c.ring = append(c.ring, added)
		return &added.value, false
	}
	for c.ring[c.hand].used {
		c.ring[c.hand].used = false
		c.hand = (c.hand + 1) % c.limit
	}
	delete(c.slots, c.ring[c.hand].key)
	c.ring[c.hand] = added
	c.hand = (c.hand + 1) % c.limit
	return &added.value, true
}
