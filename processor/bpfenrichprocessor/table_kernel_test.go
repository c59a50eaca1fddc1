//go:build linux && kernel

package bpfenrichprocessor

// What the process table is for: processes that are gone before anybody looks.

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/testprogram"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadata"
)

// briefs writes n programs that end at once, named prefix-0 and so on.
func briefs(t testing.TB, prefix string, n int) (paths, names []string) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d", prefix, i))
		paths = append(paths, filepath.Join(dir, names[i]))
		require.NoError(t, testprogram.Write(paths[i], testprogram.Brief))
	}
	return paths, names
}

// TestSpawner is no test: it is the process that TestShortLivedProcesses has start others, each of which runs two programs.
func TestSpawner(t *testing.T) {
	programs := strings.Split(os.Getenv("KERNELPIPE_SPAWN"), ":")
	if len(programs) < 2 {
		return
	}
	n, err := strconv.Atoi(os.Getenv("KERNELPIPE_TIMES"))
	require.NoError(t, err)
	var next atomic.Int64
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				first, second := programs[i%len(programs)], programs[(i/len(programs))%len(programs)]
				if err := exec.Command(first, second).Run(); err != nil {
					panic(err)
				}
			}
		})
	}
	group.Wait()
}

// 20,000 processes live for a millisecond, on a machine that is busy, and nobody reads their events before they are all
// gone. Every event has the right executable and parent.
func TestShortLivedProcesses(t *testing.T) {
	const (
		processes = 20_000
		parents   = 4
		programs  = 8
	)
	paths, names := briefs(t, "kp-brief", programs)
	next, config := &sink{}, newConfig()
	config.ProcessTable.Processes = 1 << 16 // room for what else starts meanwhile
	p := start(t, config, next)
	held := &holding{next: p, release: make(chan struct{})}
	commands := []any{}
	for _, name := range names {
		commands = append(commands, name)
	}
	traceBy(t, held, map[string]any{
		"ring_buffer": map[string]any{"size": "32MiB"},
		"probes": map[string]any{
			"process":    map[string]any{"command": commands},
			"filesystem": map[string]any{"command": commands, "operation": []any{"unlink"}},
		},
	})

	var load sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		load.Go(func() {
			for ctx.Err() == nil {
			}
		})
	}
	self, err := os.Executable()
	require.NoError(t, err)
	parentNames := map[uint32]string{}
	var running []*exec.Cmd
	for i := range parents {
		name := fmt.Sprintf("kp-parent-%d", i)
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.Symlink(self, path))
		cmd := exec.Command(path, "-test.run", "^TestSpawner$")
		cmd.Env = append(os.Environ(), "KERNELPIPE_SPAWN="+strings.Join(paths, ":"), fmt.Sprintf("KERNELPIPE_TIMES=%d", processes/parents))
		require.NoError(t, cmd.Start())
		parentNames[uint32(cmd.Process.Pid)] = name
		running = append(running, cmd)
	}
	for _, cmd := range running {
		require.NoError(t, cmd.Wait())
	}
	cancel()
	load.Wait()
	time.Sleep(3 * time.Second)
	close(held.release)

	const each = 5 // two execs, two files that are not there, one exit
	require.Eventually(t, func() bool { return len(next.all()) >= processes*each }, 60*time.Second, 10*time.Millisecond)
	settle(t, p)
	ofParent := map[string]int{}
	exits := map[identity]bool{}
	for _, e := range next.all() {
		executable, parent := event.Text(e.Context.Executable[:]), event.Text(e.Context.Parent[:])
		require.Equal(t, e.Event.Comm(), executable, "%+v", e)
		require.Contains(t, parentNames, e.Context.ParentTGID)
		require.Equal(t, parentNames[e.Context.ParentTGID], parent)
		require.Equal(t, event.MissingNothing, e.Context.Reason)
		require.Equal(t, "root", event.Text(e.Context.User[:]))
		ofParent[parent]++
		if e.Event.Category == event.CategoryProcess && e.Event.Operation == event.ProcessExit {
			exits[identityOf(&e.Event)] = true
		}
	}
	assert.Len(t, next.all(), processes*each)
	assert.Len(t, exits, processes)
	for _, name := range parentNames {
		assert.Equal(t, processes*each/parents, ofParent[name], name)
	}
	counts, err := p.table.Counts()
	require.NoError(t, err)
	t.Logf("%+v, %d bytes in the kernel", counts, p.table.Memory())
	assert.Zero(t, counts.Full+counts.Errors+counts.Skipped)
}

