package event

import (
	"encoding/hex"
	"net/netip"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// A record is an event as a log record of its own. What an event does not have, its record does not have
// either: an attribute that is absent means zero. Names are escaped (Escape). Decoding gives the same event
// again, but for bytes that mean nothing: padding, what follows the NUL of a name, and a payload where the
// category has none. A name that others made longer than an event has room for is cut and flagged.

// recordEventPrefix begins the event name of a record: kernel.<category>.<operation>.
const recordEventPrefix = "kernel."

// schemaURL names the semantic conventions that the attributes follow.
const schemaURL = "https://opentelemetry.io/schemas/1.43.0"

// The attributes of a record that semantic conventions define.
const (
	attributePID              = "process.pid"
	attributeParentPID        = "process.parent_pid"
	attributeExecutableName   = "process.executable.name" // enriched events only
	attributeExecutablePath   = "process.executable.path" // exec
	attributeExitCode         = "process.exit.code"
	attributeThreadID         = "thread.id"
	attributeThreadName       = "thread.name" // comm
	attributeUserID           = "user.id"
	attributeUserName         = "user.name"
	attributeContainerID      = "container.id"
	attributePodUID           = "k8s.pod.uid"
	attributeFileName         = "file.name" // of an open file
	attributeFilePath         = "file.path" // as the program gave it
	attributeNetworkTransport = "network.transport"
	attributeNetworkType      = "network.type"
	attributeLocalAddress     = "network.local.address"
	attributeLocalPort        = "network.local.port"
	attributePeerAddress      = "network.peer.address"
	attributePeerPort         = "network.peer.port"
	attributeErrorType        = "error.type"
)

// The attributes of a record that are our own. Those with _ns are integers; boot times have the kernel's
// boot-time clock.
const (
	attributeCategory        = "kernel.event.category"
	attributeOperation       = "kernel.event.operation"
	attributePriority        = "kernel.event.priority"
	attributeBootTime        = "kernel.event.boot_time_ns"
	attributeDuration        = "kernel.event.duration"    // s
	attributeDurationNs      = "kernel.event.duration_ns" // only where a double can't say it exactly
	attributeBytes           = "kernel.event.bytes"
	attributeResult          = "kernel.event.result"
	attributeFlags           = "kernel.event.flags"
	attributeGroupID         = "kernel.process.group.id"
	attributeCgroupID        = "kernel.process.cgroup.id"
	attributeProcessStart    = "kernel.process.start_time_ns"
	attributeExecNumber      = "kernel.process.exec.number"
	attributeChildPID        = "kernel.process.child.pid"
	attributeExitSignal      = "kernel.process.exit.signal"
	attributeParentName      = "kernel.process.parent.name"
	attributeAncestorName    = "kernel.process.ancestor.name"
	attributeNetworkFamily   = "kernel.network.family"   // without a network.type
	attributeNetworkProtocol = "kernel.network.protocol" // without a network.transport
	attributeKnown           = "kernel.enrichment.known" // on every enriched event, and on no other
	attributeCut             = "kernel.enrichment.cut"
	attributeMissing         = "kernel.enrichment.missing"
)

// Room for what most events have, so that the attributes are allocated once.
const (
	recordAttributes  = 22
	contextAttributes = 10
)

// Address families and protocols that have a name; include/linux/socket.h, include/uapi/linux/in.h.
const (
	familyUnix  = 1
	familyIPv4  = 2
	familyIPv6  = 10
	protocolTCP = 6
	protocolUDP = 17
)

var recordEventNames = nameRecordEvents()

func nameRecordEvents() (names [CategoryCount]map[uint16]string) {
	for _, c := range Categories() {
		names[c] = map[uint16]string{}
		for _, name := range Operations(c) {
			operation, _ := ParseOperation(c, name)
			names[c][operation] = recordEventPrefix + c.String() + "." + name
		}
	}
	return names
}

func recordEventName(c Category, operation uint16) string {
	if c.Valid() {
		if name := recordEventNames[c][operation]; name != "" {
			return name
		}
	}
	return recordEventPrefix + c.String() + "." + OperationName(c, operation)
}

func encodeRecords(batch Batch, clock Clock) plog.Logs {
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	resource.SetSchemaUrl(schemaURL)
	scope := resource.ScopeLogs().AppendEmpty()
	scope.Scope().SetName(scopeName)
	records := scope.LogRecords()
	records.EnsureCapacity(batch.Len())
	observed := clock.Unix(clock.Now())
	if batch.Enriched() {
		for i := range batch.Len() {
			enriched := batch.enriched(i)
			record := records.AppendEmpty()
			record.Attributes().EnsureCapacity(recordAttributes + contextAttributes)
			encodeEvent(record, &enriched.Event, clock, observed)
			encodeContext(record.Attributes(), &enriched.Context)
		}
		return logs
	}
	for i := range batch.Len() {
		record := records.AppendEmpty()
		record.Attributes().EnsureCapacity(recordAttributes)
		encodeEvent(record, batch.At(i), clock, observed)
	}
	return logs
}

// encodeEvent leaves the severity unset: whether a failed open is worth a warning is not the kernel's to say.
func encodeEvent(record plog.LogRecord, e *Event, clock Clock, observed pcommon.Timestamp) {
	record.SetEventName(recordEventName(e.Category, e.Operation))
	record.SetTimestamp(clock.Unix(e.Time))
	record.SetObservedTimestamp(observed)

	a := record.Attributes()
	a.PutStr(attributeCategory, e.Category.String())
	a.PutStr(attributeOperation, e.OperationName())
	if e.Priority != PriorityUnset {
		a.PutStr(attributePriority, e.Priority.String())
	}
	a.PutInt(attributeBootTime, int64(e.Time))
	if e.Duration != 0 {
		seconds := float64(e.Duration) / 1e9
		a.PutDouble(attributeDuration, seconds)
		if exact, ok := nanoseconds(seconds); !ok || exact != e.Duration {
			a.PutInt(attributeDurationNs, int64(e.Duration))
		}
	}
	putInt(a, attributeBytes, int64(e.Bytes))
	a.PutInt(attributeResult, e.Result)
	putText(a, attributeErrorType, e.ErrorType())
	putInt(a, attributeFlags, int64(e.Flags))
	encodeProcess(a, &e.Process)
	putInt(a, attributeExecNumber, int64(e.ExecNumber))
	encodePayload(a, e)
}

func encodeProcess(a pcommon.Map, p *Process) {
	if *p == (Process{}) { // not known
		return
	}
	a.PutInt(attributePID, int64(p.TGID))
	a.PutInt(attributeThreadID, int64(p.TID))
	putText(a, attributeThreadName, Text(p.Comm[:]))
	a.PutStr(attributeUserID, strconv.FormatUint(uint64(p.UID), 10))
	a.PutInt(attributeGroupID, int64(p.GID))
	putInt(a, attributeCgroupID, int64(p.CgroupID))
	putInt(a, attributeProcessStart, int64(p.Start))
}

func encodePayload(a pcommon.Map, e *Event) {
	switch e.Category {
	case CategoryNetwork:
		encodeNetwork(a, e.Network())
	case CategoryFilesystem:
		putText(a, fileAttribute(e.Operation), e.Name())
	case CategoryProcess:
		switch e.Operation {
		case ProcessFork:
			putInt(a, attributeChildPID, int64(e.Lifecycle().ChildTGID))
		case ProcessExec:
			putText(a, attributeExecutablePath, e.Name())
		case ProcessExit:
			a.PutInt(attributeExitCode, e.Result)
			putInt(a, attributeExitSignal, int64(e.Lifecycle().Signal))
		}
	}
}

// fileAttribute: of an open file the kernel knows the name; the other calls were given a path.
func fileAttribute(operation uint16) string {
	switch operation {
	case FilesystemRead, FilesystemWrite, FilesystemFsync:
		return attributeFileName
	default:
		return attributeFilePath
	}
}

func encodeNetwork(a pcommon.Map, n *Network) {
	switch {
	case n.Protocol == protocolTCP:
		a.PutStr(attributeNetworkTransport, "tcp")
	case n.Protocol == protocolUDP:
		a.PutStr(attributeNetworkTransport, "udp")
	case n.Protocol == 0 && n.Family == familyUnix:
		a.PutStr(attributeNetworkTransport, "unix")
		return
	default:
		putInt(a, attributeNetworkProtocol, int64(n.Protocol))
	}
	switch n.Family {
	case familyIPv4:
		a.PutStr(attributeNetworkType, "ipv4")
	case familyIPv6:
		a.PutStr(attributeNetworkType, "ipv6")
	default:
		putInt(a, attributeNetworkFamily, int64(n.Family))
		return
	}
	putAddress(a, attributeLocalAddress, n.Family, n.LocalAddress)
	putInt(a, attributeLocalPort, int64(n.LocalPort))
	putAddress(a, attributePeerAddress, n.Family, n.RemoteAddress)
	putInt(a, attributePeerPort, int64(n.RemotePort))
}

// putAddress leaves out an address of zeros: it means any address, or that the address is not known.
func putAddress(a pcommon.Map, key string, family uint16, address [16]byte) {
	ip := netip.AddrFrom16(address)
	if family == familyIPv4 {
		ip = netip.AddrFrom4([4]byte(address[:4]))
	}
	if !ip.IsUnspecified() {
		a.PutStr(key, ip.String())
	}
}

func encodeContext(a pcommon.Map, c *Context) {
	a.PutInt(attributeKnown, int64(c.Known))
	putInt(a, attributeCut, int64(c.Cut))
	if c.Reason != MissingNothing {
		a.PutStr(attributeMissing, c.Reason.String())
	}
	putText(a, attributeExecutableName, Text(c.Executable[:]))
	putText(a, attributeParentName, Text(c.Parent[:]))
	putText(a, attributeAncestorName, Text(c.Ancestor[:]))
	putText(a, attributeUserName, Text(c.User[:]))
	putInt(a, attributeParentPID, int64(c.ParentTGID))
	putText(a, attributeContainerID, c.ContainerIDText())
	putText(a, attributePodUID, c.PodUIDText())
}

// putInt and putText leave out what is not there. A number beyond the range of int64 (nothing real is)
// is stored as the negative number with the same bits.
func putInt(a pcommon.Map, key string, value int64) {
	if value != 0 {
		a.PutInt(key, value)
	}
}

func putText(a pcommon.Map, key, value string) {
	if value != "" {
		a.PutStr(key, Escape(value))
	}
}

// ContainerIDText returns the 64 hexadecimal digits of the container id, "" if there is none.
func (c *Context) ContainerIDText() string {
	if c.ContainerID == ([32]byte{}) {
		return ""
	}
	return hex.EncodeToString(c.ContainerID[:])
}

// PodUIDText returns the pod UID in its usual form, 8-4-4-4-12 hexadecimal digits, "" if there is none.
func (c *Context) PodUIDText() string {
	if c.PodUID == ([16]byte{}) {
		return ""
	}
	digits := hex.EncodeToString(c.PodUID[:])
	return digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]
}
