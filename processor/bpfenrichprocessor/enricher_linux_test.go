package bpfenrichprocessor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/container"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadatatest"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/users"
)

// known is a source of what a test says.
type known struct {
	mu        sync.Mutex
	processes map[identity]facts
	cgroups   map[uint64]container.Identity
	err       error          // for all
	asked     map[uint64]int // how often, by tgid
	gate      chan struct{}  // if set, answers wait for it to be closed
}

func (k *known) wait() {
	k.mu.Lock()
	gate := k.gate
	k.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func (k *known) process(id identity) (facts, error) {
	k.set(func() { k.asked[uint64(id.tgid)]++ })
	k.wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return facts{}, k.err
	}
	id.exec = 0 // of that it knows nothing
	if found, ok := k.processes[id]; ok {
		return found, nil
	}
	return facts{}, errNotFound
}

func (k *known) cgroup(id uint64) (container.Identity, error) {
	k.wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return container.Identity{}, k.err
	}
	if found, ok := k.cgroups[id]; ok {
		return found, nil
	}
	return container.Identity{}, errNotFound
}

func (k *known) times(tgid uint64) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked[tgid]
}

func (k *known) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

var (
	inContainer = container.Identity{ID: [32]byte{1}, PodUID: [16]byte{2}}
	inOther     = container.Identity{ID: [32]byte{3}}
)

// fixture is an enricher over what is known: the process 100, which started at 1000, and the cgroups 1 to 3.
type fixture struct {
	*enricher
	t      testing.TB
	known  *known
	table  processTable // nil: none
	passwd string
	out    []byte
}

const passwd = "root:x:0:0::/:/\nadministrator-of-all:x:1:1::/:/\n"

func newFixture(t testing.TB, change func(*Config)) *fixture {
	config := createDefaultConfig().(*Config)
	config.LookupTimeout = time.Minute // unless a lookup hangs it makes no difference
	if change != nil {
		change(config)
	}
	f := &fixture{t: t, passwd: filepath.Join(t.TempDir(), "passwd"), out: make([]byte, 1024*event.EnrichedSize)}
	require.NoError(t, os.WriteFile(f.passwd, []byte(passwd), 0o600))
	f.known = &known{
		processes: map[identity]facts{ofService: {comm: "service", executable: "service.bin", parent: "init", parentTGID: 1}},
		cgroups:   map[uint64]container.Identity{1: {}, 2: inContainer, 3: inOther},
		asked:     map[uint64]int{},
	}
	resolver := newResolver(zap.NewNop(), func() []processSource { return []processSource{f.known} }, f.known, users.NewDirectory(f.passwd))
	f.enricher = newEnricher(config, resolver, f.table)
	resolver.start()
	t.Cleanup(func() {
		f.known.set(func() {
			if f.known.gate != nil {
				close(f.known.gate)
				f.known.gate = nil
			}
		})
		require.NoError(t, resolver.stop(context.Background()))
	})
	return f
}

// ofService is the process that is known, whichever of its programs it runs.
var ofService = identity{start: 1000, tgid: 100}

// service returns an event of the third program of the process that is known, in cgroup 2.
func service(changes ...func(*event.Event)) event.Event {
	e := event.Event{Version: event.Version, Category: event.CategoryFilesystem, Operation: event.FilesystemWrite, Time: 2000, ExecNumber: 3}
	e.Process = event.Process{TGID: 100, TID: 100, Start: 1000, CgroupID: 2}
	copy(e.Process.Comm[:], "service")
	for _, change := range changes {
		change(&e)
	}
	return e
}

func execOf(path string) func(*event.Event) {
	return func(e *event.Event) {
		e.Category, e.Operation = event.CategoryProcess, event.ProcessExec
		e.SetName(path)
	}
}

func numbered(program uint16) func(*event.Event) {
	return func(e *event.Event) { e.ExecNumber = program }
}

func gonePid(e *event.Event) { e.Process.TGID, e.Process.TID = 999, 999 }

