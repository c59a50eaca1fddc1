package bpfaggregateconnector

import (
	"math"
	"net/netip"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// dimension is a field of events by which metrics can be broken down: an attribute.
type dimension struct {
	name        string
	description string
	// placement says whether it can describe the resource instead of the point.
	placement placement
	// values is how many values there are; 0: no one knows.
	values int
	// uses sets every bit of the fields that the value depends on; nil: raw.go knows.
	uses func(*event.Enriched)
	// take sets the value in the series; what an event does not have stays zero.
	take func(*event.Enriched, *bpf.Series)
	// put adds the series' value to the attributes, if it has one.
	put func(pcommon.Map, *bpf.Series)
}

// placement says what an attribute describes.
type placement uint8

const (
	ofPoint    placement = iota // the events
	ofResource                  // a container or pod: it is an attribute of the resource
	// ofProcess: of the resource where that is a process, so where the metric also has process.pid. By the name
	// of an executable alone, which many processes share, no resource can be told.
	ofProcess
)

// The dimensions that code asks for by name.
const (
	dimensionCategory   = "kernel.event.category"
	dimensionOperation  = "kernel.event.operation"
	dimensionError      = "error.type"
	dimensionExecutable = "process.executable.name"
	dimensionPID        = "process.pid"
)

// The payload of an event depends on these.
func usesPayload(e *event.Enriched) {
	e.Event.Category = math.MaxUint8
	e.Event.Operation = math.MaxUint16
}

func usesFamily(e *event.Enriched) {
	usesPayload(e)
	e.Event.Network().Family, e.Event.Network().Protocol = math.MaxUint16, math.MaxUint16
}

func usesName(e *event.Enriched) {
	usesPayload(e)
	fill(e.Event.Payload[:])
}

func fill(room []byte) {
	for i := range room {
		room[i] = math.MaxUint8
	}
}

// takeText copies a NUL-terminated string as it is, without what lies behind its NUL.
func takeText(to, from []byte) { event.SetText(to, event.Text(from)) }

// putText escapes the string, which keeps different ones different, so that no two series have the same attributes.
func putText(a pcommon.Map, key string, room []byte) {
	if text := event.Text(room); text != "" {
		a.PutStr(key, event.Escape(text))
	}
}

func putNumber(a pcommon.Map, key string, number int64, there bool) {
	if there {
		a.PutInt(key, number)
	}
}

// process returns the process of an event, and notes in the series that it is known; nil where it is not.
func process(e *event.Enriched, s *bpf.Series) *event.Process {
	if !processKnown(&e.Event) {
		return nil
	}
	s.Flags |= bpf.SeriesProcess
	return &e.Event.Process
}

func processKnown(e *event.Event) bool { return e.Process != event.Process{} }

func hasProcess(s *bpf.Series) bool { return s.Flags&bpf.SeriesProcess != 0 }

// dimensions is all of them, in the order of the documentation. The names are those of the records that events
// are exported as (internal/event).
func dimensions() []dimension {
	return []dimension{
		{
			name: dimensionCategory, description: "syscall, network, filesystem or process", values: event.CategoryCount - 1,
			uses: func(e *event.Enriched) { e.Event.Category = math.MaxUint8 },
			take: func(e *event.Enriched, s *bpf.Series) { s.Category = uint8(e.Event.Category) },
			put:  func(a pcommon.Map, s *bpf.Series) { a.PutStr(dimensionCategory, event.Category(s.Category).String()) },
		},
		{
			name: dimensionOperation, description: "connect, open, exec, …; the name of a system call. Needs " + dimensionCategory,
			uses: func(e *event.Enriched) { e.Event.Operation = math.MaxUint16 },
			take: func(e *event.Enriched, s *bpf.Series) { s.Operation = e.Event.Operation },
			put: func(a pcommon.Map, s *bpf.Series) {
				a.PutStr(dimensionOperation, event.OperationName(event.Category(s.Category), s.Operation))
			},
		},
		{
			name: "kernel.event.priority", description: "high, medium or low", values: 3,
			uses: func(e *event.Enriched) { e.Event.Priority, e.Event.Category = math.MaxUint8, math.MaxUint8 },
			take: func(e *event.Enriched, s *bpf.Series) {
				if s.Priority = uint8(e.Event.Priority); e.Event.Priority == event.PriorityUnset {
					s.Priority = uint8(e.Event.Category.Priority())
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) {
				a.PutStr("kernel.event.priority", event.Priority(s.Priority).String())
			},
		},
		{
			name: dimensionError, description: "of a failed event the name of the error number, of the exit of a process its status if it is not 0",
			take: func(e *event.Enriched, s *bpf.Series) { s.Error = errorOf(&e.Event) },
			put: func(a pcommon.Map, s *bpf.Series) {
				if name := errorName(s.Error); name != "" {
					a.PutStr(dimensionError, name)
				}
			},
		},
		{
			name: dimensionExecutable, description: "the name of the executable (at most 23 bytes); without enrichment, or where it is not known, that of the thread", placement: ofProcess,
			take: func(e *event.Enriched, s *bpf.Series) { takeText(s.Executable[:], executable(&e.Event, &e.Context)) },
			put:  func(a pcommon.Map, s *bpf.Series) { putText(a, dimensionExecutable, s.Executable[:]) },
		},
		{
			name: dimensionPID, description: "the process", placement: ofProcess,
			uses: func(e *event.Enriched) { e.Event.Process.TGID = math.MaxUint32 },
			take: func(e *event.Enriched, s *bpf.Series) {
				if p := process(e, s); p != nil {
					s.PID = p.TGID
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) { putNumber(a, dimensionPID, int64(s.PID), hasProcess(s)) },
		},
		{
			name: "process.parent_pid", description: "the parent of the process", placement: ofProcess,
			uses: func(e *event.Enriched) { e.Context.ParentTGID = math.MaxUint32 },
			take: func(e *event.Enriched, s *bpf.Series) { s.ParentPID = e.Context.ParentTGID },
			put: func(a pcommon.Map, s *bpf.Series) {
				putNumber(a, "process.parent_pid", int64(s.ParentPID), s.ParentPID != 0)
			},
		},
		{
			name: "process.executable.path", description: "of an exec, what was executed (at most 39 bytes)",
			uses: usesName,
			take: func(e *event.Enriched, s *bpf.Series) {
				if e.Event.Category == event.CategoryProcess && e.Event.Operation == event.ProcessExec {
					takeName(e, s, bpf.SeriesExecutablePath)
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) { putName(a, "process.executable.path", s, bpf.SeriesExecutablePath) },
		},
		{
			name: "process.exit.code", description: "of an exit, the status",
			uses: func(e *event.Enriched) {
				usesPayload(e)
				e.Event.Result = -1
			},
			take: func(e *event.Enriched, s *bpf.Series) {
				if isExit(&e.Event) {
					s.Flags |= bpf.SeriesExit
					s.ExitCode = int32(max(math.MinInt32, min(e.Event.Result, math.MaxInt32)))
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) {
				putNumber(a, "process.exit.code", int64(s.ExitCode), s.Flags&bpf.SeriesExit != 0)
			},
		},
		{
			name: "kernel.process.exit.signal", description: "of an exit, the signal that ended the process, if one did",
			uses: func(e *event.Enriched) {
				usesPayload(e)
				e.Event.Lifecycle().Signal = math.MaxUint32
			},
			take: func(e *event.Enriched, s *bpf.Series) {
				if isExit(&e.Event) {
					s.ExitSignal = e.Event.Lifecycle().Signal
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) {
				putNumber(a, "kernel.process.exit.signal", int64(s.ExitSignal), s.ExitSignal != 0)
			},
		},
		{
			name: "kernel.process.parent.name", description: "the name of the parent (at most 15 bytes)", placement: ofProcess,
			uses: func(e *event.Enriched) { fill(e.Context.Parent[:]) },
			take: func(e *event.Enriched, s *bpf.Series) { takeText(s.Parent[:], e.Context.Parent[:]) },
			put:  func(a pcommon.Map, s *bpf.Series) { putText(a, "kernel.process.parent.name", s.Parent[:]) },
		},
		{
			name: "kernel.process.ancestor.name", description: "the name of the ancestor that bpf_enrich was told to look for (at most 15 bytes)", placement: ofProcess,
			uses: func(e *event.Enriched) { fill(e.Context.Ancestor[:]) },
			take: func(e *event.Enriched, s *bpf.Series) { takeText(s.Ancestor[:], e.Context.Ancestor[:]) },
			put:  func(a pcommon.Map, s *bpf.Series) { putText(a, "kernel.process.ancestor.name", s.Ancestor[:]) },
		},
		{
			name: "kernel.process.cgroup.id", description: "the number of the cgroup v2", placement: ofProcess,
			uses: func(e *event.Enriched) { e.Event.Process.CgroupID = math.MaxUint64 },
			take: func(e *event.Enriched, s *bpf.Series) { s.CgroupID = e.Event.Process.CgroupID },
			put: func(a pcommon.Map, s *bpf.Series) {
				putNumber(a, "kernel.process.cgroup.id", int64(s.CgroupID), s.CgroupID != 0)
			},
		},
		{
			name: "kernel.process.group.id", description: "the real group id", placement: ofProcess,
			uses: func(e *event.Enriched) { e.Event.Process.GID = math.MaxUint32 },
			take: func(e *event.Enriched, s *bpf.Series) {
				if p := process(e, s); p != nil {
					s.GID = p.GID
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) {
				putNumber(a, "kernel.process.group.id", int64(s.GID), hasProcess(s))
			},
		},
		{
			name: "thread.id", description: "the thread",
			uses: func(e *event.Enriched) { e.Event.Process.TID = math.MaxUint32 },
			take: func(e *event.Enriched, s *bpf.Series) {
				if p := process(e, s); p != nil {
					s.TID = p.TID
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) { putNumber(a, "thread.id", int64(s.TID), hasProcess(s)) },
		},
		{
			name: "thread.name", description: "the name of the thread (at most 15 bytes)",
			uses: func(e *event.Enriched) { fill(e.Event.Process.Comm[:]) },
			take: func(e *event.Enriched, s *bpf.Series) { takeText(s.Thread[:], e.Event.Process.Comm[:]) },
			put:  func(a pcommon.Map, s *bpf.Series) { putText(a, "thread.name", s.Thread[:]) },
		},
		{
			name: "user.id", description: "the real user id",
			uses: func(e *event.Enriched) { e.Event.Process.UID = math.MaxUint32 },
			take: func(e *event.Enriched, s *bpf.Series) {
				if p := process(e, s); p != nil {
					s.UID = p.UID
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) {
				if hasProcess(s) {
					a.PutStr("user.id", strconv.FormatUint(uint64(s.UID), 10))
				}
			},
		},
		{
			name: "user.name", description: "the name of the user (at most 15 bytes)",
			uses: func(e *event.Enriched) { fill(e.Context.User[:]) },
			take: func(e *event.Enriched, s *bpf.Series) { takeText(s.User[:], e.Context.User[:]) },
			put:  func(a pcommon.Map, s *bpf.Series) { putText(a, "user.name", s.User[:]) },
		},
		{
			name: "container.id", description: "the container", placement: ofResource,
			uses: func(e *event.Enriched) { fill(e.Context.ContainerID[:]) },
			take: func(e *event.Enriched, s *bpf.Series) { s.ContainerID = e.Context.ContainerID },
			put: func(a pcommon.Map, s *bpf.Series) {
				if id := (&event.Context{ContainerID: s.ContainerID}).ContainerIDText(); id != "" {
					a.PutStr("container.id", id)
				}
			},
		},
		{
			name: "k8s.pod.uid", description: "the Kubernetes pod", placement: ofResource,
			uses: func(e *event.Enriched) { fill(e.Context.PodUID[:]) },
			take: func(e *event.Enriched, s *bpf.Series) { s.PodUID = e.Context.PodUID },
			put: func(a pcommon.Map, s *bpf.Series) {
				if uid := (&event.Context{PodUID: s.PodUID}).PodUIDText(); uid != "" {
					a.PutStr("k8s.pod.uid", uid)
				}
			},
		},
		{
			name: "network.transport", description: "tcp, udp or unix", values: 4,
			uses: usesFamily,
			take: func(e *event.Enriched, s *bpf.Series) {
				n := network(e)
				switch {
				case n == nil:
				case n.Protocol == protocolTCP, n.Protocol == protocolUDP:
					s.Transport = uint8(n.Protocol)
				case n.Protocol == 0 && n.Family == familyUnix:
					s.Transport = familyUnix
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) {
				switch s.Transport {
				case protocolTCP:
					a.PutStr("network.transport", "tcp")
				case protocolUDP:
					a.PutStr("network.transport", "udp")
				case familyUnix:
					a.PutStr("network.transport", "unix")
				}
			},
		},
		{
			name: "network.type", description: "ipv4 or ipv6", values: 3,
			uses: usesFamily,
			take: func(e *event.Enriched, s *bpf.Series) {
				switch n := internet(e); {
				case n == nil:
				case n.Family == familyIPv4:
					s.NetworkType = 4
				default:
					s.NetworkType = 6
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) {
				switch s.NetworkType {
				case 4:
					a.PutStr("network.type", "ipv4")
				case 6:
					a.PutStr("network.type", "ipv6")
				}
			},
		},
		{
			name: "network.local.address", description: "the local address; one that is IPv4 mapped into IPv6 as IPv4",
			uses: func(e *event.Enriched) {
				usesFamily(e)
				fill(e.Event.Network().LocalAddress[:])
			},
			take: func(e *event.Enriched, s *bpf.Series) {
				if n := internet(e); n != nil {
					takeAddress(&s.LocalAddress, n.Family, n.LocalAddress)
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) { putAddress(a, "network.local.address", s.LocalAddress) },
		},
		{
			name: "network.local.port", description: "the local port",
			uses: func(e *event.Enriched) {
				usesFamily(e)
				e.Event.Network().LocalPort = math.MaxUint16
			},
			take: func(e *event.Enriched, s *bpf.Series) {
				if n := internet(e); n != nil {
					s.LocalPort = n.LocalPort
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) {
				putNumber(a, "network.local.port", int64(s.LocalPort), s.LocalPort != 0)
			},
		},
		{
			name: "network.peer.address", description: "the address of the other side",
			uses: func(e *event.Enriched) {
				usesFamily(e)
				fill(e.Event.Network().RemoteAddress[:])
			},
			take: func(e *event.Enriched, s *bpf.Series) {
				if n := internet(e); n != nil {
					takeAddress(&s.PeerAddress, n.Family, n.RemoteAddress)
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) { putAddress(a, "network.peer.address", s.PeerAddress) },
		},
		{
			name: "network.peer.port", description: "the port of the other side",
			uses: func(e *event.Enriched) {
				usesFamily(e)
				e.Event.Network().RemotePort = math.MaxUint16
			},
			take: func(e *event.Enriched, s *bpf.Series) {
				if n := internet(e); n != nil {
					s.PeerPort = n.RemotePort
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) {
				putNumber(a, "network.peer.port", int64(s.PeerPort), s.PeerPort != 0)
			},
		},
		{
			name: "file.name", description: "of a read, write or fsync, the name of the file (at most 39 bytes)",
			uses: usesName,
			take: func(e *event.Enriched, s *bpf.Series) {
				if e.Event.Category == event.CategoryFilesystem && ofOpenFile(e.Event.Operation) {
					takeName(e, s, bpf.SeriesFileName)
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) { putName(a, "file.name", s, bpf.SeriesFileName) },
		},
		{
			name: "file.path", description: "of the other filesystem operations, the path as the program gave it (at most 39 bytes)",
			uses: usesName,
			take: func(e *event.Enriched, s *bpf.Series) {
				if e.Event.Category == event.CategoryFilesystem && !ofOpenFile(e.Event.Operation) {
					takeName(e, s, bpf.SeriesFilePath)
				}
			},
			put: func(a pcommon.Map, s *bpf.Series) { putName(a, "file.path", s, bpf.SeriesFilePath) },
		},
	}
}

// Address families and protocols that have a name; include/linux/socket.h, include/uapi/linux/in.h.
const (
	familyUnix  = 1
	familyIPv4  = 2
	familyIPv6  = 10
	protocolTCP = 6
	protocolUDP = 17
)

func isExit(e *event.Event) bool {
	return e.Category == event.CategoryProcess && e.Operation == event.ProcessExit
}

// ofOpenFile: of an open file the kernel knows the name; the other calls were given a path.
func ofOpenFile(operation uint16) bool {
	return operation == event.FilesystemRead || operation == event.FilesystemWrite || operation == event.FilesystemFsync
}

// network returns the payload of a network event, nil for another event.
func network(e *event.Enriched) *event.Network {
	if e.Event.Category != event.CategoryNetwork {
		return nil
	}
	return e.Event.Network()
}

// internet returns the payload of a network event that has addresses and ports, nil for another event.
func internet(e *event.Enriched) *event.Network {
	if n := network(e); n != nil && (n.Family == familyIPv4 || n.Family == familyIPv6) {
		return n
	}
	return nil
}

// takeAddress keeps all addresses in one form, so that a series needs no family to tell them apart. One of zeros means
// any address, or that it is not known; it stays zeros.
func takeAddress(to *[16]byte, family uint16, address [16]byte) {
	if family == familyIPv4 {
		ipv4 := netip.AddrFrom4([4]byte(address[:4]))
		if address = [16]byte{}; !ipv4.IsUnspecified() {
			address = ipv4.As16()
		}
	}
	*to = address
}

func putAddress(a pcommon.Map, key string, address [16]byte) {
	if address != [16]byte{} {
		a.PutStr(key, netip.AddrFrom16(address).Unmap().String())
	}
}

func takeName(e *event.Enriched, s *bpf.Series, kind bpf.SeriesName) {
	if takeText(s.Name[:], e.Event.Payload[:]); s.Name[0] != 0 {
		s.NameKind = kind
	}
}

func putName(a pcommon.Map, key string, s *bpf.Series, kind bpf.SeriesName) {
	if s.NameKind == kind {
		putText(a, key, s.Name[:])
	}
}

// executable returns the room with the name of the event's executable or, where that is not known, its thread's.
func executable(e *event.Event, c *event.Context) []byte {
	if c.Known&event.KnownExecutable != 0 {
		return c.Executable[:]
	}
	return e.Process.Comm[:]
}

// errorOf returns the error of an event: positive for an error number, negative for the exit status of a
// process, 0 for none. Those of one name are one.
func errorOf(e *event.Event) int32 {
	code := e.ErrorCode()
	if code == 0 {
		return 0
	}
	if e.Category == event.CategoryProcess && errorName(-code) != errorName(code) {
		code = -code
	}
	if errorName(code) == errorName(math.MaxInt32) {
		return math.MaxInt32
	}
	return code
}

func errorName(code int32) string {
	if code < 0 {
		return event.ErrorTypeOf(event.CategoryProcess, -code)
	}
	return event.ErrorTypeOf(event.CategorySyscall, code)
}

func dimensionByName(name string) (dimension, bool) {
	for _, d := range dimensions() {
		if d.name == name {
			return d, true
		}
	}
	return dimension{}, false
}

func dimensionNames() []string {
	var names []string
	for _, d := range dimensions() {
		names = append(names, d.name)
	}
	return names
}