// Many processes get one pid, one after the other, and each runs another program.
func TestReusedPidsInTheTable(t *testing.T) {
	const times = 50
	paths, names := briefs(t, "kp-reuse", 8)
	next := &sink{}
	p := start(t, newConfig(), next)
	held := &holding{next: p, release: make(chan struct{})}
	commands := []any{}
	for _, name := range names {
		commands = append(commands, name)
	}
	traceBy(t, held, map[string]any{"probes": map[string]any{"process": map[string]any{"command": commands}}})

	ran := map[uint32][]string{} // by pid
	run := func(i int) uint32 {
		cmd := exec.Command(paths[i%len(paths)])
		require.NoError(t, cmd.Run())
		pid := uint32(cmd.Process.Pid)
		ran[pid] = append(ran[pid], names[i%len(names)])
		return pid
	}
	pid := run(0)
	for i := 1; len(ran[pid]) < times; i++ {
		require.Less(t, i, 100*times, "others took the pid all the time")
		require.NoError(t, os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(int(pid)-1)), 0o600), "this test needs root in the initial pid namespace")
		run(i)
	}
	total := 0
	for _, programs := range ran {
		total += 2 * len(programs)
	}
	close(held.release)
	require.Eventually(t, func() bool { return len(next.all()) >= total }, 60*time.Second, 10*time.Millisecond)
	assert.Len(t, next.all(), total)
	got := map[uint32][]string{}
	for _, e := range next.all() {
		executable := event.Text(e.Context.Executable[:])
		require.Equal(t, e.Event.Comm(), executable)
		require.EqualValues(t, os.Getpid(), e.Context.ParentTGID)
		require.Equal(t, event.MissingNothing, e.Context.Reason)
		if e.Event.Operation == event.ProcessExit {
			got[e.Event.Process.TGID] = append(got[e.Event.Process.TGID], executable)
		}
	}
	assert.Equal(t, ran, got)
}

// records keeps the attributes of records.
type records struct {
	mu  sync.Mutex
	all []pcommon.Map
}

func (*records) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (r *records) ConsumeLogs(_ context.Context, logs plog.Logs) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				attributes := pcommon.NewMap()
				record.Attributes().CopyTo(attributes)
				attributes.PutStr("test.event_name", record.EventName())
				r.all = append(r.all, attributes)
			}
		}
	}
	return nil
}

// of returns the attributes of the records of a process.
func (r *records) of(pid int) (found []map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, attributes := range r.all {
		if value, ok := attributes.Get("process.pid"); ok && value.Int() == int64(pid) {
			found = append(found, attributes.AsRaw())
		}
	}
	return found
}

// Paths and arguments have no room in the events of frames; records get them from the table.
func TestPathsAndCommandLinesInRecords(t *testing.T) {
	paths, _ := briefs(t, "kp-detail", 2)
	next, config := &records{}, newConfig()
	config.Encoding, config.CommandLine.Enabled = event.EncodingRecords, true
	held := &holding{next: start(t, config, next), release: make(chan struct{})}
	traceBy(t, held, map[string]any{"probes": map[string]any{
		"process":    map[string]any{"command": []any{"kp-detail-0", "kp-detail-1"}},
		"filesystem": map[string]any{"command": []any{"kp-detail-0", "kp-detail-1"}, "operation": []any{"unlink"}},
	}})
	once := exec.Command(paths[0])
	require.NoError(t, once.Run())
	secret := exec.Command(paths[0], paths[1], "--password=hunter2", "\xff", strings.Repeat("x", 300))
	require.NoError(t, secret.Run())
	close(held.release)
	require.Eventually(t, func() bool { return len(next.of(once.Process.Pid)) == 3 && len(next.of(secret.Process.Pid)) == 5 }, 20*time.Second, time.Millisecond)
	for _, record := range next.of(once.Process.Pid) {
		assert.Equal(t, "kp-detail-0", record["process.executable.name"])
		assert.NotContains(t, record, "kernel.enrichment.missing")
		assert.Equal(t, []any{paths[0]}, record["process.command_args"])
		assert.Equal(t, paths[0], record["process.executable.path"])
		assert.NotContains(t, record, "kernel.event.flags", "the path is whole")
	}
	for _, record := range next.of(secret.Process.Pid) {
		assert.NotContains(t, record, "kernel.enrichment.missing")
		if record["process.executable.name"] == "kp-detail-0" { // what it ran before
			assert.Equal(t, paths[0], record["process.executable.path"])
			assert.NotContains(t, record, "process.command_args", "they are of the program that it ran last")
			continue
		}
		assert.Equal(t, paths[1], record["process.executable.path"])
		assert.Equal(t, []any{paths[1], "--password=***", `\xff`}, record["process.command_args"])
		assert.Equal(t, true, record["kernel.process.command_args_cut"])
	}
}

