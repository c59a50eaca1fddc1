//go:build linux && kernel

package bpf

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// deliver adds one event, number sequence of a source.
func deliver(s *Stats, source, sequence uint64) error {
	put(s, 0, 1, 1)
	_, err := s.Add(1, source, sequence+1, 1, time.Now())
	return err
}

// A source beyond the bound is refused, and costs no other its slot.
func TestSourcesAreBounded(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	s, err := OpenStats(dir, "stats", 10)
	require.NoError(t, err)
	for source := range uint64(MaxSources) {
		require.NoError(t, deliver(s, 0x100*(source+1), 0))
	}
	for range 2 { // also by the next process
		require.ErrorIs(t, deliver(s, 0x100*(MaxSources+1), 0), ErrSources)
		_, err = s.Settled(0x100*(MaxSources+1), 0, 1)
		require.ErrorIs(t, err, ErrSources)
		for source := range uint64(MaxSources) {
			require.Equal(t, 1, settled(t, s, 0x100*(source+1), 0, 5), source)
		}
		assert.EqualValues(t, MaxSources, s.Books().Events)
		assert.Equal(t, MaxSources, s.Sources())
		require.NoError(t, deliver(s, 0, 7), "what has no source needs no slot")
		s.Close()
		s, err = OpenStats(dir, "stats", 10)
		require.NoError(t, err)
		s.state().Events-- // that of no source
	}
	s.Close()
}

// The slot of a source that is gone for good is another's when it is needed, and no other's is.
func TestSlotsOfSourcesThatAreGoneAreReclaimed(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	s := openStats(t, "", 10)
	defer s.Close()
	pinned, _ := openTestQueue(t, dir, 10, 1)
	id := pinned.state.books().Id
	require.NoError(t, deliver(s, id, 0))
	pinned.Close() // it stays in the kernel
	open, _ := openTestQueue(t, directory(t, ""), 10, 2)
	defer open.Close()
	require.NoError(t, deliver(s, open.state.books().Id+1, 0))
	closed, _ := openTestQueue(t, directory(t, ""), 16, 16)
	for lane := range uint64(16) {
		require.NoError(t, deliver(s, closed.state.books().Id+lane, 0))
	}
	gone := closed.state.books().Id
	closed.Close()
	for source := uint64(1); s.Sources() < MaxSources; source++ {
		require.NoError(t, deliver(s, 0x100*source, 0)) // of another machine, say
	}
	// The kernel frees a map a moment after it was closed.
	require.Eventually(t, func() bool {
		s.sources.swept = time.Time{}
		err := deliver(s, 0x100*MaxSources, 0)
		require.True(t, err == nil || assert.ErrorIs(t, err, ErrSources))
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	assert.Equal(t, MaxSources-15, s.Sources())
	assert.Equal(t, 1, settled(t, s, id, 0, 5))
	assert.Equal(t, 1, settled(t, s, open.state.books().Id+1, 0, 5))
	assert.Equal(t, 1, settled(t, s, 0x100, 0, 5))
	assert.Zero(t, settled(t, s, gone, 0, 5))
}

// The ids of two sources differ, also in what tells their maps.
func TestSourceIDs(t *testing.T) {
	a, _ := openTestQueue(t, directory(t, ""), 16, 16)
	defer a.Close()
	b, _ := openTestQueue(t, directory(t, ""), 16, 16)
	defer b.Close()
	assert.NotEqual(t, a.state.books().Id>>8, b.state.books().Id>>8)
	assert.Equal(t, a.state.books().Id>>40, b.state.books().Id>>40)
	assert.Zero(t, a.state.books().Id&0xff)
	there, err := allMaps()
	require.NoError(t, err)
	assert.True(t, there[uint32(a.state.books().Id>>8)])
}
