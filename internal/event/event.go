package event

import (
	"bytes"
	"fmt"
	"strconv"
	"unsafe"
)

// The format's version and the sizes of its two structs in bytes.
const (
	Version      = 2
	Size         = 128
	EnrichedSize = 256
)

// The rooms for strings in bytes, with the NUL that ends them.
const (
	CommLen = 16
	NameLen = 40
)

// Flags qualify an event; enum kp_flag.
type Flags uint8

// The flags.
const (
	FlagNameCut        Flags = 1  // the name was longer than the payload
	FlagNameUnreadable Flags = 2  // the memory that holds the name could not be read
	FlagNoDuration     Flags = 4  // the start was not seen, so Duration is 0
	FlagBytesPartial   Flags = 8  // more messages in one call than are added up in Bytes
	FlagSimulated      Flags = 16 // made by the simulator
)

// Process says who did it; struct kp_process. All zero: not known.
type Process struct {
	CgroupID uint64        // of the cgroup v2
	Start    uint64        // boot-time ns; with TGID, a process's identity
	TGID     uint32        // the pid that users see
	TID      uint32        // the thread
	UID      uint32        // real user ID
	GID      uint32        // real group ID
	Comm     [CommLen]byte // the thread's name, NUL-terminated
}

// Network is the payload of CategoryNetwork; struct kp_network. Ports are numbers, not in network order.
// An IPv4 address stands in the first 4 bytes. Addresses and ports that are not known are 0.
type Network struct {
	Family        uint16 // AF_INET 2, AF_INET6 10, …
	Protocol      uint16 // IPPROTO_TCP 6, IPPROTO_UDP 17, …
	LocalPort     uint16
	RemotePort    uint16
	LocalAddress  [16]byte
	RemoteAddress [16]byte
}

// Lifecycle is the payload of ProcessFork and ProcessExit; struct kp_lifecycle.
type Lifecycle struct {
	ChildTGID uint32 // fork: the child
	Signal    uint32 // exit: the signal that ended the process, 0 if none
	Reserved  [32]byte
}

// Event is one kernel event; struct kp_event, 128 bytes.
type Event struct {
	Time       uint64 // boot-time ns, at the end of what is reported; a Clock converts it
	Duration   uint64 // ns; 0: none
	Bytes      uint64 // bytes moved
	Result     int64  // return value, -errno on failure; exec 0; exit: the exit status, 128 + signal if killed
	Process    Process
	Operation  uint16 // by category; in CategorySyscall the system call's number
	Category   Category
	Priority   Priority
	Version    uint8
	Flags      Flags
	ExecNumber uint16        // of the program that the process ran then; with Start and TGID, its identity. 0: not known
	Payload    [NameLen]byte // by category and operation; see Network, Lifecycle and Name
}

// Network returns the payload as that of a network event. It is a view: writing to it changes the event.
func (e *Event) Network() *Network { return (*Network)(unsafe.Pointer(&e.Payload)) }

// Lifecycle returns the payload as that of a fork or exit. It is a view: writing to it changes the event.
func (e *Event) Lifecycle() *Lifecycle { return (*Lifecycle)(unsafe.Pointer(&e.Payload)) }

// Name returns the payload as a string: the file of a filesystem event, the path of an exec. The kernel
// knows names as bytes, so it may be no valid UTF-8.
func (e *Event) Name() string { return Text(e.Payload[:]) }

// SetName makes name the payload. A name that is too long is cut and flagged with FlagNameCut.
func (e *Event) SetName(name string) {
	e.Flags &^= FlagNameCut
	if SetText(e.Payload[:], name) {
		e.Flags |= FlagNameCut
	}
}

// Comm returns the name of the thread; for the main thread that is the command. It may be no valid UTF-8.
func (e *Event) Comm() string { return Text(e.Process.Comm[:]) }

// OperationName returns the name of the event's operation; see the function of that name.
func (e *Event) OperationName() string { return OperationName(e.Category, e.Operation) }

