package bpfenrichprocessor

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/container"
)

// knownTable is a process table of what a test says.
type knownTable struct {
	records map[identity]record
	cgroups map[cgroupKey]container.Identity
	started map[uint64]uint32 // execs by tgid
	evicted map[identity]bool
	err     error
	asked   [][]identity
}

func (k *knownTable) lookUp(ids []identity, visit func(int, *record)) error {
	k.asked = append(k.asked, append([]identity{}, ids...))
	if k.err != nil {
		return k.err
	}
	for i, id := range ids {
		if found, ok := k.records[id]; ok {
			visit(i, &found)
		}
	}
	return nil
}

func (k *knownTable) execs(tgid uint32) uint32 { return k.started[uint64(tgid)] }

func (k *knownTable) allExecs() (n uint64) {
	for _, execs := range k.started {
		n += uint64(execs)
	}
	return n
}

func (k *knownTable) had(id identity, _ uint64) bool { return k.evicted[id] }

func (k *knownTable) cgroup(key cgroupKey) (container.Identity, bool, error) {
	found, ok := k.cgroups[key]
	return found, ok, k.err
}

// withTable is a fixture whose table knows the process 100 as one that ran other programs before: init's child, then "sh"
// from 1200, then "service.bin" from 1500. The grandparent of it is "runner", whose parent is "init".
func withTable(t *testing.T, change func(*Config, *knownTable)) (*fixture, *knownTable) {
	table := &knownTable{
		records: map[identity]record{
			{1000, 100}: {
				facts:    facts{comm: "service", executable: "service.bin", parent: "starter", parentTGID: 1},
				history:  history{{1500, "service.bin"}, {1200, "sh"}, {0, "starter.bin"}},
				parentID: identity{900, 90},
			},
			{900, 90}: {facts: facts{comm: "starter", parent: "runner"}, history: history{{}}, parentID: identity{800, 80}},
			{800, 80}: {facts: facts{comm: "runner", parent: "init"}, history: history{{}}, parentID: identity{1, 1}},
			{1, 1}:    {facts: facts{comm: "init"}, history: history{{}}},
		},
		cgroups: map[cgroupKey]container.Identity{{id: 2}: inContainer, {7, 3}: inOther},
		started: map[uint64]uint32{},
		evicted: map[identity]bool{},
	}
	f := newFixture(t, func(config *Config) {
		if change != nil {
			change(config, table)
		}
	})
	f.known.set(func() { // what is in the file system is too late for everything
		clear(f.known.processes)
		clear(f.known.cgroups)
	})
	config := createDefaultConfig().(*Config)
	config.LookupTimeout = f.timeout
	if change != nil {
		change(config, table)
	}
	f.enricher = newEnricher(config, f.resolver, table)
	return f, table
}

func at(time uint64) func(*event.Event) { return func(e *event.Event) { e.Time = time } }

func TestTableKnowsWhatIsGone(t *testing.T) {
	all := want("service.bin", "starter", "root", inContainer)
	for _, test := range []struct {
		name  string
		setup func(*knownTable)
		event event.Event
		want  event.Context
	}{
		{"all", nil, service(), all},
		{"another name of the main thread", nil, service(func(e *event.Event) { e.Process.Comm = [16]byte{'x'} }), all},
		{"as it began", nil, service(at(1500)), all},
		{"the program before", nil, service(at(1499)), want("sh", "starter", "root", inContainer)},
		{"its parent's program", nil, service(at(1000)), want("starter.bin", "starter", "root", inContainer)},
		{"exec, seen a little earlier", nil, service(at(1490), execOf("x")), all},
		{"exec, seen a little later", nil, service(at(1510), execOf("x")), all},
		{"exec before, seen a little earlier", nil, service(at(1190), execOf("x")), want("sh", "starter", "root", inContainer)},
		{
			"a program that is forgotten", func(k *knownTable) {
				r := k.records[identity{1000, 100}]
				r.history = r.history[:2]
				k.records[identity{1000, 100}] = r
			},
			service(at(1100)), want("", "starter", "root", inContainer, missing(event.MissingEvicted)),
		},
		{
			"a program without a name", func(k *knownTable) {
				r := k.records[identity{1000, 100}]
				r.executable, r.history = "", history{{1500, ""}}
				k.records[identity{1000, 100}] = r
			},
			service(), want("", "starter", "root", inContainer, missing(event.MissingNotFound)),
		},
		{
			"kernel", func(k *knownTable) {
				k.records[identity{1000, 100}] = record{facts: facts{comm: "kworker", kernel: true}, history: history{{}}}
			},
			service(), want("", "", "root", inContainer),
		},
		{
			"container with cgroup v1", func(k *knownTable) {
				r := k.records[identity{1000, 100}]
				r.legacy = cgroupKey{7, 3}
				k.records[identity{1000, 100}] = r
			},
			service(func(e *event.Event) { e.Process.CgroupID = 0 }), want("service.bin", "starter", "root", inOther),
		},
		{
			"evicted", func(k *knownTable) { k.evicted[identity{1000, 999}] = true },
			service(gonePid), want("", "", "root", inContainer, missing(event.MissingEvicted)),
		},
		{"never seen", nil, service(gonePid), want("", "", "root", inContainer, missing(event.MissingNotFound))},
		{"reused pid", nil, service(func(e *event.Event) { e.Process.Start++ }), want("", "", "root", inContainer, missing(event.MissingNotFound))},
		{"nobody", nil, event.Event{Version: event.Version, Category: event.CategoryNetwork}, want("", "", "", container.Identity{}, missing(event.MissingUnknown))},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, table := withTable(t, nil)
			if test.setup != nil {
				test.setup(table)
			}
			for range 2 {
				got := f.contexts(test.event, test.event)
				assert.Equal(t, []event.Context{test.want, test.want}, got)
			}
			assert.LessOrEqual(t, len(table.asked), 1, "asked again")
		})
	}
}

