//go:build linux && kernel

package bpfreceiver

// Sockets, on known workloads: each connection and each failure once, with its process and its addresses.

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// ends returns both ends of a network event, as "local>peer"; what is not known is "-".
func ends(e *event.Event) string {
	n := e.Network()
	end := func(address [16]byte, port uint16) string {
		ip := netip.AddrFrom16(address)
		if n.Family == unix.AF_INET {
			ip = netip.AddrFrom4([4]byte(address[:4]))
		}
		if ip.IsUnspecified() && port == 0 {
			return "-"
		}
		if ip.IsUnspecified() {
			return fmt.Sprint("-:", port)
		}
		return netip.AddrPortFrom(ip, port).String()
	}
	return end(n.LocalAddress, n.LocalPort) + ">" + end(n.RemoteAddress, n.RemotePort)
}

// countBy counts events by a description of each.
func countBy(events []event.Event, describe func(*event.Event) string) map[string]int {
	counts := map[string]int{}
	for i := range events {
		counts[describe(&events[i])]++
	}
	return counts
}

func TestTCPSelf(t *testing.T) {
	const n = 20
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "tcp_self", argument{N: n})
	checkTally(t, tally{
		"network.connect": {events: n}, "network.close": {events: n},
		"network.send": {events: n, bytes: 5 * n}, "network.receive": {events: n, bytes: 5 * n},
	}, events)
	connected := map[uint16]event.Event{}
	for _, connect := range only(events, event.CategoryNetwork, "connect") {
		connected[connect.Network().LocalPort] = connect
	}
	for _, end := range only(events, event.CategoryNetwork, "close") {
		connect := connected[end.Network().LocalPort]
		assert.Equal(t, connect.Time, end.Time-end.Duration, "its life begins when it is established")
	}
}

// A simultaneous open that fails is one failed connect, and no close, for there was no connection.
func TestTCPSimultaneous(t *testing.T) {
	const n = 10
	events := trace(t, `probes: {network: {operation: [connect, close], command: [$COMMAND]}}`, "tcp_simultaneous", argument{N: n})
	checkTally(t, tally{"network.connect ECONNRESET": {events: n}, "network.connect ECANCELED": {events: n}}, events)
}

func TestFastOpen(t *testing.T) {
	const n = 5
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "fast_open", argument{N: n})
	checkTally(t, tally{
		"network.connect": {events: 2 * n}, "network.connect ECONNREFUSED": {events: n}, "network.connect ECANCELED": {events: n},
		"network.accept": {events: 2 * n}, "network.close": {events: 4 * n},
		"network.send": {events: 4 * n, bytes: 20 * n}, "network.receive": {events: 4 * n, bytes: 20 * n},
		"network.send ECONNREFUSED": {events: n}, // its bytes were not sent; where the call does not wait that is not known
	}, events)
}

func TestMPTCP(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err != nil {
		t.Skip("no MPTCP here: ", err)
	}
	require.NoError(t, unix.Close(fd))
	const n, pairs = 5, 3
	r := start(t, configure(t, `probes: {network: {command: [$COMMAND]}}`), &sink{})
	p := begin(t, "mptcp", argument{N: n})
	p.tell()
	p.expect("closed")
	eventually(t, func() bool { return len(only(r.sink.all(), event.CategoryNetwork, "close")) >= 2*2*pairs*n })
	p.tell()
	p.end()
	r.stop(t)
	const all = 2 * pairs * n
	checkTally(t, tally{
		"network.connect": {events: all}, "network.connect ECONNREFUSED": {events: n},
		"network.accept": {events: all}, "network.close": {events: 2 * all},
		"network.send": {events: 2 * all, bytes: 150 * all}, "network.receive": {events: 3 * all, bytes: 150 * all},
	}, r.sink.all())
	for _, e := range r.sink.all() {
		assert.EqualValues(t, unix.IPPROTO_TCP, e.Network().Protocol)
		assert.Equal(t, workCommand(), e.Comm())
		assert.NotZero(t, e.Network().RemotePort, e.OperationName())
	}
}

// There are as many retransmits as TcpRetransSegs counts: SYN, SYN-ACK, and each segment of a buffer.
func TestRetransmits(t *testing.T) {
	r := start(t, configure(t, `probes: {network: {operation: [retransmit]}}`), &sink{})
	p := begin(t, "retransmits", argument{})
	p.tell()
	var want int
	_, err := fmt.Sscanf(p.line(), "retransmitted %d", &want)
	require.NoError(t, err)
	p.end()
	r.stop(t)
	own := ownLoopback(int(p.pid()))
	got, withoutProcess := 0, 0
	for _, e := range r.sink.all() {
		network := e.Network()
		if network.Family != unix.AF_INET || [4]byte(network.LocalAddress[:4]) != own && [4]byte(network.RemoteAddress[:4]) != own {
			continue // another's
		}
		got++
		assert.NotZero(t, network.LocalPort)
		assert.NotZero(t, network.RemotePort)
		if e.Process.TGID == 0 {
			withoutProcess++
		} else {
			assert.Equal(t, workCommand(), e.Comm())
		}
	}
	assert.Equal(t, want, got)
	assert.NotZero(t, withoutProcess, "a SYN-ACK is of no process yet")
}