// context has the events enriched as one batch and returns the contexts.
func (f *fixture) contexts(events ...event.Event) []event.Context {
	f.t.Helper()
	before := append([]event.Event{}, events...)
	enriched := run(f.t, f.enricher, event.Batch{Size: event.Size, Data: event.Bytes(events)}, f.out)
	require.Equal(f.t, before, events, "the batch was changed")
	contexts := make([]event.Context, len(enriched))
	for i := range enriched {
		require.Equal(f.t, events[i], enriched[i].Event)
		contexts[i] = enriched[i].Context
	}
	return contexts
}

// want makes a context of texts; what is empty is not known.
func want(executable, parent, user string, in container.Identity, change ...func(*event.Context)) event.Context {
	c := event.Context{ContainerID: in.ID, PodUID: in.PodUID}
	for _, part := range []struct {
		known event.Known
		is    bool
	}{
		{event.KnownExecutable, executable != ""},
		{event.KnownParent, parent != ""},
		{event.KnownUser, user != ""},
		{event.KnownContainer, in.HasID()},
		{event.KnownPod, in.HasPod()},
	} {
		if part.is {
			c.Known |= part.known
		}
	}
	event.SetText(c.Executable[:], executable)
	event.SetText(c.Parent[:], parent)
	event.SetText(c.User[:], user)
	if parent != "" {
		c.ParentTGID = 1
	}
	for _, change := range change {
		change(&c)
	}
	return c
}

func missing(m event.Missing) func(*event.Context) {
	return func(c *event.Context) { c.Reason = m }
}

func TestContexts(t *testing.T) {
	all := want("service.bin", "init", "root", inContainer)
	for _, test := range []struct {
		name  string
		setup func(*fixture)
		event event.Event
		want  event.Context
	}{
		{"all", nil, service(), all},
		{"no container", nil, service(func(e *event.Event) { e.Process.CgroupID = 1 }), want("service.bin", "init", "root", container.Identity{})},
		{"no cgroup", nil, service(func(e *event.Event) { e.Process.CgroupID = 0 }), want("service.bin", "init", "root", container.Identity{})},
		{"a thread", nil, service(func(e *event.Event) { e.Process.TID = 101; e.Process.Comm = [16]byte{'x'} }), all},
		{
			"container of the process, with cgroup v1",
			func(f *fixture) {
				f.known.processes[ofService] = facts{comm: "service", executable: "service.bin", parent: "init", parentTGID: 1, container: inOther}
			},
			service(func(e *event.Event) { e.Process.CgroupID = 1 }), want("service.bin", "init", "root", inOther),
		},
		{
			"container of the process, no cgroup v2", func(f *fixture) {
				f.resolver.cgroups = nil
				f.known.processes[ofService] = facts{comm: "service", executable: "service.bin", parent: "init", parentTGID: 1, container: inOther}
			},
			service(), want("service.bin", "init", "root", inOther),
		},
		{"long user name", nil, service(func(e *event.Event) { e.Process.UID = 1 }), want("service.bin", "init", "administrator-of-all", inContainer, func(c *event.Context) { c.Cut = event.KnownUser })},
		{"user without a name", nil, service(func(e *event.Event) { e.Process.UID = 7 }), want("service.bin", "init", "", inContainer, missing(event.MissingNotFound))},
		{
			"long executable",
			func(f *fixture) {
				f.known.processes[ofService] = facts{comm: "service", executable: "abcdefghijklmnopqrstuvwxyz", parent: "init", parentTGID: 1}
			},
			service(), want("abcdefghijklmnopqrstuvwxyz", "init", "root", inContainer, func(c *event.Context) { c.Cut = event.KnownExecutable }),
		},
		{
			"thread of the kernel's", func(f *fixture) { f.known.processes[ofService] = facts{comm: "kworker/0:1", nameless: true} },
			service(), want("", "", "root", inContainer),
		},
		{
			"denied",
			func(f *fixture) {
				f.known.processes[ofService] = facts{comm: "service", denied: true, parent: "init", parentTGID: 1}
			},
			service(), want("", "init", "root", inContainer, missing(event.MissingDenied)),
		},
		{
			"not waited for",
			func(f *fixture) {
				f.known.processes[ofService] = facts{comm: "service", parent: "init", parentTGID: 1}
			},
			service(), want("", "init", "root", inContainer, missing(event.MissingNotFound)),
		},
		{"gone", nil, service(gonePid), want("", "", "root", inContainer, missing(event.MissingNotFound))},
		{"reused pid", nil, service(func(e *event.Event) { e.Process.Start = 999 }), want("", "", "root", inContainer, missing(event.MissingNotFound))},
		{"cgroup is gone too", nil, service(gonePid, func(e *event.Event) { e.Process.CgroupID = 9 }), want("", "", "root", container.Identity{}, missing(event.MissingNotFound))},
		{"gone, but seen to exec", nil, service(gonePid, execOf("/usr/bin/cat")), want("cat", "", "root", inContainer, missing(event.MissingNotFound))},
		{"gone, exec with a cut name", nil, service(gonePid, execOf("/usr/lib/a/very/long/path/that/does/not/fit/cat")), want("", "", "root", inContainer, missing(event.MissingNotFound))},
		{"exec before the lookup", nil, service(execOf("/usr/bin/cat")), all},
		{"nobody", nil, event.Event{Version: event.Version, Category: event.CategoryNetwork}, want("", "", "", container.Identity{}, missing(event.MissingUnknown))},
		{"idle", nil, service(func(e *event.Event) { e.Process.TGID, e.Process.TID, e.Process.CgroupID = 0, 0, 1 }), want("", "", "", container.Identity{}, missing(event.MissingUnknown))},
		{"no start", nil, service(func(e *event.Event) { e.Process.Start = 0 }), want("", "", "root", inContainer, missing(event.MissingUnknown))},
		{"simulated", nil, service(func(e *event.Event) { e.Flags = event.FlagSimulated }), want("", "", "root", inContainer, missing(event.MissingUnknown))},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, nil)
			if test.setup != nil {
				f.known.set(func() { test.setup(f) })
			}
			for range 2 { // from the source, and from the cache
				got := f.contexts(test.event, test.event)
				assert.Equal(t, []event.Context{test.want, test.want}, got)
			}
			assert.LessOrEqual(t, f.known.times(uint64(test.event.Process.TGID)), 1, "asked again")
		})
	}
}

