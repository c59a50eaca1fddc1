package bpf

// Limits and layout of the stats map; stats.h has the same.
const (
	MaxDeltas       = 256 // series that one run adds to at most
	MaxDeltaBuckets = 56  // buckets of one delta
	MaxViews        = 64
	Buckets         = 448
	// MaxDescription is how many bytes the description of a sealed interval can have.
	MaxDescription = 131072 - 8
	// BucketScale is the scale of the exponential histogram, and BucketOffset the index of bucket 0 in it:
	// bucket i counts durations in (2^((i+BucketOffset)/8), 2^((i+1+BucketOffset)/8)] seconds.
	BucketScale  = 3
	BucketOffset = -240
)

// SeriesFlags qualify a Series; enum kp_series_flag.
type SeriesFlags uint8

// The flags.
const (
	SeriesOverflow SeriesFlags = 1 // what the cardinality limit keeps from a series of its own
	SeriesProcess  SeriesFlags = 2 // the process is known, so a UID of 0 is root
	SeriesExit     SeriesFlags = 4 // ExitCode is one
)

// SeriesName says what Series.Name is; enum kp_series_name.
type SeriesName uint8

// The names.
const (
	SeriesFileName       SeriesName = 1
	SeriesFilePath       SeriesName = 2
	SeriesExecutablePath SeriesName = 3
)

// SeriesID is the key of the stats map; struct kp_series_id, 16 bytes.
type SeriesID struct {
	Number     uint64 // from NewNumber: no other series has it
	Generation uint32 // Generation.Number of the one that was current when the series was made
	Reserved   uint32
}

// Series is the values of a series' dimensions; struct kp_series, 264 bytes. What its view does not ask for is
// zero. Strings are NUL-padded.
type Series struct {
	View         uint16 // the number that Configure gave to the view
	Flags        SeriesFlags
	Category     uint8
	Priority     uint8
	NameKind     SeriesName
	Operation    uint16
	Error        int32 // errno; negative: exit status of a process; 0: no error
	ExitCode     int32
	ExitSignal   uint32
	PID          uint32
	TID          uint32
	UID          uint32
	GID          uint32
	ParentPID    uint32
	CgroupID     uint64
	LocalPort    uint16
	PeerPort     uint16
	NetworkType  uint8 // 4 or 6
	Transport    uint8 // 6: TCP, 17: UDP, 1: Unix
	Reserved     [2]uint8
	Thread       [16]byte
	Executable   [24]byte // name of the executable; the thread's where that is not known
	Parent       [16]byte
	Ancestor     [16]byte
	User         [16]byte
	ContainerID  [32]byte
	PodUID       [16]byte
	LocalAddress [16]byte // IPv4 mapped into IPv6
	PeerAddress  [16]byte
	Name         [40]byte
}

// Totals is what was added up for a series since it was made; struct kp_totals.
type Totals struct {
	Since    uint64 // Unix ns: when the series was made
	Last     uint64 // boot-time ns: when it was last added to
	Events   uint64
	Bytes    uint64
	Timed    uint64 // events with a duration; those in no bucket have one of 0
	Duration uint64 // ns, of the timed events together
	Shortest uint64 // ns; without meaning where Timed is 0
	Longest  uint64 // ns
	Bucket   [Buckets]uint64
}

// Entry is the value of the stats map; struct kp_entry.
type Entry struct {
	Series Series
	Totals Totals
}

// DeltaState says whether the series of a delta is in the map; enum kp_delta_state.
type DeltaState uint32

// The states.
const (
	DeltaNew   DeltaState = 0 // the series is made if it is not in the map
	DeltaKnown DeltaState = 1 // it is in the map: it is neither looked for before anything is added nor made
	DeltaLost  DeltaState = 2 // as Add leaves it: it was not in the map, so nothing was added
)

// BucketDelta is what a delta adds to one bucket.
type BucketDelta struct {
	Bucket uint16
	Count  uint16
}

// Delta is what one run adds to a series; struct kp_delta. A series whose buckets are more than fit has further ones,
// known ones with Events = 0, behind it.
type Delta struct {
	ID       SeriesID
	Events   uint64
	Bytes    uint64
	Timed    uint64
	Duration uint64 // ns
	Shortest uint64 // ns
	Longest  uint64 // ns
	Buckets  uint32 // how many of Bucket are set
	State    DeltaState
	Bucket   [MaxDeltaBuckets]BucketDelta
}
