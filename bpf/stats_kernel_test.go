//go:build linux && kernel

package bpf

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func openStats(t testing.TB, path string, series int) *Stats {
	t.Helper()
	dir := directory(t, path)
	stats, err := OpenStats(dir, "stats", series)
	require.NoError(t, err)
	return stats
}

// put makes delta i one of n events of 10 bytes and 100 ns each in one bucket, of the series with this PID.
func put(s *Stats, i int, pid uint32, n uint64) {
	s.Deltas()[i] = Delta{
		Series: Series{Generation: s.Current().Number, PID: pid}, Events: n, Bytes: 10 * n,
		Timed: n, Duration: 100 * n, Shortest: uint64(pid), Longest: 100 + uint64(pid), Buckets: 1,
	}
	s.Deltas()[i].Bucket[0] = BucketDelta{Bucket: uint16(pid % Buckets), Count: uint16(n)}
}

// events reads the events of all series, by PID.
func events(t testing.TB, s *Stats, generation uint8) map[uint32]uint64 {
	t.Helper()
	got := map[uint32]uint64{}
	require.NoError(t, s.Each(func(series *Series, totals *Totals) bool {
		if series.Generation == generation {
			got[series.PID] += totals.Events
			var timed uint64
			for _, n := range totals.Bucket {
				timed += n
			}
			assert.Equal(t, totals.Timed, timed)
			assert.Equal(t, totals.Events*10, totals.Bytes)
		}
		return true
	}))
	return got
}

func TestStatsAddOnce(t *testing.T) {
	path := pinPath(t)
	before := time.Now()
	s := openStats(t, path, 600)
	for i := range MaxDeltas {
		put(s, i, uint32(i), 2)
	}
	require.NoError(t, s.Add(MaxDeltas, 0x100, 512, 512, time.Now()))
	put(s, 0, 5, 3)
	put(s, 1, 5, 4) // twice the same series in a run
	require.NoError(t, s.Add(2, 0x100, 519, 7, time.Now()))
	assert.Equal(t, 519, s.Settled(0x100, 0, 1000))
	assert.Equal(t, 4, s.Settled(0x100, 515, 10))
	assert.Zero(t, s.Settled(0x200, 0, 10))
	check := func() {
		got := events(t, s, 0)
		assert.Len(t, got, MaxDeltas)
		assert.EqualValues(t, 9, got[5])
		assert.EqualValues(t, 2, got[6])
		books := s.Books()
		assert.EqualValues(t, 519, books.Events)
		assert.EqualValues(t, 523, books.Redelivered)
		assert.EqualValues(t, MaxDeltas, books.Series)
		assert.WithinRange(t, books.Start, before, time.Now())
		assert.Equal(t, ViewBooks{Events: 519, Bytes: 5190}, s.ViewBooks(0))
	}
	check()
	s.Close()
}

// A failed delivery may come again after later batches of its source, whole or cut.
func TestStatsProgressNeverGoesBack(t *testing.T) {
	s := openStats(t, "", 10)
	defer s.Close()
	put(s, 0, 1, 100)
	require.NoError(t, s.Add(1, 0x100, 100, 100, time.Now()))
	require.NoError(t, s.Add(0, 0x100, 40, 0, time.Now()))
	assert.Equal(t, 100, s.Settled(0x100, 0, 100))
	put(s, 0, 1, 1)
	require.NoError(t, s.Add(1, 0x100, 101, 1, time.Now()))
	assert.Equal(t, 101, s.Settled(0x100, 0, 200))
	assert.Zero(t, s.Settled(0x200, 0, 100), "another source has its own progress")
}

func TestStatsOutliveTheProcess(t *testing.T) {
	path := pinPath(t)
	for run := range 3 { // each with a larger map
		dir, err := OpenDirectory(path, "test")
		require.NoError(t, err)
		s, err := OpenStats(dir, "stats", 10+run)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, s.Capacity(), 10+run)
		assert.EqualValues(t, run, s.Books().Events)
		assert.Equal(t, min(run, 1), s.Settled(0x100, uint64(run)-1, 1))
		put(s, 0, 1, 1)
		require.NoError(t, s.Add(1, 0x100, uint64(run)+1, 1, time.Now()))
		assert.Equal(t, map[uint32]uint64{1: uint64(run) + 1}, events(t, s, 0))
		s.Close()
		require.NoError(t, dir.Close())
	}
}

func TestStatsOfAnotherFormat(t *testing.T) {
	dir := directory(t, pinPath(t))
	s, err := OpenStats(dir, "stats", 10)
	require.NoError(t, err)
	info, err := s.group.maps[statsMapStats].Info()
	require.NoError(t, err)
	_, described := info.BTFID()
	assert.True(t, described, "bpftool shows the keys and values by their fields")
	s.state().Format = 99
	s.Close()
	_, err = OpenStats(dir, "stats", 10)
	var shape *ShapeError
	require.ErrorAs(t, err, &shape)
	require.ErrorContains(t, err, "format 99, this version has format 2")
}

func TestStatsFull(t *testing.T) {
	s := openStats(t, "", 10)
	defer s.Close()
	for i := range 11 {
		put(s, i, uint32(i), 1)
	}
	require.ErrorIs(t, s.Add(11, 0x100, 11, 11, time.Now()), ErrStatsFull)
	assert.Zero(t, s.Books().Events)
	assert.Zero(t, s.Settled(0x100, 0, 11))
	for pid, n := range events(t, s, 0) {
		assert.Zero(t, n, pid)
	}
}