func TestNoPasswdFileNoUsers(t *testing.T) {
	f := newFixture(t, nil)
	f.resolver.users = nil
	assert.Equal(t, []event.Context{want("service.bin", "init", "", inContainer)}, f.contexts(service()))
}

func TestWhatChangesIsLookedUpAgain(t *testing.T) {
	other := facts{comm: "other", executable: "other.bin", parent: "init", parentTGID: 1}
	becomes := func(f *fixture) { f.known.set(func() { f.known.processes[ofService] = other }) }
	ends := func(f *fixture) { f.known.set(func() { delete(f.known.processes, ofService) }) }
	renamed := func(e *event.Event) { e.Process.Comm = [16]byte{'o', 't', 'h', 'e', 'r'} }
	before := want("service.bin", "init", "root", inContainer)
	for _, test := range []struct {
		name   string
		change func(*fixture)
		event  event.Event
		want   event.Context
		asked  int
	}{
		{"exec", becomes, service(numbered(4), execOf("/bin/other.sh")), want("other.bin", "init", "root", inContainer), 2},
		{"another program", becomes, service(numbered(4)), want("other.bin", "init", "root", inContainer), 2},
		{
			"exec and gone", ends, service(numbered(4), execOf("/bin/other.sh")),
			want("other.sh", "", "root", inContainer, missing(event.MissingNotFound)), 2,
		},
		{"any program", becomes, service(numbered(0)), want("other.bin", "init", "root", inContainer), 2},
		{"another name", becomes, service(renamed), before, 1},
		{"user", becomes, service(func(e *event.Event) { e.Process.UID = 7 }), want("service.bin", "init", "", inContainer, missing(event.MissingNotFound)), 1},
		{"cgroup", becomes, service(func(e *event.Event) { e.Process.CgroupID = 3 }), want("service.bin", "init", "root", inOther), 1},
		{"users", func(f *fixture) {
			require.NoError(f.t, os.WriteFile(f.passwd, []byte("toor:x:0:0::/:/\n"), 0o600))
			require.NoError(f.t, f.resolver.users.Refresh())
		}, service(), want("service.bin", "init", "toor", inContainer), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, nil)
			assert.Equal(t, []event.Context{before}, f.contexts(service()))
			test.change(f)
			assert.Equal(t, []event.Context{test.want}, f.contexts(test.event))
			assert.Equal(t, test.asked, f.known.times(100))
		})
	}
}

