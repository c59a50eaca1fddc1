//go:build linux && kernel

package bpfreceiver

// One process after another: what the first one leaves in the kernel, the second one adopts.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// assertDetached asserts that no probe is left attached: only books and buffers stay pinned.
func assertDetached(t *testing.T, path string) {
	t.Helper()
	links, err := filepath.Glob(filepath.Join(path, "*", "links-*"))
	require.NoError(t, err)
	assert.Empty(t, links)
}

// pinned is countCalls, pinned at path.
func pinned(t *testing.T, path, more string) *Config {
	t.Helper()
	return configure(t, countCalls+"pin_path: "+path+"\n"+more)
}

func TestGracefulStopDetachesAndKeepsTheBooks(t *testing.T) {
	path := pinPath(t)
	for i := range 2 {
		r := start(t, pinned(t, path, ""), &sink{})
		work(t, "calls", argument{N: 10})
		assert.Equal(t, account{produced: 10 * (i + 1), delivered: 10 * (i + 1)}, r.stop(t))
		assertDetached(t, path)
		require.NoError(t, r.Shutdown(context.Background()))
	}
}

// The probes of a process that was killed go on, and its events are delivered: those before the kill, those
// after it, and those of the new process. What had been handed on is marked.
func TestAdoptAfterCrash(t *testing.T) {
	const n = 100
	config := pinned(t, pinPath(t), "")
	p := begin(t, "calls_on_tell", argument{N: n})

	handed := 0
	first := start(t, config, &sink{answer: func(batch event.Batch) error { handed = batch.Len(); return errBusy }})
	p.tell()
	p.expect("done")
	eventually(t, func() bool { return first.logs.FilterMessageSnippet("does not take events").Len() > 0 })
	crash(t, first.bpfReceiver)

	p.tell()
	p.expect("done")

	second := start(t, config, &sink{})
	assert.Equal(t, 1, second.logs.FilterMessageSnippet("Adopted").Len())
	p.tell()
	p.expect("done")
	p.tell()
	p.end()
	eventually(t, func() bool { return second.sink.len() == 3*n })
	redelivered := second.metric(t, "redelivered", "")[""]
	assert.Equal(t, account{produced: 3 * n, delivered: 3 * n}, second.stop(t))

	assert.GreaterOrEqual(t, redelivered, int64(handed)) // and its second attempts
	sequence := uint64(0)
	for _, batch := range second.sink.batches {
		assert.Equal(t, sequence, batch.Sequence)
		assert.Equal(t, sequence < uint64(handed), batch.Redelivered)
		sequence += uint64(batch.Len())
	}
}

// A stop that keeps the probes: no gap, and nothing is delivered twice.
func TestKeepOnShutdown(t *testing.T) {
	const n = 100
	path := pinPath(t)
	p := begin(t, "calls_on_tell", argument{N: n})

	first := start(t, pinned(t, path, "keep_on_shutdown: true"), &sink{})
	p.tell()
	p.expect("done")
	first.stop(t)

	p.tell()
	p.expect("done")

	second := start(t, pinned(t, path, ""), &sink{})
	p.tell()
	p.expect("done")
	p.tell()
	p.end()
	assert.Equal(t, account{produced: 3 * n, delivered: 3 * n}, second.stop(t))
	assert.Equal(t, 3*n, first.sink.len()+second.sink.len())
	for _, batch := range second.sink.batches {
		assert.False(t, batch.Redelivered)
	}
	assertDetached(t, path)
}

// A stop that keeps the probes does not wait for a next component that takes nothing.
func TestKeepOnShutdownWhileFailing(t *testing.T) {
	const n = 50
	path := pinPath(t)
	first := start(t, pinned(t, path, "keep_on_shutdown: true\nshutdown_timeout: 0s"), &sink{answer: func(event.Batch) error { return errBusy }})
	work(t, "calls", argument{N: n})
	eventually(t, func() bool { return first.logs.FilterMessageSnippet("does not take events").Len() > 0 })
	assert.Equal(t, account{produced: n, waiting: n}, first.stop(t))
	second := start(t, pinned(t, path, ""), &sink{})
	assert.Equal(t, account{produced: n, delivered: n}, second.stop(t))
}