func TestUnreachable(t *testing.T) {
	const n = 5
	events := trace(t, `probes: {network: {command: [$COMMAND]}, syscall: {include: [connect], command: [$COMMAND]}}`, "unreachable", argument{N: n})
	counts := countBy(events, func(e *event.Event) string {
		if e.Category != event.CategoryNetwork {
			return e.Category.String() + " " + e.OperationName()
		}
		_, peer, _ := strings.Cut(ends(e), ">")
		assert.True(t, e.Failed())
		return fmt.Sprint(e.OperationName(), " ", e.Network().Family, " ", e.Network().Protocol, " ", peer)
	})
	assert.Equal(t, map[string]int{
		"connect 2 6 192.0.2.1:1001":       n,
		"connect 2 6 192.0.2.2:1002":       n,
		"connect 10 6 [2001:db8::3]:1003":  n,
		"connect 2 17 192.0.2.1:1001":      n,
		"connect 2 17 192.0.2.2:1002":      n,
		"connect 10 17 [2001:db8::3]:1003": n,
		"syscall connect":                  n, // an address of no family: it disconnects
	}, counts)
}

func TestDatagrams(t *testing.T) {
	const n = 5
	events := trace(t, `probes: {network: {command: [$COMMAND]}}`, "datagrams", argument{N: n})
	counts := countBy(events, func(e *event.Event) string {
		return fmt.Sprint(e.OperationName(), " ", e.Network().Family, " ", e.Bytes, " ", ends(e))
	})
	assert.Equal(t, map[string]int{
		"send 2 100 127.0.0.1:1001>127.0.0.1:1002":    3 * n,
		"send 2 200 127.0.0.1:1001>127.0.0.1:1002":    n,
		"send 2 100 -:1002>127.0.0.1:1001":            2 * n,
		"receive 2 100 -:1002>127.0.0.1:1001":         2 * n,
		"receive 2 200 -:1002>127.0.0.1:1001":         n,
		"receive 2 100 127.0.0.1:1001>127.0.0.1:1002": 2 * n,
		"receive 10 100 -:1002>-":                     n, // nobody asked where it is from
		"send 2 200 127.0.0.1:1001>-":                 1, // to more than one
	}, counts)
}

// IPv4 over a socket of IPv6 is IPv4.
func TestDualStack(t *testing.T) {
	const n = 5
	events := trace(t, `probes: {network: {command: [$COMMAND], operation: [connect, accept, send, receive, close]}}`, "dual_stack", argument{N: n})
	counts := countBy(events, func(e *event.Event) string {
		network := e.Network()
		local, remote := netip.AddrFrom16(network.LocalAddress), netip.AddrFrom16(network.RemoteAddress)
		if network.Family == unix.AF_INET {
			local, remote = netip.AddrFrom4([4]byte(network.LocalAddress[:4])), netip.AddrFrom4([4]byte(network.RemoteAddress[:4]))
			assert.Equal(t, make([]byte, 12), network.LocalAddress[4:])
			assert.Equal(t, make([]byte, 12), network.RemoteAddress[4:])
		}
		return fmt.Sprint(e.OperationName(), " ", local, " ", remote)
	})
	assert.Equal(t, map[string]int{
		"connect 127.0.0.1 127.0.0.1": 2 * n, "accept 127.0.0.1 127.0.0.1": 2 * n, "close 127.0.0.1 127.0.0.1": 4 * n,
		"send 127.0.0.1 127.0.0.1": 2 * n, "receive 127.0.0.1 127.0.0.1": 2 * n,
		"connect ::1 ::1": n, "accept ::1 ::1": n, "close ::1 ::1": 2 * n, "send ::1 ::1": n, "receive ::1 ::1": n,
	}, counts)
}

// No tracepoint tells how a connect of a socket that is none of TCP ends, but whoever asks is told.
func TestOtherConnects(t *testing.T) {
	fd, _, err := vsockToNobody()
	if !errors.Is(err, unix.EINPROGRESS) {
		t.Skip("no vsock here that does not wait: ", err)
	}
	require.NoError(t, unix.Close(fd))
	const n = 3
	events := trace(t, `probes: {network: {errors_only: true, command: [$COMMAND]}}`, "other_connects", argument{N: n})
	outcomes := map[string]int{}
	for i := range events {
		assert.Equal(t, "connect", events[i].OperationName())
		assert.EqualValues(t, unix.AF_VSOCK, events[i].Network().Family)
		outcomes[events[i].ErrorType()]++
	}
	assert.Equal(t, map[string]int{"ETIMEDOUT": n + 1, "ECANCELED": n}, outcomes)
}