// Who gets such records decodes them again, though a path has less room in an event.
func TestRecordsAreDecodedAgain(t *testing.T) {
	const times = 3
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200))
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "kp-again")
	require.NoError(t, testprogram.Write(path, testprogram.Brief))
	next, config := &sink{}, newConfig()
	config.Encoding, config.CommandLine.Enabled = event.EncodingRecords, true
	behind := start(t, newConfig(), next)
	p := start(t, config, behind)
	traceBy(t, p, map[string]any{"probes": map[string]any{"process": map[string]any{"command": []any{"kp-again"}}}})
	for range times {
		require.NoError(t, exec.Command(path, strings.Repeat("x", 300)).Run())
	}
	require.Eventually(t, func() bool { return p.Books().Delivered == 2*times }, 20*time.Second, time.Millisecond)
	assert.EqualValues(t, 2*times, settle(t, behind).Delivered)
	execs := 0
	for _, e := range next.all() {
		assert.Equal(t, "kp-again", event.Text(e.Context.Executable[:]))
		assert.Equal(t, event.MissingNothing, e.Context.Reason)
		if isExec(&e.Event) {
			execs++
			assert.Equal(t, path[:event.NameLen-1], e.Event.Name())
			assert.Equal(t, event.FlagNameCut, e.Event.Flags)
		}
	}
	assert.Equal(t, times, execs)
}

func TestHostileNames(t *testing.T) {
	next, config := &records{}, newConfig()
	config.Encoding, config.CommandLine.Enabled, config.PasswdFile = event.EncodingRecords, true, ""
	held := &holding{next: start(t, config, next), release: make(chan struct{})}
	tests := []struct {
		dir, base string
		cut       bool // the path
		nameCut   bool
	}{
		{"d", "kp\nnew\r\nline", false, false},
		{"d", "kp\x1b[31m\x1b]0;t\a", false, false},
		{"d", "kp\xff\xfe\xc3", false, false},
		{"d\n\xff", "kp\u202etxt", false, false},
		{strings.Repeat(strings.Repeat("d", 99)+"/", 39), "kp-deep", true, false},
		{"d", "kp-" + strings.Repeat("\n", 252), true, true},
		{"d", "kp-12345678901234567890123", false, true},
	}
	commands := []any{}
	for _, test := range tests {
		commands = append(commands, test.base[:min(15, len(test.base))])
	}
	traceBy(t, held, map[string]any{"probes": map[string]any{"process": map[string]any{"command": commands}}})
	var pids []int
	for _, test := range tests {
		path := filepath.Join(t.TempDir(), test.dir, test.base)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, testprogram.Write(path, testprogram.Brief))
		cmd := exec.Command(path)
		require.NoError(t, cmd.Run())
		pids = append(pids, cmd.Process.Pid)
	}
	close(held.release)
	for i, test := range tests {
		require.Eventually(t, func() bool { return len(next.of(pids[i])) == 2 }, 20*time.Second, time.Millisecond, "%q", test.base)
		for _, record := range next.of(pids[i]) {
			for key, value := range record {
				if text, ok := value.(string); ok {
					assert.True(t, prints(text), "%s: %q", key, text)
				}
				if list, ok := value.([]any); ok {
					assert.False(t, slices.ContainsFunc(list, func(v any) bool { return !prints(v.(string)) }))
				}
			}
			assert.Equal(t, event.Escape(test.base[:min(23, len(test.base))]), record["process.executable.name"])
			assert.Equal(t, event.Escape(test.base[:min(15, len(test.base))]), record["thread.name"])
			assert.True(t, strings.HasSuffix(record["process.executable.path"].(string), event.Escape(test.base)), "%q", test.base)
			_, cut := record["kernel.process.executable.path_cut"]
			assert.Equal(t, test.cut, cut, "%q", test.base)
			parts, _ := record["kernel.enrichment.cut"].(int64)
			assert.Equal(t, test.nameCut, event.Known(parts)&event.KnownExecutable != 0, "%q", test.base)
			assert.NotContains(t, record, "kernel.enrichment.missing")
		}
	}
}