// What can't be delivered in time stays for the next start.
func TestShutdownTimeout(t *testing.T) {
	const n = 100
	path := pinPath(t)
	first := start(t, pinned(t, path, "shutdown_timeout: 50ms"), &sink{answer: func(event.Batch) error { return errBusy }})
	work(t, "calls", argument{N: n})
	assert.Equal(t, account{produced: n, waiting: n}, first.stop(t))
	assert.Equal(t, 1, first.logs.FilterMessageSnippet("stay in the kernel").Len())
	work(t, "calls", argument{N: n}) // nobody is listening

	second := start(t, pinned(t, path, ""), &sink{})
	work(t, "calls", argument{N: n})
	assert.Equal(t, account{produced: 2 * n, delivered: 2 * n}, second.stop(t))
	assert.Equal(t, 2*n, second.sink.len())
	assertDetached(t, path)
}

// Other settings for what was left attached.
func TestAdoptWithOtherSettings(t *testing.T) {
	path := pinPath(t)
	first := start(t, pinned(t, path, "keep_on_shutdown: true"), &sink{})
	work(t, "calls", argument{N: 10})
	first.stop(t)
	config := configure(t, `{pin_path: `+path+`, ring_buffer: {size: 64KiB}, probes: {filesystem: {command: [$COMMAND]}, network: {command: [$COMMAND]}}}`)
	second := start(t, config, &sink{})
	work(t, "calls", argument{N: 10})
	work(t, "tcp", argument{N: 10})
	total := second.stop(t)
	assert.Equal(t, 90, total.produced)
	assert.Equal(t, 90, first.sink.len()+second.sink.len())
	assertDetached(t, path)
}

// restart is a way in which probes come and go, and whether those at the end know of what was there before.
type restart struct {
	before, between, after string // configurations; no between: none
	end                    func(*testing.T, *instance)
	known                  bool
}

// Whose a connection is, and since when, is known for as long as the probes see all of it: what happens to sockets while
// they are detached makes everything that was noted before worthless.
func TestConnectionsAcrossRestarts(t *testing.T) {
	const n = 20
	closes := "probes: {network: {operation: [close]}}\n"
	for name, test := range map[string]restart{
		"killed":              {closes, "", closes, killed, true},
		"kept":                {closes + "keep_on_shutdown: true", "", closes, stopped, true},
		"another ring buffer": {closes + "keep_on_shutdown: true", "", closes + "ring_buffer: {size: 64KiB}", stopped, true},
		"stopped":             {closes, "", closes, stopped, false},
		"no network between":  {closes, "probes: {filesystem: {command: [$COMMAND]}}", closes, killed, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := pinPath(t)
			at := func(yaml string) *Config { return configure(t, "pin_path: "+path+"\n"+yaml) }
			p := begin(t, "tcp_held", argument{N: n})
			first := start(t, at(test.before), &sink{})
			p.tell()
			p.expect("open")
			test.end(t, first)
			if test.between != "" {
				test.end(t, start(t, at(test.between), &sink{}))
			}
			last := start(t, at(test.after), &sink{})
			p.tell()
			p.end()
			last.stop(t)
			address, closed := ownLoopback(int(p.pid())), 0
			for _, e := range last.sink.all() {
				if network := e.Network(); [4]byte(network.LocalAddress[:4]) != address && [4]byte(network.RemoteAddress[:4]) != address {
					continue
				}
				closed++
				if test.known {
					assert.EqualValues(t, p.pid(), e.Process.TGID)
					assert.NotZero(t, e.Duration)
					assert.Zero(t, e.Flags)
				} else {
					assert.Zero(t, e.Process)
					assert.Zero(t, e.Duration)
					assert.Equal(t, event.FlagNoDuration, e.Flags)
				}
			}
			assert.Equal(t, 2*n, closed)
		})
	}
}

