package clock

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCache(t *testing.T) {
	c := New[int, string](3)
	assert.Nil(t, c.Get(1))
	for key, text := range []string{"zero", "one", "two"} {
		value, evicted := c.Add(key)
		assert.False(t, evicted)
		*value = text
	}
	assert.Equal(t, 3, c.Len())

	kept := c.Get(0)
	require.NotNil(t, kept)
	assert.Equal(t, "zero", *kept)
	one := c.slots[1]
	_, evicted := c.Add(3) // 0 has been used, 1 has not
	assert.True(t, evicted)
	assert.False(t, c.Contains(1))
	assert.Equal(t, "one", one.value)
	_, _ = c.Add(4) // nor has 2
	assert.False(t, c.Contains(2))
	assert.Same(t, kept, c.Get(0))
	assert.Equal(t, 3, c.Len())
}

func TestAllUsed(t *testing.T) {
	c := New[int, int](4)
	for key := range 4 {
		_, _ = c.Add(key)
		c.Get(key)
	}
	_, evicted := c.Add(4)
	assert.True(t, evicted)
	assert.Equal(t, 4, c.Len())
	assert.Nil(t, c.Get(0), "the hand has come round once")
}

func TestLimitOfOne(t *testing.T) {
	c := New[int, int](0)
	for key := range 10 {
		value, evicted := c.Add(key)
		*value = key
		assert.Equal(t, key > 0, evicted)
		assert.Equal(t, key, *c.Get(key))
		assert.Equal(t, 1, c.Len())
	}
}

// It is near what an LRU keeps: keys that are used all the time survive a stream of others.
func TestFrequentKeysStay(t *testing.T) {
	c := New[int, int](100)
	for key := range 50 {
		_, _ = c.Add(key)
	}
	for stream := 1000; stream < 10_000; stream++ {
		_, _ = c.Add(stream)
		for key := range 50 {
			require.NotNil(t, c.Get(key))
		}
	}
	assert.Equal(t, 100, c.Len())
	assert.Len(t, c.slots, 100)
}
