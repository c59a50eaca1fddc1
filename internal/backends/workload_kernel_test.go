//go:build linux && kernel

package backends

import (
	"bytes"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// program is the name under which the events of the workload were done.
const program = "workload"

// processes is how many did them.
const processes = 4

// operation is a kind of event in the workload.
type operation struct {
	category  event.Category
	operation uint16
	median    float64 // ns; 0: these have no duration
	moves     bool    // bytes
	errno     int64   // of those that fail; 0: none does
}

func operations() []operation {
	return []operation{
		{event.CategoryNetwork, event.NetworkConnect, 2e6, false, 111},
		{event.CategoryNetwork, event.NetworkSend, 2e4, true, 32},
		{event.CategoryFilesystem, event.FilesystemOpen, 5e3, false, 2},
		{event.CategoryFilesystem, event.FilesystemWrite, 3e4, true, 0},
		{event.CategoryFilesystem, event.FilesystemFsync, 8e6, false, 5},
		{event.CategorySyscall, 1, 1e3, false, 0},
		{event.CategoryProcess, event.ProcessExec, 0, false, 0},
	}
}

// newWorkload returns n events, the same every time: durations have log-normal distributions, from well below to well
// above the median.
func newWorkload(t testing.TB, n int) []event.Event {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	kinds := operations()
	events := make([]event.Event, n)
	for i := range events {
		kind, pid := &kinds[r.IntN(len(kinds))], uint32(1<<30+i%processes)
		e := &events[i]
		*e = event.Event{
			Version: event.Version, Category: kind.category, Operation: kind.operation, Time: event.Clock{}.Now(),
			Duration: uint64(kind.median * math.Exp(1.5*r.NormFloat64())),
			Process:  event.Process{Start: 1, TGID: pid, TID: pid, UID: 1000},
		}
		event.SetText(e.Process.Comm[:], program)
		switch {
		case kind.errno != 0 && r.IntN(8) == 0:
			e.Result = -kind.errno
		case kind.moves:
			e.Bytes = 1 + r.Uint64N(1<<20)
			e.Result = int64(e.Bytes)
		}
	}
	return events
}

// push hands events to the OTLP receiver at address, as log records.
func push(t testing.TB, address string, events []event.Event) {
	t.Helper()
	clock, err := event.NewClock()
	require.NoError(t, err)
	logs := event.Encode(event.EncodingRecords, event.Batch{Size: event.Size, Data: event.Bytes(events)}, clock)
	body, err := plogotlp.NewExportRequestFromLogs(logs).MarshalProto()
	require.NoError(t, err)
	response, err := http.Post("http://"+address+"/v1/logs", "application/x-protobuf", bytes.NewReader(body))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// group is what the events of a kind should add up to.
type group struct {
	events, bytes int
	durations     []uint64 // ns, sorted; of those that have one
}

// groupBy adds up events by what key says of each.
func groupBy[K comparable](events []event.Event, key func(*event.Event) K) map[K]*group {
	groups := map[K]*group{}
	for i := range events {
		e := &events[i]
		g := groups[key(e)]
		if g == nil {
			g = &group{}
			groups[key(e)] = g
		}
		g.events++
		g.bytes += int(e.Bytes)
		if e.Duration > 0 {
			g.durations = append(g.durations, e.Duration)
		}
	}
	for _, g := range groups {
		slices.Sort(g.durations)
	}
	return groups
}

// quantile returns the two durations in s that a quantile lies between, by whatever definition.
func (g *group) quantile(t testing.TB, q float64) (least, most float64) {
	t.Helper()
	assert.Greater(t, len(g.durations), 1000, "too few for a quantile")
	rank := q * float64(len(g.durations))
	at := func(i float64) float64 {
		return float64(g.durations[int(max(0, min(i, float64(len(g.durations)-1))))]) / 1e9
	}
	return at(math.Floor(rank) - 1), at(math.Ceil(rank))
}