func prints(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// The table goes on while no Collector runs, and is full of what happened meanwhile when the next one starts.
func TestTableOutlivesTheProcess(t *testing.T) {
	paths, names := briefs(t, "kp-between", 1)
	config := newConfig()
	config.PinPath, config.ProcessTable.KeepOnShutdown = pinPath(t), true
	first := create(t, config, &sink{})
	require.NoError(t, first.Start(t.Context(), componenttest.NewNopHost()))
	held := &holding{release: make(chan struct{})}
	traceBy(t, held, map[string]any{"probes": map[string]any{"process": map[string]any{"command": []any{names[0]}}}})
	require.NoError(t, first.Shutdown(t.Context()))
	cmd := exec.Command(paths[0])
	require.NoError(t, cmd.Run())
	config.ProcessTable.KeepOnShutdown = false
	next := &sink{}
	held.next = start(t, config, next)
	close(held.release)
	for _, operation := range []uint16{event.ProcessExec, event.ProcessExit} {
		e := waitFor(t, next, operation)
		assert.Equal(t, names[0], event.Text(e.Context.Executable[:]))
		assert.EqualValues(t, os.Getpid(), e.Context.ParentTGID)
		assert.Equal(t, event.MissingNothing, e.Context.Reason)
	}
}

// What a process executes while nobody keeps the table, its events have when it is kept again.
func TestProgramExecutedWhileStopped(t *testing.T) {
	shell, err := os.ReadFile("/bin/sh")
	require.NoError(t, err)
	after := filepath.Join(t.TempDir(), "kp-after")
	require.NoError(t, os.WriteFile(after, shell, 0o700))
	config := newConfig()
	config.PinPath, config.Encoding = pinPath(t), event.EncodingRecords
	first := create(t, config, &records{})
	require.NoError(t, first.Start(t.Context(), componenttest.NewNopHost()))
	cmd := exec.Command("/bin/sh", "-c", "read x; exec "+after+" -c 'read y'")
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, first.Shutdown(t.Context()))
	_, err = io.WriteString(input, "\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		running, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
		return err == nil && running == after
	}, 10*time.Second, time.Millisecond)
	next := &records{}
	traceBy(t, start(t, config, next), map[string]any{"probes": map[string]any{
		"process": map[string]any{"command": []any{"kp-after"}, "operation": []any{"exit"}},
	}})
	require.NoError(t, input.Close())
	require.Error(t, cmd.Wait(), "read found the end")
	require.Eventually(t, func() bool { return len(next.of(cmd.Process.Pid)) == 1 }, 20*time.Second, time.Millisecond)
	record := next.of(cmd.Process.Pid)[0]
	assert.Equal(t, "kp-after", record["process.executable.name"])
	assert.Equal(t, after, record["process.executable.path"])
	assert.NotContains(t, record, "kernel.enrichment.missing")
}