func TestExecOfAProcessThatIsGoneServesItsLaterEvents(t *testing.T) {
	f := newFixture(t, nil)
	got := f.contexts(
		service(gonePid), service(gonePid, numbered(4), execOf("/bin/sh")), service(gonePid, numbered(4)),
		service(gonePid, numbered(5), execOf("ls")), service(gonePid, numbered(5)), service(gonePid),
	)
	for i, executable := range []string{"", "sh", "sh", "ls", "ls", ""} {
		assert.Equal(t, want(executable, "", "root", inContainer, missing(event.MissingNotFound)), got[i])
	}
	assert.Equal(t, 3, f.known.times(999), "once for each program")
}

func TestSlowLookupsHoldUpNothingForLong(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.LookupTimeout = 10 * time.Millisecond })
	f.known.set(func() { f.known.gate = make(chan struct{}) })
	late := want("", "", "root", container.Identity{}, missing(event.MissingTimeout))
	assert.Equal(t, []event.Context{late, late}, f.contexts(service(), service()))
	assert.EqualValues(t, 2, f.counts.incomplete[kindProcess][timedOut])
	assert.EqualValues(t, 2, f.counts.incomplete[kindCgroup][timedOut])
	assert.True(t, f.stalled)

	assert.Equal(t, []event.Context{late}, f.contexts(service()))
	assert.False(t, f.waiting, "waited although nothing is answered")
	assert.Equal(t, 1, f.known.times(100))

	f.known.set(func() { close(f.known.gate); f.known.gate = nil })
	require.Eventually(t, func() bool { return len(f.resolver.results) == 2 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, []event.Context{want("service.bin", "init", "root", inContainer)}, f.contexts(service()))
	assert.False(t, f.stalled)
	assert.Equal(t, 1, f.known.times(100))
}

func TestTimeoutOfZeroNeverWaits(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.LookupTimeout = 0 })
	f.known.set(func() { f.known.gate = make(chan struct{}) })
	assert.Equal(t, []event.Context{want("", "", "root", container.Identity{}, missing(event.MissingTimeout))}, f.contexts(service()))
}

func TestLookupsThatFailAreAskedAgainWithTheNextBatch(t *testing.T) {
	f := newFixture(t, nil)
	f.known.set(func() { f.known.err = errors.New("too many open files") })
	failed := want("", "", "root", container.Identity{}, missing(event.MissingTimeout))
	assert.Equal(t, []event.Context{failed, failed}, f.contexts(service(), service()))
	assert.Equal(t, 1, f.known.times(100))
	f.known.set(func() { f.known.err = nil })
	assert.Equal(t, []event.Context{want("service.bin", "init", "root", inContainer)}, f.contexts(service()))
	assert.Equal(t, 2, f.known.times(100))
}

func TestDeniedCgroupsAreNotAskedForAgain(t *testing.T) {
	f := newFixture(t, nil)
	f.known.set(func() { f.known.err = errDenied })
	assert.Equal(t, []event.Context{want("", "", "root", container.Identity{}, missing(event.MissingTimeout))}, f.contexts(service(gonePid)), "nothing answered about the process")
	assert.Equal(t, refused, f.cgroups.Get(cgroupKey{id: 2}).state)
	assert.EqualValues(t, 1, f.counts.incomplete[kindCgroup][denied])
}

func TestWhatABatchNeedsIsAskedForTogether(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.LookupTimeout = time.Millisecond })
	f.known.set(func() { f.known.gate = make(chan struct{}) })
	events := make([]event.Event, 1000)
	for i := range events {
		events[i] = service(func(e *event.Event) { e.Process.TGID = uint32(1 + i%500) })
	}
	f.contexts(events...)
	assert.GreaterOrEqual(t, len(f.asked), 500)
	assert.LessOrEqual(t, len(f.asked), maxOutstanding)
}

