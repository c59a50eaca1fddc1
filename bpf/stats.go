//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
)

const statsFormat = 4 // KP_STATS_FORMAT

// The Go types and the generated ones have one size, or this does not compile; a test compares the fields.
var (
	_ [unsafe.Sizeof(SeriesID{}) - unsafe.Sizeof(statsKpSeriesId{})]struct{}
	_ [unsafe.Sizeof(statsKpSeriesId{}) - unsafe.Sizeof(SeriesID{})]struct{}
	_ [unsafe.Sizeof(Entry{}) - unsafe.Sizeof(statsKpEntry{})]struct{}
	_ [unsafe.Sizeof(statsKpEntry{}) - unsafe.Sizeof(Entry{})]struct{}
	_ [unsafe.Sizeof(Delta{}) - unsafe.Sizeof(statsKpDelta{})]struct{}
	_ [unsafe.Sizeof(statsKpDelta{}) - unsafe.Sizeof(Delta{})]struct{}
	_ [unsafe.Sizeof(statsKpDescription{}.Text) - MaxDescription]struct{}
	_ [MaxDescription - unsafe.Sizeof(statsKpDescription{}.Text)]struct{}
)

// ErrStatsFull says that the stats map has no room for another series.
var ErrStatsFull = errors.New("stats map is full")

// Stats holds the totals of all series in the kernel. One goroutine at a time may use it; Books, ViewBooks and
// Memory may be called at any time between OpenStats and Close, and a StatsReader has its own rule.
type Stats struct {
	group     *group
	program   *ebpf.Collection
	books     memory
	deltas    memory
	newcomers memory
	sealed    memory
	sources   *sources

	damage       []error       // found when they were opened
	damagedReads atomic.Uint64 // series that were left out of a reading
}

// OpenStats opens the stats map called name in dir, with room for at least series series. Totals that an
// earlier process left there are kept; a map that has become too small is replaced by a larger copy. It fails
// with a ShapeError where another version pinned them.
func OpenStats(dir *Directory, name string, series int) (*Stats, error) {
	spec, err := loadStats()
	if err != nil {
		return nil, err
	}
	numbers, err := dir.numbered(name)
	if err != nil {
		return nil, err
	}
	group, err := openStatsGroup(dir, name, numbers, spec, uint32(series))
	if err != nil {
		return nil, err
	}
	s := &Stats{group: group}
	if err := s.load(spec); err != nil {
		err = errors.Join(err, group.abandon())
		s.Close()
		return nil, err
	}
	return s, nil
}

func statsSpecsOf(spec *ebpf.CollectionSpec, series uint32) map[string]*ebpf.MapSpec {
	stats := spec.Maps[statsMapStats].Copy()
	stats.MaxEntries = series
	return map[string]*ebpf.MapSpec{
		statsMapStats: stats, statsMapStatsBooks: spec.Maps[statsMapStatsBooks].Copy(), statsMapSealed: spec.Maps[statsMapSealed].Copy(),
	}
}

func openStatsGroup(dir *Directory, name string, numbers []int, spec *ebpf.CollectionSpec, series uint32) (*group, error) {
	at := func(n int) place { return dir.join(fmt.Sprintf("%s-%d", name, n)) }
	fresh := func(maps map[string]*ebpf.Map) error {
		now := uint64(time.Now().UnixNano())
		books := statsKpStatsBooks{Format: statsFormat, StartUnixNs: now, GenerationUnixNs: [2]uint64{now, now}}
		return maps[statsMapStatsBooks].Put(uint32(0), &books)
	}
	if len(numbers) == 0 {
		return openGroup(at(0), statsSpecsOf(spec, series), fresh)
	}
	// A copy counts once it is there whole, and then the ones before it are only leftovers of a kill.
	last := numbers[len(numbers)-1]
	for _, n := range numbers[:len(numbers)-1] {
		if err := at(n).remove(); err != nil {
			return nil, err
		}
	}
	found, err := at(last).loadMap(statsMapStats)
	if err != nil {
		return nil, shapeError(at(last), statsMapStats, err)
	}
	has := found.MaxEntries()
	_ = found.Close()
	old, err := openGroup(at(last), statsSpecsOf(spec, has), nil)
	if err != nil || has >= series {
		return old, err
	}
	defer old.Close()
	larger, err := openGroup(at(last+1), statsSpecsOf(spec, series), func(maps map[string]*ebpf.Map) error {
		return copyStats(maps, old.maps)
	})
	if err != nil {
		return nil, err
	}
	larger.adopted = true // it has what was there
	if err := old.remove(); err != nil {
		larger.Close()
		return nil, err
	}
	return larger, nil
}