// When a system call began is known if the probes have been there ever since, and have looked at such calls.
func TestSystemCallsAcrossRestarts(t *testing.T) {
	reads := "probes: {syscall: {include: [read], command: [$COMMAND]}}\n"
	keep := "keep_on_shutdown: true"
	for name, test := range map[string]restart{
		"killed":                      {reads, "", reads, killed, true},
		"kept":                        {reads + keep, "", reads, stopped, true},
		"stopped":                     {reads, "", reads, stopped, false},
		"another system call between": {reads, "probes: {syscall: {include: [chdir], command: [$COMMAND]}}", reads, killed, false},
		"another command between":     {reads, "probes: {syscall: {include: [read], command: [other]}}", reads, killed, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := pinPath(t)
			at := func(yaml string) *Config { return configure(t, "pin_path: "+path+"\n"+yaml) }
			reader, writer, err := os.Pipe()
			require.NoError(t, err)
			defer func() { assert.NoError(t, errors.Join(reader.Close(), writer.Close())) }()
			p := begin(t, "reads", argument{N: 3}, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{reader} })
			first := start(t, at(test.before), &sink{})
			p.tell()
			thread := strings.TrimSpace(p.line())
			// Is in the call that reads so many bytes.
			awaits := func(n int) {
				eventually(t, func() bool {
					call, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", p.pid(), thread))
					fields := strings.Fields(string(call))
					return assert.NoError(t, err) && len(fields) > 3 && fields[0] == fmt.Sprint(unix.SYS_READ) && fields[3] == fmt.Sprintf("%#x", n)
				})
			}
			write := func(n int) {
				_, err := writer.Write(make([]byte, n))
				require.NoError(t, err)
			}
			awaits(1)
			test.end(t, first)
			if test.between != "" {
				test.end(t, start(t, at(test.between), &sink{}))
			}
			write(1)
			awaits(2)
			last := start(t, at(test.after), &sink{})
			write(2)
			awaits(3)
			write(3)
			p.end()
			last.stop(t)

			timed := map[uint64]bool{} // by the bytes read
			for _, e := range last.sink.all() {
				timed[e.Bytes] = e.Duration > 0 && e.Flags == 0
				assert.Equal(t, timed[e.Bytes], e.Flags&event.FlagNoDuration == 0)
			}
			if test.known {
				assert.Equal(t, map[uint64]bool{1: true, 2: true, 3: true}, timed)
			} else {
				assert.Equal(t, map[uint64]bool{2: false, 3: true}, timed)
			}
		})
	}
}

func killed(t *testing.T, r *instance)  { crash(t, r.bpfReceiver) }
func stopped(t *testing.T, r *instance) { r.stop(t) }

// A ring buffer of another size takes over; the older ones are drained first.
func TestResizeRingBuffer(t *testing.T) {
	const n = 100
	path := pinPath(t)
	stuck := func(event.Batch) error { return errBusy }
	sizes := []Size{64 * KiB, 128 * KiB, 64 * KiB}
	for i, size := range sizes {
		config := pinned(t, path, "")
		config.RingBuffer.Size = size
		r := start(t, config, &sink{answer: stuck})
		work(t, "calls", argument{N: n})
		if i == 1 {
			r.drain.giveUp() // as if it were stuck
		}
		crash(t, r.bpfReceiver)
	}
	config := pinned(t, path, "")
	config.RingBuffer.Size = 256 * KiB
	last := start(t, config, &sink{})
	work(t, "calls", argument{N: n})
	eventually(t, func() bool { return last.sink.len() == 4*n })
	assert.Equal(t, map[string]int64{"": 256 << 10}, last.metric(t, "ring_buffer_size", ""))
	assert.Equal(t, account{produced: 4 * n, delivered: 4 * n}, last.stop(t))
	times := last.sink.all()
	for i := 1; i < len(times); i++ {
		assert.LessOrEqual(t, times[i-1].Time, times[i].Time)
	}
	assertDetached(t, path)
}

