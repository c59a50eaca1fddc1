//go:build linux && kernel

package bpfenrichprocessor

// What the tests on the real kernel share: a processor, a consumer that keeps what it gets, and real processes.

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadata"
)

// pinPath returns a directory of the test's own in bpffs, which is gone after the test.
func pinPath(t testing.TB) string {
	t.Helper()
	path := filepath.Join("/sys/fs/bpf", "kernelpipe-enrich-"+filepath.Base(t.Name()))
	require.NoError(t, os.RemoveAll(path))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(path)) })
	return path
}

// newConfig is the default configuration, pinned nowhere, quick to try again, and patient with lookups.
func newConfig() *Config {
	config := createDefaultConfig().(*Config)
	config.PinPath, config.LookupTimeout = "", time.Minute
	config.Retry.InitialInterval, config.Retry.MaxInterval = time.Millisecond, 2*time.Millisecond
	return config
}

func create(t testing.TB, config *Config, next consumer.Logs) *enrichProcessor {
	t.Helper()
	p, err := NewFactory().CreateLogs(t.Context(), processortest.NewNopSettings(metadata.Type), config, next)
	require.NoError(t, err)
	return p.(*enrichProcessor)
}

func start(t testing.TB, config *Config, next consumer.Logs) *enrichProcessor {
	t.Helper()
	p := create(t, config, next)
	require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()), "this test needs root and a kernel with BPF")
	t.Cleanup(func() { assert.NoError(t, p.Shutdown(context.Background())) })
	return p
}

// sink keeps the events of the batches that answer does not refuse.
type sink struct {
	mu     sync.Mutex
	events []event.Enriched
	answer func(event.Batch) error
}

func (*sink) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *sink) ConsumeLogs(_ context.Context, logs plog.Logs) error {
	return event.Decode(logs, func(batch event.Batch) error {
		if s.answer != nil {
			if err := s.answer(batch); err != nil {
				return err
			}
		}
		events, err := event.ViewEnriched(batch.Data)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, events...)
		return nil
	}, func(_ plog.LogRecord, err error) { panic(err) })
}

func (s *sink) all() []event.Enriched {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event.Enriched{}, s.events...)
}

// numbers returns how often each event is there, by its number.
func (s *sink) numbers() map[uint64]int {
	got := map[uint64]int{}
	for _, e := range s.all() {
		got[e.Event.Bytes]++
	}
	return got
}

func settle(t testing.TB, p *enrichProcessor) stage.Books {
	t.Helper()
	require.Eventually(t, func() bool { b := p.Books(); return b.Queued+b.InFlight == 0 }, 20*time.Second, time.Millisecond)
	return p.Books()
}

// own returns n events of this very process, numbered in Bytes.
func own(source, first, n int) event.Batch {
	events := make([]event.Event, n)
	for i := range events {
		number := first + i
		events[i] = event.Event{Version: event.Version, Category: event.Category(1 + number%4), Operation: 4, Time: 1, Bytes: uint64(number)}
		events[i].Process = event.Process{TGID: uint32(os.Getpid()), TID: uint32(os.Getpid() + 1), Start: ownStart()}
	}
	return event.Batch{Source: uint64(source), Sequence: uint64(first), Size: event.Size, Data: event.Bytes(events)}
}

func frame(b event.Batch) plog.Logs { return event.Encode(event.EncodingFrames, b, event.Clock{}) }

// program starts a copy of sleep under a name of its own, from a shell that runs the setup first, in
// new namespaces where flags say so. It lives until the test ends.
func program(t testing.TB, name, setup string, namespaces uintptr) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	content, err := os.ReadFile(sleep)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("/tmp", "kp") // short, so that the path fits an exec event
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, content, 0o700))
	cmd := exec.Command("/bin/sh", "-c", setup+"\nexec '"+path+"' 600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// holding hands on nothing before it is released.
type holding struct {
	next    consumer.Logs
	release chan struct{}
}

func (*holding) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (h *holding) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	<-h.release
	return h.next.ConsumeLogs(ctx, logs)
}