func copyStats(to, from map[string]*ebpf.Map) error {
	for _, name := range []string{statsMapStatsBooks, statsMapSealed} {
		value, err := from[name].LookupBytes(uint32(0))
		if err == nil {
			err = to[name].Put(uint32(0), value)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	var key SeriesID
	var value Entry
	entries := from[statsMapStats].Iterate()
	for entries.Next(&key, &value) {
		if err := to[statsMapStats].Put(&key, &value); err != nil {
			return fmt.Errorf("copy stats: %w", err)
		}
	}
	return entries.Err()
}

func (s *Stats) load(spec *ebpf.CollectionSpec) (err error) {
	spec.Maps[statsMapStats].MaxEntries = s.group.maps[statsMapStats].MaxEntries()
	s.program, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: s.group.maps})
	if err != nil {
		return fmt.Errorf("load stats programs: %w", err)
	}
	if s.books, err = mapMemory(s.group.maps[statsMapStatsBooks]); err != nil {
		return err
	}
	if format := s.state().Format; format != statsFormat {
		return shapeError(s.group.place, statsMapStatsBooks, fmt.Errorf("format %d, this version has format %d", format, statsFormat))
	}
	s.sources = newSources(s.state().Source[:])
	if s.deltas, err = mapMemory(s.program.Maps[statsMapDeltas]); err != nil {
		return err
	}
	if s.newcomers, err = mapMemory(s.program.Maps[statsMapNewcomers]); err != nil {
		return err
	}
	if s.sealed, err = mapMemory(s.group.maps[statsMapSealed]); err != nil {
		return err
	}
	if err := s.mend(); err != nil {
		return err
	}
	return s.finish()
}

func (s *Stats) state() *statsKpStatsBooks { return as[statsKpStatsBooks](s.books) }

// Deltas returns the memory for the next Add to take its deltas from: MaxDeltas of them. Move and Retire use
// it too, so it holds anything afterwards.
func (s *Stats) Deltas() []Delta { return asSlice[Delta](s.deltas)[:MaxDeltas] }

// Newcomers returns the memory for the series that the next Add may have to make: those of the deltas at the same index.
// Of a known one it is not read. Move uses it too.
func (s *Stats) Newcomers() []Series { return asSlice[Series](s.newcomers)[:MaxDeltas] }

// NewNumber returns a number for a new series, that no other had or gets for as long as the stats live.
func (s *Stats) NewNumber() uint64 { return atomic.AddUint64(&s.state().Numbers, 1) }

// NewestNumber returns the last number that NewNumber has given.
func (s *Stats) NewestNumber() uint64 { return atomic.LoadUint64(&s.state().Numbers) }

// Settled returns how many of the n events from number sequence of a source are in the totals already, and
// counts them as redelivered. source 0 is none, and then the answer is 0. The error wraps ErrSources where there is no room
// for the source.
func (s *Stats) Settled(source, sequence uint64, n int) (int, error) {
	slot, err := s.sources.slot(source)
	if err != nil {
		return 0, err
	}
	settled := s.sources.settled(slot, sequence, n)
	atomic.AddUint64(&s.state().Redelivered, uint64(settled))
	return settled, nil
}

// Sources returns how many sources have been added, those that are gone among them until room is needed.
func (s *Stats) Sources() int { return s.sources.inUse() }