// HasName reports whether the payload is a name.
func (e *Event) HasName() bool {
	return e.Category == CategoryFilesystem || e.Category == CategoryProcess && e.Operation == ProcessExec
}

// The most that one event can have moved and lasted. No kernel reports more; what another program writes may.
const (
	MaxBytes    = 1<<48 - 1 // 256 TiB
	MaxDuration = 1<<60 - 1 // ns: 36 years
	MaxTime     = 1<<62 - 1 // ns since the boot: 146 years, so that no timestamp made of it wraps
)

// Validate reports what makes this an event that no component can work on: another version of the format, an unknown
// category, or more bytes or time than there can be. Operations unknown to this version are valid: they have a name made
// from their number.
func (e *Event) Validate() error {
	switch {
	case e.Version != Version:
		return fmt.Errorf("format version %d, expected %d: was it made by another version of kernelpipe?", e.Version, Version)
	case !e.Category.Valid():
		return fmt.Errorf("unknown category %d", uint8(e.Category))
	case e.Time > MaxTime:
		return fmt.Errorf("it happened %d ns after the boot, and an event has at most %d ns", e.Time, uint64(MaxTime))
	case e.Bytes <= MaxBytes && e.Duration <= MaxDuration:
		return nil
	}
	return fmt.Errorf("%d bytes in %d ns, and one event has at most %d bytes and %d ns", e.Bytes, e.Duration, uint64(MaxBytes), uint64(MaxDuration))
}

// Known says which parts of a Context are set, or cut; enum kp_known.
type Known uint8

// The parts of a Context.
const (
	KnownExecutable Known = 1
	KnownParent     Known = 2
	KnownAncestor   Known = 4
	KnownUser       Known = 8
	KnownContainer  Known = 16
	KnownPod        Known = 32
)

// Missing says why what was looked up for a Context is missing; enum kp_missing.
type Missing uint8

// The reasons.
const (
	MissingNothing  Missing = 0
	MissingNotFound Missing = 1 // gone, or never seen
	MissingEvicted  Missing = 2 // was known; made room for another
	MissingUnknown  Missing = 3 // the event names no process
	MissingTimeout  Missing = 4 // not found in time; what is found later serves the events that follow
	MissingDenied   Missing = 5 // enrichment may not know: it lacks a capability
)

var missingNames = [...]string{"nothing", "not_found", "evicted", "unknown", "timeout", "denied"}

// String returns the reason's name in telemetry, such as "not_found".
func (m Missing) String() string {
	if int(m) < len(missingNames) {
		return missingNames[m]
	}
	return "missing_" + strconv.Itoa(int(m))
}

// Context is what enrichment adds; struct kp_context, 128 bytes. Strings are NUL-terminated.
type Context struct {
	ContainerID [32]byte // the 64 hexadecimal digits of a container id, packed
	PodUID      [16]byte // the Kubernetes pod UID, packed
	Executable  [24]byte // base name of the executable
	Parent      [CommLen]byte
	Ancestor    [CommLen]byte
	User        [16]byte
	ParentTGID  uint32
	Known       Known // what was found
	Cut         Known // strings that were longer than their room
	Reason      Missing
	Reserved    uint8
}

// Enriched is an event as it leaves enrichment; struct kp_enriched, 256 bytes.
type Enriched struct {
	Event   Event
	Context Context
}

// Text returns the string in a NUL-terminated room, such as Context.User[:]; the whole room if it has no NUL. What is for
// people or other programs goes through Escape.
func Text(room []byte) string {
	if end := bytes.IndexByte(room, 0); end >= 0 {
		room = room[:end]
	}
	return string(room)
}

// SetText writes s into a NUL-terminated room and zeroes the rest of it. It reports whether s was cut.
func SetText(room []byte, s string) (cut bool) {
	if len(s) >= len(room) {
		s, cut = s[:len(room)-1], true
	}
	clear(room[copy(room, s):])
	return cut
}