// What does not fit in the table is said: the process ended first.
func TestEvictedIsSaid(t *testing.T) {
	paths, names := briefs(t, "kp-many", 1)
	running, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	next, config := &sink{}, newConfig()
	config.ProcessTable.Processes = len(running) + 300
	p := start(t, config, next)
	held := &holding{next: p, release: make(chan struct{})}
	traceBy(t, held, map[string]any{"probes": map[string]any{"process": map[string]any{"command": []any{names[0]}, "operation": []any{"exit"}}}})
	processes := config.ProcessTable.Processes + 300 // the first of them make room, whatever else starts and ends meanwhile
	for range processes {
		require.NoError(t, exec.Command(paths[0]).Run())
	}
	close(held.release)
	require.Eventually(t, func() bool { return len(next.all()) == processes }, 60*time.Second, time.Millisecond)
	// One whose event is enriched at once is still there, unless others start and end faster than that.
	for deadline := time.Now().Add(time.Minute); next.all()[processes-1].Context.Reason != event.MissingNothing; processes++ {
		require.True(t, time.Now().Before(deadline), "none was found")
		require.NoError(t, exec.Command(paths[0]).Run())
		require.Eventually(t, func() bool { return len(next.all()) == processes+1 }, 60*time.Second, time.Millisecond)
	}
	settle(t, p)
	counts, err := p.table.Counts()
	require.NoError(t, err)
	missing := map[event.Missing]int{}
	for _, e := range next.all() {
		missing[e.Context.Reason]++
		if e.Context.Reason == event.MissingNothing {
			assert.Equal(t, names[0], event.Text(e.Context.Executable[:]))
		}
	}
	assert.Positive(t, missing[event.MissingEvicted])
	assert.LessOrEqual(t, missing[event.MissingNotFound], int(counts.Full), "others that live filled it")
	assert.Equal(t, processes, missing[event.MissingNothing]+missing[event.MissingEvicted]+missing[event.MissingNotFound], "%v", missing)
	incomplete := p.enricher.counts.published.Load().incomplete[kindProcess]
	assert.EqualValues(t, missing[event.MissingEvicted], incomplete[evicted])
	assert.EqualValues(t, missing[event.MissingNotFound], incomplete[notFound])
}

func TestTelemetryOfTheTable(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { assert.NoError(t, telemetry.Shutdown(context.Background())) })
	set := processortest.NewNopSettings(metadata.Type)
	set.TelemetrySettings = telemetry.NewTelemetrySettings()
	config := newConfig()
	p := newProcessor(set, config, &sink{})
	require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { assert.NoError(t, p.Shutdown(context.Background())) })
	value := func(name, kind, reason string) (found int64) {
		metric, err := telemetry.GetMetric("otelcol_kernelpipe_enrich_table_" + name)
		require.NoError(t, err)
		found = -1
		var points []metricdata.DataPoint[int64]
		switch data := metric.Data.(type) {
		case metricdata.Sum[int64]:
			points = data.DataPoints
		case metricdata.Gauge[int64]:
			points = data.DataPoints
		}
		for _, point := range points {
			has := func(key, want string) bool {
				got, _ := point.Attributes.Value(attribute.Key(key))
				return got.AsString() == want
			}
			if has("kind", kind) && has("reason", reason) {
				found = point.Value
			}
		}
		return found
	}
	inserts := value("inserts", "process", "")
	assert.Positive(t, inserts)
	require.NoError(t, exec.Command("/bin/true").Run())
	assert.Greater(t, value("inserts", "process", ""), inserts)
	assert.Positive(t, value("entries", "process", ""))
	assert.Positive(t, value("inserts", "cgroup", ""))
	assert.Positive(t, value("entries", "cgroup", ""))
	assert.Zero(t, value("evictions", "process", ""))
	assert.Zero(t, value("evictions", "cgroup", ""))
	for _, reason := range []string{"full", "error", "recursion"} {
		assert.Zero(t, value("misses", "process", reason), reason)
	}
	assert.Zero(t, value("misses", "cgroup", "full"))
	assert.Zero(t, value("misses", "program", "full"))
	assert.Positive(t, value("inserts", "program", ""), "what /bin/true replaced")
	assert.Positive(t, value("entries", "program", ""))
	assert.Zero(t, value("evictions", "program", ""))
	assert.Greater(t, value("memory", "", ""), int64(config.ProcessTable.Processes)*500)
	_, err := telemetry.GetMetric("otelcol_kernelpipe_enrich_table_retention")
	assert.Error(t, err, "nothing was evicted")
}