// Add adds the first n of Deltas, made of events events up to number next (exclusive) of the source, in one
// program run: whatever kills the process, they are counted once or not at all. now is the start of the series
// that are new. It fails with ErrStatsFull when there is no room for one, and with ErrSources when there is none for the
// source, and then nothing is added. It returns how many
// deltas are lost, for somebody else has removed their series from the map.
func (s *Stats) Add(n int, source, next uint64, events int, now time.Time) (lost int, err error) {
	slot, err := s.sources.slot(source)
	if err != nil {
		return 0, err
	}
	added, err := run(s.program.Programs[statsProgAddDeltas], uint64(n), uint64(slot), next, uint64(events), uint64(now.UnixNano()))
	switch {
	case err != nil:
		return 0, err
	case added == 0:
		return 0, fmt.Errorf("%w: it has %d series", ErrStatsFull, s.Capacity())
	default:
		return added - 1, nil
	}
}

// Move is what is to become of a series: it is added to To, which is made from Series if need be, and removed.
type Move struct {
	From, To SeriesID
	Series   Series
}

// Move makes moves. Each is made whole or not at all, whatever kills the process.
func (s *Stats) Move(moves []Move, now time.Time) error {
	deltas, newcomers := s.Deltas(), s.Newcomers()
	for len(moves) > 0 {
		n := min(len(moves), MaxDeltas/2)
		for i, move := range moves[:n] {
			deltas[2*i].ID, deltas[2*i+1].ID, newcomers[2*i+1] = move.From, move.To, move.Series
		}
		moved, err := run(s.program.Programs[statsProgMoveSeries], uint64(n), uint64(now.UnixNano()))
		if err == nil && moved < n {
			err = fmt.Errorf("move series: %w: it has %d series", ErrStatsFull, s.Capacity())
		}
		if err != nil {
			return err
		}
		moves = moves[n:]
	}
	return nil
}

// Retire removes series. Their view's books keep the sum of what they had.
func (s *Stats) Retire(series []SeriesID) error { return s.retire(series, false) }

func (s *Stats) retire(series []SeriesID, uncertain bool) error {
	var asUncertain uint64
	if uncertain {
		asUncertain = 1
	}
	deltas := s.Deltas()
	for len(series) > 0 {
		n := min(len(series), MaxDeltas)
		for i := range n {
			deltas[i].ID = series[i]
		}
		retired, err := run(s.program.Programs[statsProgRetireSeries], uint64(n), asUncertain)
		if err == nil && retired < n {
			err = fmt.Errorf("retire series: %d of %d were retired", retired, n)
		}
		if err != nil {
			return err
		}
		series = series[n:]
	}
	return nil
}

// Capacity returns how many series fit.
func (s *Stats) Capacity() int { return int(s.group.maps[statsMapStats].MaxEntries()) }

// StatsBooks is the account of the stats map, over its whole life.
type StatsBooks struct {
	Events      uint64    // added
	Redelivered uint64    // recognised as added before, and not added again
	Series      uint64    // made
	Saturated   uint64    // times that something was added to a series with a sum as great as can be
	Start       time.Time // when the account was opened
}

// Books returns the account.
func (s *Stats) Books() StatsBooks {
	state := s.state()
	return StatsBooks{
		Events:      atomic.LoadUint64(&state.Events),
		Redelivered: atomic.LoadUint64(&state.Redelivered),
		Series:      atomic.LoadUint64(&state.Series),
		Saturated:   atomic.LoadUint64(&state.Saturated),
		Start:       time.Unix(0, int64(state.StartUnixNs)),
	}
}

// RemoveUnused removes what this process has pinned, if nothing was ever added. No other method but Close may follow.
func (s *Stats) RemoveUnused() error {
	if books := s.Books(); books.Events > 0 || books.Series > 0 {
		return nil
	}
	return s.group.abandon()
}

// Memory returns what the stats cost in kernel memory, in bytes.
func (s *Stats) Memory() uint64 {
	maps := []*ebpf.Map{s.program.Maps[statsMapDeltas], s.program.Maps[statsMapNewcomers], s.program.Maps[statsMapDraft]}
	for _, m := range s.group.maps {
		maps = append(maps, m)
	}
	return memoryOf(maps...)
}

// Close lets go of the stats. If they are pinned they live on.
func (s *Stats) Close() {
	s.books.unmap()
	s.deltas.unmap()
	s.newcomers.unmap()
	s.sealed.unmap()
	if s.program != nil {
		s.program.Close()
	}
	s.group.Close()
}