func TestAnExecIsNeverMissed(t *testing.T) {
	f, table := withTable(t, nil)
	assert.Equal(t, []event.Context{want("service.bin", "starter", "root", inContainer)}, f.contexts(service()))
	r := table.records[identity{1000, 100}]
	r.executable, r.history = "next", append(history{{3000, "next"}}, r.history...)
	table.records[identity{1000, 100}] = r
	table.started[100]++
	got := f.contexts(service(), service(at(3000)), service())
	assert.Equal(t, []event.Context{
		want("service.bin", "starter", "root", inContainer), want("next", "starter", "root", inContainer), want("service.bin", "starter", "root", inContainer),
	}, got)
	assert.Len(t, table.asked, 2)
	assert.Zero(t, f.known.times(100))
}

func TestTheTableIsAskedAboutABatchTogether(t *testing.T) {
	f, table := withTable(t, func(c *Config, _ *knownTable) { c.Cache.Processes = 100 })
	events := make([]event.Event, 1000)
	for i := range events {
		number := uint64(1 + i%500)
		table.records[identity{1000, number}] = record{facts: facts{executable: fmt.Sprint(number), parent: "init", parentTGID: 1}, history: history{{}}}
		events[i] = service(func(e *event.Event) { e.Process.TGID = uint32(number) })
	}
	for i, got := range f.contexts(events...) {
		require.Equal(t, want(fmt.Sprint(1+i%500), "init", "root", inContainer), got, i)
	}
	assert.Len(t, table.asked[0], 1000, "in a cache that is too small for them none is found a second time")

	f, table = withTable(t, nil)
	for i := range events {
		table.records[identity{1000, uint64(1 + i%500)}] = record{history: history{{}}}
	}
	f.contexts(events...)
	require.Len(t, table.asked, 1)
	assert.Len(t, table.asked[0], 500)
}

func TestATableThatFailsLeavesTheOthers(t *testing.T) {
	f, table := withTable(t, nil)
	table.err = errors.New("broken")
	f.known.set(func() {
		f.known.processes[identity{1000, 100}] = facts{comm: "service", executable: "service.bin", parent: "init", parentTGID: 1}
		f.known.cgroups[2] = inContainer
	})
	assert.Equal(t, []event.Context{want("service.bin", "init", "root", inContainer)}, f.contexts(service()))
}

func TestAncestor(t *testing.T) {
	for _, test := range []struct {
		name   string
		chosen AncestorConfig
		setup  func(*knownTable)
		want   string
		known  bool
	}{
		{"none is chosen", AncestorConfig{}, nil, "", true},
		{"by its name", AncestorConfig{Command: []string{"runner"}}, nil, "runner", true},
		{"the nearest", AncestorConfig{Command: []string{"runner", "starter"}}, nil, "starter", true},
		{"child of init", AncestorConfig{ChildOf: []string{"init"}}, nil, "runner", true},
		{"itself", AncestorConfig{ChildOf: []string{"starter"}}, nil, "service", true},
		{"by its own name it is none", AncestorConfig{Command: []string{"service"}}, nil, "", true},
		{"nobody", AncestorConfig{Command: []string{"other"}, ChildOf: []string{"other"}}, nil, "", true},
		{
			"the line breaks off", AncestorConfig{Command: []string{"runner"}},
			func(k *knownTable) { delete(k.records, identity{800, 80}) }, "", false,
		},
		{
			"a line without an end", AncestorConfig{Command: []string{"other"}}, func(k *knownTable) {
				r := k.records[identity{900, 90}]
				r.parentID = identity{900, 90}
				k.records[identity{900, 90}] = r
			},
			"", true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, table := withTable(t, func(c *Config, _ *knownTable) { c.Ancestor = test.chosen })
			if test.setup != nil {
				test.setup(table)
			}
			expected := want("service.bin", "starter", "root", inContainer)
			if test.want != "" {
				expected.Known |= event.KnownAncestor
				event.SetText(expected.Ancestor[:], test.want)
			}
			if !test.known {
				expected.Reason = event.MissingNotFound
			}
			assert.Equal(t, []event.Context{expected, expected}, f.contexts(service(), service()))
			if !test.known {
				assert.EqualValues(t, 2, f.counts.incomplete[kindAncestor][notFound])
			}
		})
	}
}
