package event

import (
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// decodeRecord reads the event of a record into e and returns its size: EnrichedSize if it has a context.
// The event name says category and operation. Attributes of others are ignored.
func decodeRecord(record plog.LogRecord, e *Enriched) (size int, err error) {
	*e = Enriched{Event: Event{Version: Version}}
	category, operation, _ := strings.Cut(strings.TrimPrefix(record.EventName(), recordEventPrefix), ".")
	if e.Event.Category, err = ParseCategory(category); err != nil {
		return 0, refuse(ReasonForeign, 0, "event name %q: %s", record.EventName(), err)
	}
	var ok bool
	if e.Event.Operation, ok = ParseOperation(e.Event.Category, operation); !ok {
		return 0, refuse(ReasonEvent, 1, "event name %q: category %s has no operation %q", record.EventName(), category, operation)
	}
	r := recordReader{event: &e.Event, context: &e.Context, size: Size}
	for key, value := range record.Attributes().All() {
		if err := r.attribute(key, value); err != nil {
			return 0, refuse(ReasonEvent, 1, "attribute %s: %s", key, err)
		}
	}
	if !r.timed {
		return 0, refuse(ReasonEvent, 1, "attribute %s is missing", attributeBootTime)
	}
	if r.nameCut { // the flags of the record may come after its name
		e.Event.Flags |= FlagNameCut
	}
	if err := e.Event.Validate(); err != nil {
		return 0, refuse(ReasonEvent, 1, "%s", err)
	}
	return r.size, nil
}

type recordReader struct {
	event   *Event
	context *Context
	size    int
	timed   bool // the event has its time
	exact   bool // the duration is there in ns
	nameCut bool // it was longer than the payload
	given   bool // the payload is what exec was given
}

func (r *recordReader) attribute(key string, value pcommon.Value) error {
	e, c := r.event, r.context
	switch key {
	case attributePriority:
		return readName(&e.Priority, value)
	case attributeBootTime:
		r.timed = true
		return readBits(&e.Time, value)
	case attributeDuration:
		return r.duration(value)
	case attributeDurationNs:
		r.exact = true
		return readBits(&e.Duration, value)
	case attributeBytes:
		return readBits(&e.Bytes, value)
	case attributeResult:
		return readBits(&e.Result, value)
	case attributeFlags:
		return readInt(&e.Flags, value)
	case attributePID:
		return readInt(&e.Process.TGID, value)
	case attributeThreadID:
		return readInt(&e.Process.TID, value)
	case attributeThreadName:
		return readText(e.Process.Comm[:], value)
	case attributeUserID:
		return readUserID(&e.Process.UID, value)
	case attributeGroupID:
		return readInt(&e.Process.GID, value)
	case attributeCgroupID:
		return readBits(&e.Process.CgroupID, value)
	case attributeProcessStart:
		return readBits(&e.Process.Start, value)
	case attributeExecNumber:
		return readInt(&e.ExecNumber, value)
	case attributeKnown:
		r.size = EnrichedSize
		return readInt(&c.Known, value)
	case attributeCut:
		return readInt(&c.Cut, value)
	case attributeMissing:
		return readName(&c.Reason, value)
	case attributeExecutableName:
		return readText(c.Executable[:], value)
	case attributeParentName:
		return readText(c.Parent[:], value)
	case attributeAncestorName:
		return readText(c.Ancestor[:], value)
	case attributeUserName:
		return readText(c.User[:], value)
	case attributeParentPID:
		return readInt(&c.ParentTGID, value)
	case attributeContainerID:
		return readHex(c.ContainerID[:], value)
	case attributePodUID:
		return readHex(c.PodUID[:], value)
	default:
		return r.payload(key, value)
	}
}

func (r *recordReader) payload(key string, value pcommon.Value) error {
	e := r.event
	switch {
	case e.Category == CategoryNetwork:
		return readNetwork(e.Network(), key, value)
	case e.Category == CategoryFilesystem && (key == attributeFileName || key == attributeFilePath):
		return r.name(value)
	case e.Category == CategoryProcess && e.Operation == ProcessExec && key == attributeFilePath:
		r.given = true // where enrichment has put in the path of the executable
		return r.name(value)
	case e.Category == CategoryProcess && e.Operation == ProcessExec && key == attributeExecutablePath && !r.given:
		return r.name(value)
	case e.Category == CategoryProcess && e.Operation == ProcessFork && key == attributeChildPID:
		return readInt(&e.Lifecycle().ChildTGID, value)
	case e.Category == CategoryProcess && e.Operation == ProcessExit && key == attributeExitSignal:
		return readInt(&e.Lifecycle().Signal, value)
	}
	return nil
}

// name reads a payload that is one. It may be longer than any encoder makes it: enrichment puts in the whole path of an executable.
func (r *recordReader) name(value pcommon.Value) error {
	text, err := textOf(value)
	if err != nil {
		return err
	}
	room := r.event.Payload[:]
	if r.nameCut = len(text) > len(room); r.nameCut {
		text = text[:len(room)-1]
	}
	clear(room[copy(room, text):])
	return nil
}

func readNetwork(n *Network, key string, value pcommon.Value) error {
	switch key {
	case attributeNetworkTransport:
		switch name := value.AsString(); name {
		case "tcp":
			n.Protocol = protocolTCP
		case "udp":
			n.Protocol = protocolUDP
		case "unix":
			n.Family = familyUnix
		default:
			return fmt.Errorf("%q is none of tcp, udp and unix", name)
		}
		return nil
	case attributeNetworkType:
		switch name := value.AsString(); name {
		case "ipv4":
			n.Family = familyIPv4
		case "ipv6":
			n.Family = familyIPv6
		default:
			return fmt.Errorf("%q is neither ipv4 nor ipv6", name)
		}
		return nil
	case attributeNetworkProtocol:
		return readInt(&n.Protocol, value)
	case attributeNetworkFamily:
		return readInt(&n.Family, value)
	case attributeLocalAddress:
		return readAddress(&n.LocalAddress, value)
	case attributeLocalPort:
		return readInt(&n.LocalPort, value)
	case attributePeerAddress:
		return readAddress(&n.RemoteAddress, value)
	case attributePeerPort:
		return readInt(&n.RemotePort, value)
	}
	return nil
}

func (r *recordReader) duration(value pcommon.Value) error {
	if value.Type() != pcommon.ValueTypeDouble {
		return wrongType(value, pcommon.ValueTypeDouble)
	}
	ns, ok := nanoseconds(value.Double())
	if !ok {
		return fmt.Errorf("%v s is no duration", value.Double())
	}
	if !r.exact {
		r.event.Duration = ns
	}
	return nil
}

// nanoseconds converts seconds; false for what is beyond an event's Duration.
func nanoseconds(seconds float64) (uint64, bool) {
	switch ns := math.Round(seconds * 1e9); {
	case ns >= 0 && ns < 1<<64:
		return uint64(ns), true
	case ns == 1<<64: // the double nearest to the longest durations
		return math.MaxUint64, true
	default:
		return 0, false
	}
}

// readBits reads a number that takes all 64 bits; a negative one may stand for one beyond int64.
func readBits[T uint64 | int64](to *T, value pcommon.Value) error {
	if value.Type() != pcommon.ValueTypeInt {
		return wrongType(value, pcommon.ValueTypeInt)
	}
	*to = T(value.Int())
	return nil
}

// readInt reads a number that has less than 64 bits.
func readInt[T ~uint8 | ~uint16 | ~uint32](to *T, value pcommon.Value) error {
	if value.Type() != pcommon.ValueTypeInt {
		return wrongType(value, pcommon.ValueTypeInt)
	}
	number := value.Int()
	if number < 0 || number > int64(^T(0)) {
		return fmt.Errorf("%d is not between 0 and %d", number, ^T(0))
	}
	*to = T(number)
	return nil
}

func readUserID(to *uint32, value pcommon.Value) error {
	if value.Type() != pcommon.ValueTypeStr {
		return wrongType(value, pcommon.ValueTypeStr)
	}
	number, err := strconv.ParseUint(value.Str(), 10, 32)
	if err != nil {
		return fmt.Errorf("%q is no user ID of this system", value.Str())
	}
	*to = uint32(number)
	return nil
}

// readText fills a room for a string, which must fit: an encoder never makes it longer.
func readText(room []byte, value pcommon.Value) error {
	text, err := textOf(value)
	if err != nil {
		return err
	}
	if len(text) > len(room) {
		return fmt.Errorf("%q has more than %d bytes", text, len(room))
	}
	clear(room[copy(room, text):])
	return nil
}

// textOf returns the name in a value, which may stand in a NUL-terminated room.
func textOf(value pcommon.Value) (string, error) {
	if value.Type() != pcommon.ValueTypeStr {
		return "", wrongType(value, pcommon.ValueTypeStr)
	}
	text := Unescape(value.Str())
	if strings.IndexByte(text, 0) >= 0 {
		return "", fmt.Errorf("%q has a NUL", text)
	}
	return text, nil
}

// readHex reads hexadecimal digits, with or without the dashes of a UUID.
func readHex(to []byte, value pcommon.Value) error {
	if value.Type() != pcommon.ValueTypeStr {
		return wrongType(value, pcommon.ValueTypeStr)
	}
	digits := strings.ReplaceAll(value.Str(), "-", "")
	bytes, err := hex.DecodeString(digits)
	if err != nil || len(bytes) != len(to) {
		return fmt.Errorf("%q is not made of %d hexadecimal digits", value.Str(), 2*len(to))
	}
	copy(to, bytes)
	return nil
}

func readAddress(to *[16]byte, value pcommon.Value) error {
	if value.Type() != pcommon.ValueTypeStr {
		return wrongType(value, pcommon.ValueTypeStr)
	}
	address, err := netip.ParseAddr(value.Str())
	if err != nil || address.Zone() != "" {
		return fmt.Errorf("%q is no IP address", value.Str())
	}
	*to = [16]byte{}
	copy(to[:], address.AsSlice())
	return nil
}

// readName reads a value by the name that its String gives it.
func readName[T interface {
	~uint8
	fmt.Stringer
}](to *T, value pcommon.Value) error {
	name := value.AsString()
	for number := range math.MaxUint8 + 1 {
		if T(number).String() == name {
			*to = T(number)
			return nil
		}
	}
	return fmt.Errorf("%q is unknown", name)
}

func wrongType(value pcommon.Value, expected pcommon.ValueType) error {
	return fmt.Errorf("the value is a %s, expected a %s", value.Type(), expected)
}
