//go:build linux && kernel

package bpfreceiver

// What the tests on the real kernel share: a receiver, a consumer that keeps what it gets, and the account.

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/statustest"
	"github.com/kernelpipe/kernelpipe/receiver/bpfreceiver/internal/metadata"
)

// sink is the next component. It keeps all events, or does with a batch what answer says.
type sink struct {
	mu      sync.Mutex
	events  []event.Event
	batches []event.Batch
	answer  func(event.Batch) error // before the batch is kept; an error refuses it
}

var _ consumer.Logs = (*sink)(nil)

func (s *sink) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *sink) ConsumeLogs(_ context.Context, logs plog.Logs) error {
	return event.Decode(logs, func(batch event.Batch) error {
		if s.answer != nil {
			if err := s.answer(batch); err != nil {
				return err
			}
		}
		events, err := event.View(batch.Data)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, events...)
		s.batches = append(s.batches, batch)
		return nil
	}, func(_ plog.LogRecord, err error) { panic(err) })
}

func (s *sink) all() []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

func (s *sink) len() int { return len(s.all()) }

// configure returns the configuration of the given YAML, not pinned unless it says so. $COMMAND is the name of
// the work.
func configure(t testing.TB, yaml string) *Config {
	t.Helper()
	retrieved, err := confmap.NewRetrievedFromYAML([]byte(strings.ReplaceAll(yaml, "$COMMAND", workCommand())))
	require.NoError(t, err)
	conf, err := retrieved.AsConf()
	require.NoError(t, err)
	config := newConfig()
	config.PinPath = ""
	require.NoError(t, conf.Unmarshal(config))
	require.NoError(t, confmap.Validate(config))
	return config
}

// instance is a receiver under test, what it delivers, what it logs, and the host that it reports to.
type instance struct {
	*bpfReceiver
	host      *statustest.Host
	sink      *sink
	logs      *observer.ObservedLogs
	telemetry *componenttest.Telemetry
}

func create(t testing.TB, config *Config, next *sink) *instance {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { assert.NoError(t, telemetry.Shutdown(context.Background())) })
	settings := receivertest.NewNopSettings(metadata.Type)
	settings.TelemetrySettings = telemetry.NewTelemetrySettings()
	settings.Logger = zap.New(core)
	settings.ID = component.NewID(metadata.Type)
	created, err := NewFactory().CreateLogs(context.Background(), settings, config, next)
	require.NoError(t, err)
	r, ok := created.(*bpfReceiver)
	require.True(t, ok)
	return &instance{bpfReceiver: r, host: &statustest.Host{}, sink: next, logs: logs, telemetry: telemetry}
}

// start starts a receiver, which is shut down at the end of the test at the latest.
func start(t testing.TB, config *Config, next *sink) *instance {
	t.Helper()
	r := create(t, config, next)
	require.NoError(t, r.Start(context.Background(), r.host))
	t.Cleanup(func() { assert.NoError(t, r.Shutdown(context.Background())) })
	return r
}

// stop shuts down and returns the account that the receiver gives of itself.
func (r *instance) stop(t testing.TB) account {
	t.Helper()
	require.NoError(t, r.Shutdown(context.Background()))
	return r.account(t)
}

// account is what the last line of the log says.
type account struct{ produced, delivered, refused, lost, waiting int }

func (r *instance) account(t testing.TB) account {
	t.Helper()
	entries := r.logs.FilterMessage("Stopped").AllUntimed()
	require.Len(t, entries, 1)
	fields := entries[0].ContextMap()
	number := func(key string) int {
		value, ok := fields[key].(uint64)
		require.True(t, ok, key)
		return int(value)
	}
	return account{number("produced"), number("delivered"), number("refused"), number("lost"), number("waiting")}
}

// trace has the receiver watch a workload from beginning to end and returns its events. Nothing may be lost.
func trace(t *testing.T, yaml, workload string, argument argument) []event.Event {
	t.Helper()
	r := start(t, configure(t, yaml), &sink{})
	work(t, workload, argument)
	total := r.stop(t)
	events := r.sink.all()
	assert.Equal(t, account{produced: len(events), delivered: len(events)}, total)
	for i := range events {
		checkEvent(t, &events[i])
	}
	return events
}

// checkEvent is what holds for every event.
func checkEvent(t *testing.T, e *event.Event) {
	t.Helper()
	require.NoError(t, e.Validate())
	assert.NotZero(t, e.Time)
	assert.Zero(t, e.Priority)
	if e.Process.TGID != 0 {
		assert.NotZero(t, e.Process.Start)
		assert.NotZero(t, e.ExecNumber)
		assert.Less(t, e.Process.Start, e.Time)
		assert.Less(t, e.Duration, e.Time)
	}
	assert.Zero(t, e.Flags&event.FlagNameUnreadable)
}

// pinPath returns a directory of its own in the BPF file system, which is gone after the test.
func pinPath(t testing.TB) string {
	t.Helper()
	path := filepath.Join("/sys/fs/bpf", fmt.Sprintf("kernelpipe-receiver-test-%d", os.Getpid()), strings.ReplaceAll(t.Name(), "/", "-"))
	t.Cleanup(func() {
		assert.NoError(t, os.RemoveAll(path))
		_ = os.Remove(filepath.Dir(path)) // another test's may be in it
	})
	return path
}

// tally counts events by what they are: "network.connect", "network.connect ECONNREFUSED". For those that move
// bytes it adds these up.
type tally map[string]count

type count struct{ events, bytes int }

func tallyOf(events []event.Event) tally {
	t := tally{}
	for i := range events {
		e := &events[i]
		key := e.Category.String() + "." + e.OperationName()
		if e.Failed() {
			key += " " + e.ErrorType()
		}
		c := t[key]
		c.events++
		c.bytes += int(e.Bytes)
		t[key] = c
	}
	return t
}

// only returns the events of one operation.
func only(events []event.Event, category event.Category, operation string) []event.Event {
	var some []event.Event
	for i := range events {
		if events[i].Category == category && events[i].OperationName() == operation {
			some = append(some, events[i])
		}
	}
	return some
}

func (t tally) String() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(&b, "%s: %d (%d bytes)\n", key, t[key].events, t[key].bytes)
	}
	return b.String()
}

func checkTally(t *testing.T, want tally, events []event.Event) {
	t.Helper()
	assert.Equal(t, want.String(), tallyOf(events).String())
}

// metric returns the values of one of the receiver's metrics by the given attribute, "" for none.
func (r *instance) metric(t *testing.T, name, by string) map[string]int64 {
	t.Helper()
	m, err := r.telemetry.GetMetric("otelcol_kernelpipe_receiver_" + name)
	require.NoError(t, err)
	var points []metricdata.DataPoint[int64]
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		assert.True(t, data.IsMonotonic)
		points = data.DataPoints
	case metricdata.Gauge[int64]:
		points = data.DataPoints
	}
	values := map[string]int64{}
	for _, point := range points {
		id, ok := point.Attributes.Value("receiver")
		require.True(t, ok)
		assert.Equal(t, "bpf", id.AsString())
		key, _ := point.Attributes.Value(attribute.Key(by))
		values[key.AsString()] = point.Value
	}
	return values
}

// eventually waits for a condition that must come true, also on a busy machine with the race detector.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 5*time.Minute, 5*time.Millisecond)
}