func TestNoMoreIsAskedForThanThereIsRoom(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.LookupTimeout = time.Millisecond; c.Cache.Processes = 100 })
	f.known.set(func() { f.known.gate = make(chan struct{}) })
	events := make([]event.Event, 1000)
	for batch := range 5 {
		for i := range events {
			events[i] = service(func(e *event.Event) { e.Process.TGID = uint32(1000 + batch*1000 + i) })
		}
		f.contexts(events...)
		assert.LessOrEqual(t, len(f.asked), maxOutstanding)
	}
	assert.Len(t, f.asked, maxOutstanding)
	f.known.set(func() { close(f.known.gate); f.known.gate = nil })
	require.Eventually(t, func() bool { f.takeResults(); return len(f.asked) == 0 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, 100, f.processes.Len())
}

func TestCachesThatAreFarTooSmall(t *testing.T) {
	for _, size := range []int{1, 2, 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.Cache = CacheConfig{Processes: size, Cgroups: size} })
			events := make([]event.Event, 1000)
			for i := range events {
				id := identity{start: 1 + uint64(i%300), tgid: 1 + uint32(i%300)}
				cgroup := uint64(1 + i%70)
				f.known.processes[id] = facts{comm: "service", executable: fmt.Sprint(id.tgid), parent: "init", parentTGID: 1}
				f.known.cgroups[cgroup] = container.Identity{ID: [32]byte{byte(cgroup)}}
				events[i] = service(func(e *event.Event) {
					e.Process.Start, e.Process.TGID, e.Process.TID, e.Process.CgroupID = id.start, id.tgid, id.tgid, cgroup
				})
			}
			for range 3 {
				for i, got := range f.contexts(events...) {
					require.Equal(t, want(fmt.Sprint(1+i%300), "init", "root", container.Identity{ID: [32]byte{byte(1 + i%70)}}), got, i)
				}
			}
			assert.Equal(t, size, f.processes.Len())
			assert.Equal(t, size, f.cgroups.Len())
		})
	}
}

func TestEnrichedEventsKeepWhatTheyHave(t *testing.T) {
	f := newFixture(t, nil)
	elsewhere := want("elsewhere", "parent", "user", inOther)
	for _, test := range []struct {
		name     string
		in, want event.Context
	}{
		{"nothing", event.Context{}, want("service.bin", "init", "root", inContainer)},
		{"all", elsewhere, func() event.Context {
			c := elsewhere // but the pod, which it had not
			c.PodUID, c.Known = inContainer.PodUID, c.Known|event.KnownPod
			return c
		}()},
		{
			"some", want("elsewhere", "", "", container.Identity{}, missing(event.MissingNotFound)),
			want("elsewhere", "init", "root", inContainer),
		},
		{"cut", want("abcdefghijklmnopqrstuvwxyz", "", "", container.Identity{}, missing(event.MissingNotFound), func(c *event.Context) { c.Cut = event.KnownExecutable }), func() event.Context {
			c := want("abcdefghijklmnopqrstuvwxyz", "init", "root", inContainer)
			c.Cut = event.KnownExecutable
			return c
		}()},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := []event.Enriched{{Event: service(), Context: test.in}}
			got := run(t, f.enricher, event.Batch{Size: event.EnrichedSize, Data: event.Bytes(in)}, f.out)
			assert.Equal(t, test.want, got[0].Context)
			assert.Equal(t, in[0].Event, got[0].Event)
			assert.Equal(t, test.in, in[0].Context, "the batch was changed")
		})
	}
	f.known.set(func() { delete(f.known.processes, ofService) })
	complete := []event.Enriched{{Event: service(gonePid), Context: want("a", "b", "c", inContainer)}}
	got := run(t, f.enricher, event.Batch{Size: event.EnrichedSize, Data: event.Bytes(complete)}, f.out)
	assert.Equal(t, complete[0], got[0])
}

