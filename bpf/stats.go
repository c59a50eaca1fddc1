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

// Limits and layout of the stats map; stats.h has the same.
const (
	MaxDeltas       = 256 // series that one run adds to at most
	MaxDeltaBuckets = 24  // buckets of one delta
	Buckets         = 448
	// BucketScale is the scale of the exponential histogram, and BucketOffset the index of bucket 0 in it:
	// bucket i counts durations in (2^((i+BucketOffset)/8), 2^((i+1+BucketOffset)/8)] seconds.
	BucketScale  = 3
	BucketOffset = -240
)

const statsFormat = 1 // KP_STATS_FORMAT

// Series is the key of the stats map: the dimensions of a series; struct kp_series, 168 bytes. What a metric
// does not ask for is zero. Strings are NUL-padded.
type Series struct {
	Metric      uint16 // its number in the configuration
	Operation   uint16
	Category    uint8 // 0 in the overflow series, which has nothing but its metric
	Priority    uint8
	Asked       uint16 // bit n: dimension n is in use, so that zero can be a value
	Error       int32  // errno; a process's exit status; 0: none
	UID         uint32
	PID         uint32
	ParentPID   uint32
	CgroupID    uint64
	Command     [16]byte
	Executable  [24]byte
	Parent      [16]byte
	Ancestor    [16]byte
	User        [16]byte
	ContainerID [32]byte
	PodUID      [16]byte
}

// Totals is the value of the stats map: what was added up for a series since it was made; struct kp_totals.
type Totals struct {
	Since    uint64 // boot-time ns: when the series was made
	Last     uint64 // boot-time ns: when it was last added to
	Events   uint64
	Bytes    uint64
	Timed    uint64 // events with a duration: the sum of all buckets
	Duration uint64 // ns, of the timed events together
	Shortest uint64 // ns; without meaning where Timed is 0
	Longest  uint64 // ns
	Bucket   [Buckets]uint64
}

// BucketDelta is what a delta adds to one bucket.
type BucketDelta struct {
	Bucket uint16
	Count  uint16
}

// Delta is what one run adds to a series; struct kp_delta. A series may have several in a run.
type Delta struct {
	Series   Series
	Events   uint64
	Bytes    uint64
	Timed    uint64
	Duration uint64 // ns
	Shortest uint64 // ns
	Longest  uint64 // ns
	Buckets  uint64 // how many of Bucket are set
	Bucket   [MaxDeltaBuckets]BucketDelta
}

// The Go types and the generated ones have one size, or this does not compile; a test compares the fields.
var (
	_ [unsafe.Sizeof(Series{}) - unsafe.Sizeof(statsKpSeries{})]struct{}
	_ [unsafe.Sizeof(statsKpSeries{}) - unsafe.Sizeof(Series{})]struct{}
	_ [unsafe.Sizeof(Totals{}) - unsafe.Sizeof(statsKpTotals{})]struct{}
	_ [unsafe.Sizeof(statsKpTotals{}) - unsafe.Sizeof(Totals{})]struct{}
	_ [unsafe.Sizeof(Delta{}) - unsafe.Sizeof(statsKpDelta{})]struct{}
	_ [unsafe.Sizeof(statsKpDelta{}) - unsafe.Sizeof(Delta{})]struct{}
)

// ErrStatsFull says that the stats map has no room for another series.
var ErrStatsFull = errors.New("stats map is full")

// Stats holds the totals of all series in the kernel. One goroutine at a time may use it.
type Stats struct {
	group   *group
	program *ebpf.Collection
	books   memory
	deltas  memory
	sources sources
}

// OpenStats opens the stats map called name in dir, with room for at least series series. Totals that an
// earlier process left there are kept; a map that has become too small is replaced by a larger copy.
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
		s.Close()
		return nil, err
	}
	return s, nil
}

func statsSpecsOf(spec *ebpf.CollectionSpec, series uint32) map[string]*ebpf.MapSpec {
	stats := spec.Maps[statsMapStats].Copy()
	stats.MaxEntries = series
	return map[string]*ebpf.MapSpec{statsMapStats: stats, statsMapStatsBooks: spec.Maps[statsMapStatsBooks].Copy()}
}

func openStatsGroup(dir *Directory, name string, numbers []int, spec *ebpf.CollectionSpec, series uint32) (*group, error) {
	path := func(n int) string { return dir.join(fmt.Sprintf("%s-%d", name, n)) }
	fresh := func(maps map[string]*ebpf.Map) error {
		books := statsKpStatsBooks{Format: statsFormat, StartUnixNs: uint64(time.Now().UnixNano())}
		return maps[statsMapStatsBooks].Put(uint32(0), &books)
	}
	if len(numbers) == 0 {
		return openGroup(path(0), statsSpecsOf(spec, series), fresh)
	}
	// A copy counts once it is there whole, and then the ones before it are only leftovers of a kill.
	last := numbers[len(numbers)-1]
	for _, n := range numbers[:len(numbers)-1] {
		if err := (&group{path: path(n)}).remove(); err != nil {
			return nil, err
		}
	}
	found, err := ebpf.LoadPinnedMap(path(last)+"/"+statsMapStats, nil)
	if err != nil {
		return nil, &ShapeError{Path: path(last) + "/" + statsMapStats, Err: err}
	}
	has := found.MaxEntries()
	_ = found.Close()
	old, err := openGroup(path(last), statsSpecsOf(spec, has), nil)
	if err != nil || has >= series {
		return old, err
	}
	defer old.Close()
	larger, err := openGroup(path(last+1), statsSpecsOf(spec, series), func(maps map[string]*ebpf.Map) error {
		return copyStats(maps, old.maps)
	})
	if err != nil {
		return nil, err
	}
	return larger, old.remove()
}

