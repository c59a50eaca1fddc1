//go:build linux && kernel

package bpfreceiver

// From the ring buffer to the next component, whatever that one does.

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

const countCalls = `
probes: {syscall: {include: [getppid], command: [$COMMAND]}}
ring_buffer: {size: 64KiB}
`

// fits is how many events fit into a ring buffer of 64 KiB.
const fits = 64 << 10 / 136

var errBusy = errors.New("busy")

// A next component that blocks: what does not fit is counted by the kernel, and the rest is delivered.
func TestBackpressure(t *testing.T) {
	const n = 10_000
	release := make(chan struct{})
	r := start(t, configure(t, countCalls), &sink{answer: func(event.Batch) error { <-release; return nil }})
	work(t, "calls", argument{N: n})
	assert.Equal(t, map[string]int64{"syscall": n, "network": 0, "filesystem": 0, "process": 0}, r.metric(t, "produced", "category"))
	assert.Equal(t, map[string]int64{"syscall": n - fits, "network": 0, "filesystem": 0, "process": 0}, r.metric(t, "lost", "category"))
	assert.Equal(t, map[string]int64{"": fits * 136}, r.metric(t, "ring_buffer_usage", ""))
	close(release)
	assert.Equal(t, account{produced: n, delivered: fits, lost: n - fits}, r.stop(t))
	assert.Equal(t, fits, r.sink.len())
}

// A next component that refuses for now: the same batch again, marked, until it is taken.
func TestRetry(t *testing.T) {
	const n = 300
	var attempts []event.Batch
	r := start(t, configure(t, countCalls), &sink{answer: func(batch event.Batch) error {
		attempts = append(attempts, batch)
		if len(attempts)%3 != 0 {
			return errBusy
		}
		return nil
	}})
	work(t, "calls", argument{N: n})
	eventually(t, func() bool { return r.sink.len() == n })
	redelivered := r.metric(t, "redelivered", "")[""]
	assert.Equal(t, account{produced: n, delivered: n}, r.stop(t))

	next, again := uint64(0), 0
	for i, batch := range attempts {
		assert.Equal(t, next, batch.Sequence)
		assert.Equal(t, i%3 != 0, batch.Redelivered, "attempt %d", i)
		if i%3 == 2 {
			next += uint64(batch.Len())
			again += 2 * batch.Len()
		}
	}
	assert.EqualValues(t, n, next)
	assert.EqualValues(t, again, redelivered)
	statuses := r.host.Statuses()
	require.NotEmpty(t, statuses)
	for i, status := range statuses {
		assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}[i%2], status)
	}
}

// A next component that refuses for good: the events are counted and go no further.
func TestRefuse(t *testing.T) {
	const n = 300
	refuse := true
	refused := 0
	r := start(t, configure(t, countCalls), &sink{answer: func(batch event.Batch) error {
		if refuse = !refuse; refuse {
			refused += batch.Len()
			return consumererror.NewPermanent(errBusy)
		}
		return nil
	}})
	for range 4 {
		work(t, "calls", argument{N: n})
	}
	total := r.stop(t)
	assert.Equal(t, account{produced: 4 * n, delivered: 4*n - refused, refused: refused}, total)
	assert.Equal(t, total.delivered, r.sink.len())
	assert.Equal(t, refused > 0, r.logs.FilterMessageSnippet("refused events for good").Len() > 0)
}

// The promise of the process: nothing is lost by a graceful stop, however much waits.
func TestShutdownDrains(t *testing.T) {
	const n = 20_000
	var first atomic.Bool
	release := make(chan struct{})
	r := start(t, configure(t, `probes: {syscall: {include: [getppid], command: [$COMMAND]}}`), &sink{answer: func(event.Batch) error {
		if first.CompareAndSwap(false, true) {
			<-release
		}
		return nil
	}})
	work(t, "calls", argument{N: n})
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	assert.Equal(t, account{produced: n, delivered: n}, r.stop(t))
	sequence := uint64(0)
	for _, batch := range r.sink.batches {
		assert.Equal(t, sequence, batch.Sequence)
		assert.False(t, batch.Redelivered)
		sequence += uint64(batch.Len())
	}
	assert.EqualValues(t, n, sequence)
}

// Without a place to stay, what can't be delivered in time is lost, and that is an error.
func TestShutdownInVain(t *testing.T) {
	const n = 100
	r := start(t, configure(t, countCalls+"shutdown_timeout: 50ms"), &sink{answer: func(event.Batch) error { return errBusy }})
	work(t, "calls", argument{N: n})
	assert.EqualError(t, r.Shutdown(context.Background()),
		fmt.Sprintf("%d events are lost, for they were not delivered in time: set pin_path, so that they stay in the kernel for the next start", n))
	assert.Equal(t, account{produced: n, waiting: n}, r.account(t))
}

func TestRecords(t *testing.T) {
	const n = 20
	events := trace(t, `{probes: {network: {command: [$COMMAND]}}, encoding: records}`, "tcp", argument{N: n})
	checkTally(t, tally{
		"network.connect": {events: n}, "network.accept": {events: n}, "network.close": {events: 2 * n},
		"network.send": {events: 2 * n, bytes: 150 * n}, "network.receive": {events: 2 * n, bytes: 150 * n},
	}, events)
}

// The mark wakes the reader long before the poll interval is over.
func TestWakesAtMark(t *testing.T) {
	r := start(t, configure(t, countCalls+"poll_interval: 1h"), &sink{})
	work(t, "calls", argument{N: fits / 4})
	eventually(t, func() bool { return r.sink.len() > 0 })
	assert.Equal(t, account{produced: fits / 4, delivered: fits / 4}, r.stop(t))
}

func TestTelemetry(t *testing.T) {
	r := start(t, configure(t, `
probes:
  simulate: {events: 5000, mix: {syscall: 0, filesystem: 0}}
  network: {command: [$COMMAND]}
`), &sink{})
	work(t, "tcp", argument{N: 10})
	eventually(t, func() bool { return r.sink.len() == 5080 })
	eventually(t, func() bool { return r.metric(t, "ring_buffer_usage", "")[""] == 0 })
	simulated := tallyOf(r.sink.all())
	process := int64(simulated["process.fork"].events + simulated["process.exec"].events + simulated["process.exit"].events)
	assert.Equal(t, map[string]int64{"syscall": 0, "network": 5080 - process, "filesystem": 0, "process": process}, r.metric(t, "produced", "category"))
	assert.Equal(t, map[string]int64{"syscall": 0, "network": 0, "filesystem": 0, "process": 0}, r.metric(t, "lost", "category"))
	assert.Equal(t, map[string]int64{"syscall": 0, "network": 0, "filesystem": 0, "process": 0}, r.metric(t, "untimed", "category"))
	assert.Equal(t, map[string]int64{"start": 0, "owner": 0, "compat": 0, "process_end": 0, "aio": 0, "io_uring": 0, "recursion": 0}, r.metric(t, "missed", "cause"))
	for name, want := range map[string]int64{
		"delivered": 5080, "refused": 0, "redelivered": 0, "foreign": 0, "simulated": 5000, "ring_buffer_size": 8 << 20,
	} {
		assert.Equal(t, map[string]int64{"": want}, r.metric(t, name, ""), name)
	}
	assert.Greater(t, r.metric(t, "memory", "")[""], int64(8<<20))
	accepted, err := r.telemetry.GetMetric("otelcol_receiver_accepted_log_records")
	require.NoError(t, err)
	assert.NotEmpty(t, accepted.Data)
	r.stop(t)
}