func TestTelemetry(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Cache.Processes = 2 })
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	builder, err := f.counts.observe(telemetry.NewTelemetrySettings())
	require.NoError(t, err)
	t.Cleanup(builder.Shutdown)

	f.contexts(service(), service(), service(func(e *event.Event) { e.Process.UID = 7 })) // 1 miss, 2 hits
	f.contexts(service(gonePid))                                                          // 1 miss
	f.contexts(event.Event{Version: event.Version, Category: event.CategoryNetwork})      // 1 miss, 1 eviction
	point := func(value int64, attributes ...string) metricdata.DataPoint[int64] {
		set := []attribute.KeyValue{attribute.String("kind", attributes[0])}
		if len(attributes) > 1 {
			set = append(set, attribute.String("reason", attributes[1]))
		}
		return metricdata.DataPoint[int64]{Attributes: attribute.NewSet(set...), Value: value}
	}
	ignore := metricdatatest.IgnoreTimestamp()
	metadatatest.AssertEqualKernelpipeEnrichHits(t, telemetry, []metricdata.DataPoint[int64]{point(2, "process"), point(2, "cgroup"), point(2, "user")}, ignore)
	metadatatest.AssertEqualKernelpipeEnrichMisses(t, telemetry, []metricdata.DataPoint[int64]{point(3, "process"), point(1, "cgroup"), point(1, "user")}, ignore)
	metadatatest.AssertEqualKernelpipeEnrichEntries(t, telemetry, []metricdata.DataPoint[int64]{point(2, "process"), point(1, "cgroup"), point(2, "user")}, ignore)
	metadatatest.AssertEqualKernelpipeEnrichEvictions(t, telemetry, []metricdata.DataPoint[int64]{point(1, "process"), point(0, "cgroup")}, ignore)
	metadatatest.AssertEqualKernelpipeEnrichMemory(t, telemetry, []metricdata.DataPoint[int64]{point(2*processMemory, "process"), point(cgroupMemory, "cgroup")}, ignore)
	metadatatest.AssertEqualKernelpipeEnrichIncomplete(t, telemetry, []metricdata.DataPoint[int64]{
		point(1, "process", "not_found"), point(1, "process", "unknown"), point(1, "user", "not_found"),
	}, ignore)
}

func TestMissingCapabilities(t *testing.T) {
	assert.Empty(t, missingCapabilities(^uint64(0)))
	missing := missingCapabilities(0)
	require.Len(t, missing, 2)
	assert.Equal(t, "CAP_SYS_PTRACE", missing[0].name)
	assert.Equal(t, "CAP_DAC_READ_SEARCH", missing[1].name)
}

// hanging is a source that never answers before the test lets it.
type hanging struct{ gate chan struct{} }

func (h hanging) process(identity) (facts, error) {
	<-h.gate
	return facts{}, errNotFound
}

func TestStopSaysThatALookupHangs(t *testing.T) {
	source := hanging{make(chan struct{})}
	r := newResolver(zap.NewNop(), func() []processSource { return []processSource{source} }, nil, nil)
	r.start()
	r.jobs <- job{process: identity{start: 1, tgid: 1}}
	require.Eventually(t, func() bool { return len(r.jobs) == 0 }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, r.stop(ctx), "a lookup in the file system hangs")
	close(source.gate)
	require.NoError(t, r.stop(t.Context()))
}

func FuzzWork(f *testing.F) {
	one := service()
	f.Add(event.Bytes([]event.Event{one, one}), false)
	f.Add(event.Bytes([]event.Enriched{{Event: one}}), true)
	f.Fuzz(func(t *testing.T, data []byte, enriched bool) {
		size := event.Size
		if enriched {
			size = event.EnrichedSize
		}
		data = append([]byte{}, data[:len(data)/size*size]...)
		if len(data) == 0 || len(data)/size > 1024 {
			return
		}
		x := newFixture(t, func(c *Config) { c.Cache = CacheConfig{Processes: 2, Cgroups: 2} })
		run(t, x.enricher, event.Batch{Size: size, Data: data}, x.out)
	})
}
