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

// put makes delta i one of n events of 10 bytes and 100 ns each in one bucket, of the series with this PID and number.
func put(s *Stats, i int, pid uint32, n uint64) {
	s.Newcomers()[i] = Series{PID: pid}
	s.Deltas()[i] = Delta{
		ID: SeriesID{Number: uint64(pid), Generation: s.Current().Number}, Events: n, Bytes: 10 * n,
		Timed: n, Duration: 100 * n, Shortest: uint64(pid), Longest: 100 + uint64(pid), Buckets: 1,
	}
	s.Deltas()[i].Bucket[0] = BucketDelta{Bucket: uint16(pid % Buckets), Count: uint16(n)}
}

// add adds the first n deltas, all of which have a series.
func add(t testing.TB, s *Stats, n int, source, next uint64, events int) {
	t.Helper()
	lost, err := s.Add(n, source, next, events, time.Now())
	require.NoError(t, err)
	require.Zero(t, lost)
}

// events reads the events of all series, by PID.
func events(t testing.TB, s *Stats, generation uint32) map[uint32]uint64 {
	t.Helper()
	got := map[uint32]uint64{}
	require.NoError(t, s.Each(func(id SeriesID, entry *Entry) bool {
		if totals := &entry.Totals; id.Generation == generation {
			assert.EqualValues(t, id.Number, entry.Series.PID)
			got[entry.Series.PID] += totals.Events
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
	add(t, s, MaxDeltas, 0x100, 512, 512)
	put(s, 0, 5, 3)
	put(s, 1, 5, 4) // twice the same series in a run
	add(t, s, 2, 0x100, 519, 7)
	assert.Equal(t, 519, settled(t, s, 0x100, 0, 1000))
	assert.Equal(t, 4, settled(t, s, 0x100, 515, 10))
	assert.Zero(t, settled(t, s, 0x200, 0, 10))
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
	add(t, s, 1, 0x100, 100, 100)
	add(t, s, 0, 0x100, 40, 0)
	assert.Equal(t, 100, settled(t, s, 0x100, 0, 100))
	put(s, 0, 1, 1)
	add(t, s, 1, 0x100, 101, 1)
	assert.Equal(t, 101, settled(t, s, 0x100, 0, 200))
	assert.Zero(t, settled(t, s, 0x200, 0, 100), "another source has its own progress")
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
		assert.Equal(t, min(run, 1), settled(t, s, 0x100, uint64(run)-1, 1))
		put(s, 0, 1, 1)
		add(t, s, 1, 0x100, uint64(run)+1, 1)
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
	require.ErrorContains(t, err, "format 99, this version has format 4")
}

func TestStatsFull(t *testing.T) {
	s := openStats(t, "", 10)
	defer s.Close()
	for i := range 11 {
		put(s, i, uint32(i), 1)
	}
	_, err := s.Add(11, 0x100, 11, 11, time.Now())
	require.ErrorIs(t, err, ErrStatsFull)
	assert.Zero(t, s.Books().Events)
	assert.Zero(t, settled(t, s, 0x100, 0, 11))
	for pid, n := range events(t, s, 0) {
		assert.Zero(t, n, pid)
	}
}

// A series that somebody else has removed costs what is added to it as a known one, and that is said.
func TestStatsLost(t *testing.T) {
	s := openStats(t, "", 10)
	defer s.Close()
	for i := range 3 {
		put(s, i, uint32(i), 1)
	}
	add(t, s, 3, 0x100, 3, 3)
	require.NoError(t, s.group.maps[statsMapStats].Delete(&SeriesID{Number: 1}))
	for i := range 3 {
		put(s, i, uint32(i), 5)
		s.Deltas()[i].State = DeltaKnown
	}
	lost, err := s.Add(3, 0x100, 18, 15, time.Now())
	require.NoError(t, err)
	assert.Equal(t, 1, lost)
	for i, want := range []DeltaState{DeltaKnown, DeltaLost, DeltaKnown} {
		assert.Equal(t, want, s.Deltas()[i].State, i)
	}
	assert.Equal(t, map[uint32]uint64{0: 6, 2: 6}, events(t, s, 0))
	assert.EqualValues(t, 13, s.ViewBooks(0).Events)
	put(s, 0, 1, 7)
	add(t, s, 1, 0x100, 25, 7)
	assert.Equal(t, map[uint32]uint64{0: 6, 1: 7, 2: 6}, events(t, s, 0))
}

func TestStatsNumbers(t *testing.T) {
	path := pinPath(t)
	given := map[uint64]bool{}
	for range 3 {
		dir, err := OpenDirectory(path, "test")
		require.NoError(t, err)
		s, err := OpenStats(dir, "stats", 10+len(given)) // each time a larger map
		require.NoError(t, err)
		for range 10 {
			given[s.NewNumber()] = true
		}
		s.Close()
		require.NoError(t, dir.Close())
	}
	assert.Len(t, given, 30, "no number comes twice")
}

func TestStatsMoveAndRetire(t *testing.T) {
	s := openStats(t, "", 1000)
	defer s.Close()
	put(s, 0, 999, 5)
	add(t, s, 1, 0, 0, 5)
	var moves []Move
	for pid := range uint32(300) {
		put(s, 0, pid, uint64(pid)+1)
		add(t, s, 1, 0, 0, int(pid)+1)
		moves = append(moves, Move{From: SeriesID{Number: uint64(pid)}, To: SeriesID{Number: 999}})
	}
	moves[299].To, moves[299].Series = SeriesID{Number: 998}, Series{PID: 998} // a new one
	sum := uint64(300 * 301 / 2)
	require.NoError(t, s.Move(moves, time.Now()))
	require.NoError(t, s.Move(moves, time.Now())) // nothing is left to move
	assert.Equal(t, map[uint32]uint64{999: sum + 5 - 300, 998: 300}, events(t, s, 0))
	require.NoError(t, s.Move([]Move{{From: SeriesID{Number: 998}, To: SeriesID{Number: 999}}}, time.Now()))
	assert.Equal(t, map[uint32]uint64{999: sum + 5}, events(t, s, 0))
	require.NoError(t, s.Each(func(_ SeriesID, entry *Entry) bool {
		totals := &entry.Totals
		assert.EqualValues(t, 0, totals.Shortest)
		assert.EqualValues(t, 100+999, totals.Longest)
		assert.Equal(t, 100*(sum+5), totals.Duration)
		return true
	}))
	assert.Equal(t, ViewBooks{Events: sum + 5, Bytes: 10 * (sum + 5)}, s.ViewBooks(0))
	put(s, 0, 1, 1)
	add(t, s, 1, 0, 0, 1)
	require.NoError(t, s.Retire([]SeriesID{{Number: 999}, {Number: 998}}))
	assert.Equal(t, map[uint32]uint64{1: 1}, events(t, s, 0))
	assert.Equal(t, ViewBooks{Events: sum + 6, Bytes: 10 * (sum + 6), RetiredEvents: sum + 5, RetiredBytes: 10 * (sum + 5)}, s.ViewBooks(0))
}

func TestStatsIntervals(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	s, err := OpenStats(dir, "stats", 100)
	require.NoError(t, err)
	_, sealed := s.Sealed()
	assert.False(t, sealed)
	put(s, 0, 1, 7)
	add(t, s, 1, 0, 0, 7)
	start := s.Current().Start
	end := time.Unix(0, start.UnixNano()+1000)
	require.Error(t, s.Seal(end, make([]byte, MaxDescription+1)))
	require.NoError(t, s.Seal(end, []byte("as \xff it is")))
	put(s, 0, 1, 9)
	add(t, s, 1, 0, 0, 9)
	for _, size := range []int{100, 200} { // also in a larger copy
		s.Close()
		s, err = OpenStats(dir, "stats", size)
		require.NoError(t, err)
		interval, sealed := s.Sealed()
		assert.True(t, sealed)
		assert.Equal(t, Interval{Number: 0, Start: start, End: end}, interval)
		assert.Equal(t, Interval{Number: 1, Start: end}, s.Current())
		assert.Equal(t, "as \xff it is", string(s.Description()))
		assert.Equal(t, map[uint32]uint64{1: 7}, events(t, s, 0))
		assert.Equal(t, map[uint32]uint64{1: 9}, events(t, s, 1))
		n, err := s.SealedSeries()
		require.NoError(t, err)
		assert.Equal(t, 1, n)
	}
	s.Delivered()
	_, sealed = s.Sealed()
	assert.False(t, sealed)
	s.Close() // before it could remove what it has delivered
	s, err = OpenStats(dir, "stats", 100)
	require.NoError(t, err)
	defer s.Close()
	assert.Empty(t, events(t, s, 0))
	assert.Equal(t, map[uint32]uint64{1: 9}, events(t, s, 1))
	assert.Equal(t, ViewBooks{Events: 16, Bytes: 160, RetiredEvents: 7, RetiredBytes: 70}, s.ViewBooks(0))
}

// TestStatsRefused: each event that is refused for good is uncertain once, also where the process was killed over it.
func TestStatsRefused(t *testing.T) {
	for _, killed := range []bool{false, true} {
		dir := directory(t, pinPath(t))
		s, err := OpenStats(dir, "stats", 1000)
		require.NoError(t, err)
		const series = 300
		for pid := range uint32(series) {
			put(s, 0, pid, 2)
			add(t, s, 1, 0, 0, 2)
		}
		require.NoError(t, s.Seal(time.Now(), nil))
		put(s, 0, 1, 9)
		add(t, s, 1, 0, 0, 9)
		if killed {
			s.state().Refused = s.state().Generation
			interval, sealed := s.Sealed()
			assert.True(t, sealed)
			assert.True(t, interval.Refused)
			require.NoError(t, s.retire([]SeriesID{{Number: 0}, {Number: 1}, {Number: 2}}, true))
			s.Close()
			s, err = OpenStats(dir, "stats", 1000)
			require.NoError(t, err)
		} else {
			require.NoError(t, s.RetireRefused())
		}
		_, sealed := s.Sealed()
		assert.False(t, sealed)
		assert.Empty(t, events(t, s, 0))
		assert.Equal(t, map[uint32]uint64{1: 9}, events(t, s, 1))
		assert.Equal(t, ViewBooks{
			Events: 2*series + 9, Bytes: 20*series + 90, RetiredEvents: 2 * series, RetiredBytes: 20 * series,
			UncertainEvents: 2 * series, UncertainBytes: 20 * series,
		}, s.ViewBooks(0))
		require.NoError(t, s.Seal(time.Now(), nil))
		s.Close()
		s, err = OpenStats(dir, "stats", 1000)
		require.NoError(t, err)
		interval, sealed := s.Sealed()
		assert.True(t, sealed)
		assert.False(t, interval.Refused, "the next one is not refused by that")
		s.Close()
		require.NoError(t, dir.Close())
	}
}

// TestStatsViewsOfASealedInterval: a view that is configured no more keeps its number until its sealed series are delivered.
func TestStatsViewsOfASealedInterval(t *testing.T) {
	s := openStats(t, "", 100)
	defer s.Close()
	_, _, err := s.Configure([]View{{11, "a"}, {22, "b"}})
	require.NoError(t, err)
	fill := func() {
		for view := range uint16(2) {
			put(s, 0, 1+uint32(view), 5)
			s.Newcomers()[0].View = view
			add(t, s, 1, 0, 0, 5)
		}
	}
	fill()
	require.NoError(t, s.Seal(time.Now(), nil))
	fill()
	numbers, dropped, err := s.Configure([]View{{22, "b"}, {33, "c"}})
	require.NoError(t, err)
	assert.Equal(t, []uint16{1, 2}, numbers)
	assert.Equal(t, []DroppedView{{Name: "a", Series: 1, Events: 5}}, dropped, "of the current interval")
	assert.Equal(t, map[uint32]uint64{1: 5, 2: 5}, events(t, s, 0))
	assert.Equal(t, map[uint32]uint64{2: 5}, events(t, s, 1))
	assert.Equal(t, [MaxViews]string{"a", "b", "c"}, s.ViewNames())
	many := make([]View, MaxViews)
	for i := range many {
		many[i] = View{Fingerprint: uint64(1000 + i)}
	}
	_, _, err = s.Configure(many)
	require.ErrorContains(t, err, "64 views, and there is room for 62 while an interval of the configuration before is not delivered")
	assert.Equal(t, map[uint32]uint64{2: 5}, events(t, s, 1), "nothing is dropped")
	s.Delivered()
	_, _, err = s.Configure(many)
	require.NoError(t, err)
}

func TestStatsViews(t *testing.T) {
	s := openStats(t, "", 100)
	defer s.Close()
	numbers, dropped, err := s.Configure([]View{{11, "a"}, {22, "b"}, {33, "c"}})
	require.NoError(t, err)
	assert.Equal(t, []uint16{0, 1, 2}, numbers)
	assert.Empty(t, dropped)
	for view := range uint16(3) {
		put(s, 0, 1+uint32(view), uint64(view)+1)
		s.Newcomers()[0].View = view
		add(t, s, 1, 0, 0, 1)
	}
	numbers, dropped, err = s.Configure([]View{{44, "d"}, {33, "c again"}, {11, "a"}})
	require.NoError(t, err)
	assert.Equal(t, []uint16{1, 2, 0}, numbers)
	assert.Equal(t, []DroppedView{{Name: "b", Series: 1, Events: 2}}, dropped)
	assert.Equal(t, ViewBooks{}, s.ViewBooks(1))
	assert.Equal(t, ViewBooks{Events: 3, Bytes: 30}, s.ViewBooks(2))
	assert.Equal(t, map[uint32]uint64{1: 1, 3: 3}, events(t, s, 0))
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
		if _, err := s.Add(MaxDeltas, 0x100, 1, 1, now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxDeltas, "ns/delta")
}