func TestStatsMoveAndRetire(t *testing.T) {
	s := openStats(t, "", 1000)
	defer s.Close()
	put(s, 0, 999, 5)
	require.NoError(t, s.Add(1, 0, 0, 5, time.Now()))
	var from, to []Series
	for pid := range uint32(300) {
		put(s, 0, pid, uint64(pid)+1)
		require.NoError(t, s.Add(1, 0, 0, int(pid)+1, time.Now()))
		from = append(from, Series{PID: pid})
		to = append(to, Series{PID: 999})
	}
	sum := uint64(300 * 301 / 2)
	require.NoError(t, s.Move(from, to, time.Now()))
	require.NoError(t, s.Move(from, to, time.Now())) // nothing is left to move
	assert.Equal(t, map[uint32]uint64{999: sum + 5}, events(t, s, 0))
	require.NoError(t, s.Each(func(_ *Series, totals *Totals) bool {
		assert.EqualValues(t, 0, totals.Shortest)
		assert.EqualValues(t, 100+999, totals.Longest)
		assert.Equal(t, 100*(sum+5), totals.Duration)
		return true
	}))
	assert.Equal(t, ViewBooks{Events: sum + 5, Bytes: 10 * (sum + 5)}, s.ViewBooks(0))
	put(s, 0, 1, 1)
	require.NoError(t, s.Add(1, 0, 0, 1, time.Now()))
	require.NoError(t, s.Retire([]Series{{PID: 999}, {PID: 998}}))
	assert.Equal(t, map[uint32]uint64{1: 1}, events(t, s, 0))
	assert.Equal(t, ViewBooks{Events: sum + 6, Bytes: 10 * (sum + 6), RetiredEvents: sum + 5, RetiredBytes: 10 * (sum + 5)}, s.ViewBooks(0))
}

func TestStatsGenerations(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	s, err := OpenStats(dir, "stats", 100)
	require.NoError(t, err)
	_, frozen := s.Frozen()
	assert.False(t, frozen)
	put(s, 0, 1, 7)
	require.NoError(t, s.Add(1, 0, 0, 7, time.Now()))
	start := s.Current().Start
	end := time.Unix(0, start.UnixNano()+1000)
	s.Freeze(end)
	put(s, 0, 1, 9)
	require.NoError(t, s.Add(1, 0, 0, 9, time.Now()))
	s.Close()
	s, err = OpenStats(dir, "stats", 100)
	require.NoError(t, err)
	defer s.Close()
	generation, frozen := s.Frozen()
	assert.True(t, frozen)
	assert.Equal(t, Generation{Number: 0, Start: start, End: end}, generation)
	assert.Equal(t, Generation{Number: 1, Start: end}, s.Current())
	assert.Equal(t, map[uint32]uint64{1: 7}, events(t, s, 0))
	assert.Equal(t, map[uint32]uint64{1: 9}, events(t, s, 1))
	require.NoError(t, s.Retire([]Series{{PID: 1}}))
	s.Delivered()
	_, frozen = s.Frozen()
	assert.False(t, frozen)
	assert.Equal(t, ViewBooks{Events: 16, Bytes: 160, RetiredEvents: 7, RetiredBytes: 70}, s.ViewBooks(0))
}

func TestStatsViews(t *testing.T) {
	s := openStats(t, "", 100)
	defer s.Close()
	numbers, dropped, err := s.Configure([]View{{11, "a"}, {22, "b"}, {33, "c"}})
	require.NoError(t, err)
	assert.Equal(t, []uint16{0, 1, 2}, numbers)
	assert.Empty(t, dropped)
	for view := range uint16(3) {
		put(s, 0, 1, uint64(view)+1)
		s.Deltas()[0].Series.View = view
		require.NoError(t, s.Add(1, 0, 0, 1, time.Now()))
	}
	numbers, dropped, err = s.Configure([]View{{44, "d"}, {33, "c again"}, {11, "a"}})
	require.NoError(t, err)
	assert.Equal(t, []uint16{1, 2, 0}, numbers)
	assert.Equal(t, []DroppedView{{Name: "b", Series: 1, Events: 2}}, dropped)
	assert.Equal(t, ViewBooks{}, s.ViewBooks(1))
	assert.Equal(t, ViewBooks{Events: 3, Bytes: 30}, s.ViewBooks(2))
	assert.Equal(t, map[uint32]uint64{1: 4}, events(t, s, 0))
	_, _, err = s.Configure(make([]View, MaxViews+1))
	require.ErrorContains(t, err, "65 views")
}

func BenchmarkStatsAdd(b *testing.B) {
	s := openStats(b, "", 1000)
	defer s.Close()
	for i := range MaxDeltas {
		put(s, i, uint32(i), 1)
		s.Deltas()[i].Buckets = 12
		for j := range 12 {
			s.Deltas()[i].Bucket[j].Bucket = uint16(j)
		}
	}
	now := time.Now()
	for b.Loop() {
		if err := s.Add(MaxDeltas, 0x100, 1, 1, now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxDeltas, "ns/delta")
}