func copyStats(to, from map[string]*ebpf.Map) error {
	var books statsKpStatsBooks
	if err := from[statsMapStatsBooks].Lookup(uint32(0), &books); err != nil {
		return fmt.Errorf("copy stats: %w", err)
	}
	if err := to[statsMapStatsBooks].Put(uint32(0), &books); err != nil {
		return fmt.Errorf("copy stats: %w", err)
	}
	var key statsKpSeries
	var value statsKpTotals
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
		return fmt.Errorf("load stats program: %w", err)
	}
	if s.books, err = mapMemory(s.group.maps[statsMapStatsBooks]); err != nil {
		return err
	}
	if format := s.state().Format; format != statsFormat {
		return &ShapeError{Path: s.group.path + "/" + statsMapStatsBooks, Err: fmt.Errorf("format %d, this version has format %d", format, statsFormat)}
	}
	s.sources = newSources(s.state().Source[:])
	s.deltas, err = mapMemory(s.program.Maps[statsMapDeltas])
	return err
}

func (s *Stats) state() *statsKpStatsBooks { return as[statsKpStatsBooks](s.books) }

// Deltas returns the memory for the next Add to take its deltas from: MaxDeltas of them.
func (s *Stats) Deltas() []Delta { return asSlice[Delta](s.deltas)[:MaxDeltas] }

// Settled returns how many of the n events from number sequence of a source are in the totals already, and
// counts them as redelivered. source 0 is none, and then the answer is 0.
func (s *Stats) Settled(source, sequence uint64, n int) int {
	settled := s.sources.settled(s.sources.slot(source), sequence, n)
	atomic.AddUint64(&s.state().Redelivered, uint64(settled))
	return settled
}

// Add adds the first n of Deltas, made of events events up to number next (exclusive) of the source, in one
// program run: whatever kills the process, they are counted once or not at all. It fails with ErrStatsFull
// when there is no room for a new series; then the deltas before it are added, added of them.
func (s *Stats) Add(n int, source, next uint64, events int) (added int, err error) {
	added, err = run(s.program.Programs[statsProgAddDeltas], uint64(n), uint64(s.sources.slot(source)), next, uint64(events))
	if err == nil && added < n {
		err = fmt.Errorf("%w: it has %d series", ErrStatsFull, s.Capacity())
	}
	return added, err
}

// Each calls visit with every series and its totals, until visit returns false. Both are reused.
func (s *Stats) Each(visit func(*Series, *Totals) bool) error {
	m := s.group.maps[statsMapStats]
	keys, values := make([]statsKpSeries, eachBatch), make([]statsKpTotals, eachBatch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read stats map: %w", err)
		}
		for i := range n {
			if !visit((*Series)(unsafe.Pointer(&keys[i])), (*Totals)(unsafe.Pointer(&values[i]))) {
				return nil
			}
		}
		if err != nil {
			return nil // that was the last batch
		}
	}
}

// eachBatch is how many series are read in one call; a hash bucket of the kernel must fit in.
const eachBatch = 256

// Delete forgets a series.
func (s *Stats) Delete(series *Series) error {
	err := s.group.maps[statsMapStats].Delete((*statsKpSeries)(unsafe.Pointer(series)))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete from stats map: %w", err)
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
	Start       time.Time // when the account was opened
}

// Books returns the account.
func (s *Stats) Books() StatsBooks {
	state := s.state()
	return StatsBooks{
		Events:      atomic.LoadUint64(&state.Events),
		Redelivered: atomic.LoadUint64(&state.Redelivered),
		Series:      atomic.LoadUint64(&state.Series),
		Start:       time.Unix(0, int64(state.StartUnixNs)),
	}
}

// Memory returns what the stats cost in kernel memory, in bytes.
func (s *Stats) Memory() uint64 {
	maps := []*ebpf.Map{s.program.Maps[statsMapDeltas], s.program.Maps[statsMapEmpty]}
	for _, m := range s.group.maps {
		maps = append(maps, m)
	}
	return memoryOf(maps...)
}

// Close lets go of the stats. If they are pinned they live on.
func (s *Stats) Close() {
	s.books.unmap()
	s.deltas.unmap()
	if s.program != nil {
		s.program.Close()
	}
	s.group.Close()
}
