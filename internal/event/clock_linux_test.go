package event

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClocks(t *testing.T) {
	var clocks Clocks
	first, err := clocks.Get()
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), first.Unix(first.Now()).AsTime(), time.Second)
	reading := clocks.last.Load()
	again, err := clocks.Get()
	require.NoError(t, err)
	assert.Equal(t, first, again)
	assert.Same(t, reading, clocks.last.Load(), "not compared again")

	clocks.last.Store(&clockReading{clock: Clock{offset: 1}, at: time.Now().Add(-clockAge)})
	renewed, err := clocks.Get()
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), renewed.Unix(renewed.Now()).AsTime(), time.Second, "an old one is replaced")
}