// The account of a ring buffer that was given up outlives the process.
func TestBooksOfGivenUpRingBuffer(t *testing.T) {
	const n = 100
	path := pinPath(t)
	for i, size := range []Size{64 * KiB, 128 * KiB, 64 * KiB} {
		config := pinned(t, path, "")
		config.RingBuffer.Size = size
		r := start(t, config, &sink{})
		work(t, "calls", argument{N: n})
		eventually(t, func() bool { return r.metric(t, "delivered", "")[""] == int64(n*(i+1)) })
		if i == 2 {
			assert.Equal(t, account{produced: 3 * n, delivered: 3 * n}, r.stop(t))
			assertDetached(t, path)
			return
		}
		crash(t, r.bpfReceiver)
	}
}

func TestSecondInstance(t *testing.T) {
	path := pinPath(t)
	first := start(t, pinned(t, path, ""), &sink{})
	second := create(t, pinned(t, path, ""), &sink{})
	err := second.Start(context.Background(), second.host)
	assert.ErrorContains(t, err, "is in use by another running process")
	require.NoError(t, second.Shutdown(context.Background()))
	work(t, "calls", argument{N: 10})
	assert.Equal(t, account{produced: 10, delivered: 10}, first.stop(t))
}

func TestPinPathElsewhere(t *testing.T) {
	r := create(t, pinned(t, t.TempDir(), ""), &sink{})
	assert.ErrorContains(t, r.Start(context.Background(), r.host), "is not on a BPF file system")
	require.NoError(t, r.Shutdown(context.Background()))
}

// Killed again and again while it simulates as fast as it goes: every event arrives, at most one batch a kill
// arrives twice, and that is marked.
func TestKill(t *testing.T) {
	const kills, n = 20, 2_000_000
	path := pinPath(t)
	random := rand.New(rand.NewPCG(1, 2))
	next, doubles := uint64(0), 0
	check := func(sequence uint64, length int, redelivered bool) {
		require.LessOrEqual(t, sequence, next, "a gap")
		again := int(next - sequence)
		require.LessOrEqual(t, again, length, "a part of the batch is new or was delivered: never more")
		if again > 0 {
			require.True(t, redelivered)
		} // marked without need is what was killed just before it was delivered
		doubles += again
		next = sequence + uint64(length)
	}
	for range kills {
		p := begin(t, "simulation", argument{PinPath: path, Events: n})
		p.tell()
		wait := time.Duration(random.Int64N(int64(30 * time.Millisecond)))
		line := p.line()
		time.Sleep(wait)
		require.NoError(t, p.cmd.Process.Kill())
		rest, err := io.ReadAll(p.output)
		require.NoError(t, err)
		_ = p.cmd.Wait()
		for _, line := range strings.Split(strings.TrimSpace(line+string(rest)), "\n") {
			var sequence uint64
			var length int
			var redelivered bool
			_, err := fmt.Sscanf(line, "batch %d %d %t", &sequence, &length, &redelivered)
			require.NoError(t, err, line)
			check(sequence, length, redelivered)
		}
	}
	last := start(t, configure(t, fmt.Sprintf("{pin_path: %s, probes: {simulate: {events: %d}}}", path, n)), &sink{answer: func(batch event.Batch) error {
		check(batch.Sequence, batch.Len(), batch.Redelivered)
		return nil
	}})
	eventually(t, func() bool { return last.metric(t, "delivered", "")[""] == n })
	assert.GreaterOrEqual(t, last.metric(t, "redelivered", "")[""], int64(doubles))
	assert.Equal(t, account{produced: n, delivered: n}, last.stop(t))
	assert.LessOrEqual(t, doubles, kills*1024)
	t.Logf("%d events, %d kills, %d delivered twice", n, kills, doubles)
	assertDetached(t, path)
}
