package event

import (
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect is a network event as the probes make it.
func connect() Event {
	e := Event{
		Time: 5_000_000_000, Duration: 1_234_567, Result: -111,
		Process:   Process{CgroupID: 4242, Start: 4_000_000_000, TGID: 1000, TID: 1001, UID: 33, GID: 34},
		Operation: NetworkConnect, Category: CategoryNetwork, Priority: PriorityMedium, Version: Version,
		ExecNumber: 7,
	}
	SetText(e.Process.Comm[:], "curl")
	*e.Network() = Network{
		Family: familyIPv4, Protocol: protocolTCP, LocalPort: 40000, RemotePort: 443,
		LocalAddress: [16]byte{127, 0, 0, 1}, RemoteAddress: [16]byte{192, 0, 2, 7},
	}
	return e
}

// randomEvent returns any event that has no bytes without a meaning.
func randomEvent(r *rand.Rand) Event {
	bits := func() uint64 { return r.Uint64() >> r.IntN(64) }
	e := Event{
		Time: bits() & MaxTime, Duration: bits() & MaxDuration, Bytes: bits() & MaxBytes, Result: int64(bits()),
		Operation: uint16(bits()), Category: Categories()[r.IntN(4)], Priority: Priority(r.IntN(256)), Version: Version, Flags: Flags(r.IntN(256)),
	}
	if r.IntN(2) == 0 {
		e.Result = -e.Result
	}
	if r.IntN(4) > 0 && e.Category != CategorySyscall { // an operation that has a name
		e.Operation = uint16(1 + r.IntN(len(operationNames[e.Category])-1))
	}
	if r.IntN(4) > 0 {
		e.Process = Process{
			CgroupID: bits(), Start: bits(), TGID: uint32(bits()), TID: uint32(bits()), UID: uint32(bits()), GID: uint32(bits()),
		}
		randomText(r, e.Process.Comm[:])
	}
	e.ExecNumber = uint16(bits())
	switch {
	case e.HasName():
		randomText(r, e.Payload[:])
	case e.Category == CategoryNetwork:
		*e.Network() = randomNetwork(r)
	case e.Category == CategoryProcess && e.Operation == ProcessFork:
		e.Lifecycle().ChildTGID = uint32(bits())
	case e.Category == CategoryProcess && e.Operation == ProcessExit:
		e.Lifecycle().Signal = uint32(bits())
	}
	return e
}

func randomNetwork(r *rand.Rand) (n Network) {
	n.Protocol = [...]uint16{0, protocolTCP, protocolUDP, 1, 65535}[r.IntN(5)]
	n.Family = [...]uint16{0, familyUnix, familyIPv4, familyIPv6, 16, 65535}[r.IntN(6)]
	length := map[uint16]int{familyIPv4: 4, familyIPv6: 16}[n.Family]
	if length == 0 {
		return n
	}
	n.LocalPort, n.RemotePort = uint16(r.Uint32()), uint16(r.Uint32())
	for _, address := range [][]byte{n.LocalAddress[:length], n.RemoteAddress[:length]} {
		switch r.IntN(3) {
		case 0:
			randomBytes(r, address)
		case 1:
			copy(address, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3}) // IPv4 in IPv6
		}
	}
	return n
}

func randomContext(r *rand.Rand) Context {
	c := Context{
		Known: Known(r.IntN(256)), Cut: Known(r.IntN(256)), Reason: Missing(r.IntN(256)), ParentTGID: r.Uint32() >> r.IntN(32),
	}
	for _, room := range [][]byte{c.Executable[:], c.Parent[:], c.Ancestor[:], c.User[:]} {
		randomText(r, room)
	}
	if r.IntN(2) == 0 {
		randomBytes(r, c.ContainerID[:])
		randomBytes(r, c.PodUID[:])
	}
	return c
}

func randomBytes(r *rand.Rand, to []byte) {
	for i := range to {
		to[i] = byte(r.Uint32())
	}
}

func randomText(r *rand.Rand, room []byte) {
	letters := []rune("abc/.- é☃\U0001F600\x01\"")
	var text string
	for range r.IntN(len(room) + 1) {
		if next := text + string(letters[r.IntN(len(letters))]); len(next) <= len(room) {
			text = next
		}
	}
	copy(room, text)
}
