package bpfenrichprocessor

import (
	"context"
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
	moved   map[uint32]uint32 // by tgid
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

func (k *knownTable) moves(tgid uint32) uint32 { return k.moved[tgid] }

func (k *knownTable) allMoves() (n uint64) {
	for _, moves := range k.moved {
		n += uint64(moves)
	}
	return n
}

func (k *knownTable) had(id identity) bool { return k.evicted[id] }

func (k *knownTable) cgroup(key cgroupKey) (container.Identity, bool, error) {
	found, ok := k.cgroups[key]
	return found, ok, k.err
}

// serviceAt is one of the programs of the process 100.
func serviceAt(number uint32) identity { return identity{1000, 100, number} }

func recordOfService(executable string) record {
	return record{
		facts:    facts{comm: "service", executable: executable, parent: "starter", parentTGID: 1},
		executed: 1500, parentID: identity{start: 900, tgid: 90}, places: []place{{}},
	}
}

// withTable is a fixture whose table knows the process 100 as one that has run three programs: "starter.bin", "sh", and, from
// 1500 on, "service.bin". The grandparent of it is "runner", whose parent is "init".
func withTable(t *testing.T, change func(*Config, *knownTable)) (*fixture, *knownTable) {
	table := &knownTable{
		records: map[identity]record{
			serviceAt(0):           recordOfService("service.bin"),
			serviceAt(1):           recordOfService("starter.bin"),
			serviceAt(2):           recordOfService("sh"),
			serviceAt(3):           recordOfService("service.bin"),
			{start: 900, tgid: 90}: {facts: facts{comm: "starter", parent: "runner"}, parentID: identity{start: 800, tgid: 80}, places: []place{{}}},
			{start: 800, tgid: 80}: {facts: facts{comm: "runner", parent: "init"}, parentID: identity{start: 1, tgid: 1}, places: []place{{}}},
			{start: 1, tgid: 1}:    {facts: facts{comm: "init"}, places: []place{{}}},
		},
		cgroups: map[cgroupKey]container.Identity{{id: 2}: inContainer, {7, 3}: inOther},
		moved:   map[uint32]uint32{},
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
		{"the program before", nil, service(numbered(2)), want("sh", "starter", "root", inContainer)},
		{"its parent's program", nil, service(numbered(1)), want("starter.bin", "starter", "root", inContainer)},
		{"its exec", nil, service(execOf("x")), all},
		{"its exec, at the time of another", nil, service(at(1), execOf("x")), all},
		{"the exec before, at the time of another", nil, service(at(1500), numbered(2), execOf("x")), want("sh", "starter", "root", inContainer)},
		{
			"a program that is forgotten", func(k *knownTable) {
				r := recordOfService("")
				r.forgotten = true
				k.records[serviceAt(3)] = r
			},
			service(), want("", "starter", "root", inContainer, missing(event.MissingEvicted)),
		},
		{
			"a program that can't be read", func(k *knownTable) { k.records[serviceAt(3)] = recordOfService("") },
			service(), want("", "starter", "root", inContainer, missing(event.MissingNotFound)),
		},
		{
			"a program without a name", func(k *knownTable) {
				r := recordOfService("")
				r.nameless = true
				k.records[serviceAt(3)] = r
			},
			service(), want("", "starter", "root", inContainer),
		},
		{"of any program", nil, service(numbered(0)), all},
		{"of any program, as it began", nil, service(numbered(0), at(1500)), all},
		{"of any program, before it began", nil, service(numbered(0), at(1499)), want("", "starter", "root", inContainer, missing(event.MissingNotFound))},
		{
			"kernel", func(k *knownTable) {
				k.records[serviceAt(3)] = record{facts: facts{comm: "kworker", nameless: true}, places: []place{{}}}
			},
			service(), want("", "", "root", inContainer),
		},
		{
			"container with cgroup v1", func(k *knownTable) {
				r := recordOfService("service.bin")
				r.places = []place{{key: cgroupKey{7, 3}}}
				k.records[serviceAt(3)] = r
			},
			service(func(e *event.Event) { e.Process.CgroupID = 0 }), want("service.bin", "starter", "root", inOther),
		},
		{
			"evicted", func(k *knownTable) { k.evicted[identity{1000, 999, 3}] = true },
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
			most := 1
			switch {
			case test.event.ExecNumber == 0:
				most = 2 // once for each batch
			case test.want.Reason != event.MissingNothing:
				most = 3 // and after /proc, and whose process it is not
			}
			assert.LessOrEqual(t, len(table.asked), most, "asked again")
		})
	}
}

func TestAnExecIsNeverMissed(t *testing.T) {
	f, table := withTable(t, nil)
	assert.Equal(t, []event.Context{want("service.bin", "starter", "root", inContainer)}, f.contexts(service()))
	table.records[serviceAt(4)] = recordOfService("next")
	got := f.contexts(service(), service(numbered(4)), service())
	assert.Equal(t, []event.Context{
		want("service.bin", "starter", "root", inContainer), want("next", "starter", "root", inContainer), want("service.bin", "starter", "root", inContainer),
	}, got)
	assert.Len(t, table.asked, 2)
	assert.Zero(t, f.known.times(100))
}

// asked is called when /proc is asked about a process.
type asked struct {
	*known
	call func()
}

func (a asked) process(id identity) (facts, error) {
	a.call()
	return a.known.process(id)
}

// The event of an exec can come before the table knows of the exec. /proc is asked then, and may tell of the program after it.
func TestAnExecThatTheTableIsBehind(t *testing.T) {
	for _, test := range []struct {
		name   string
		behind bool // still, when /proc has answered
		want   string
	}{{"it is there by then", false, "next"}, {"it is still behind", true, "from /proc"}} {
		t.Run(test.name, func(t *testing.T) {
			f, table := withTable(t, nil)
			learn := func() {
				f.known.set(func() {
					f.known.processes[ofService] = facts{executable: "from /proc", parent: "starter", parentTGID: 1}
				})
				if !test.behind {
					table.records[serviceAt(4)] = recordOfService("next")
				}
			}
			f.resolver.newSource = func() []processSource { return []processSource{asked{f.known, learn}} }
			require.NoError(t, f.resolver.stop(t.Context()))
			fresh := newResolver(f.resolver.logger, f.resolver.newSource, f.known, f.resolver.users)
			fresh.start()
			t.Cleanup(func() { require.NoError(t, fresh.stop(context.Background())) })
			f.resolver = fresh
			got := f.contexts(service(), service(numbered(4), execOf("x")), service(numbered(4)))
			assert.Equal(t, []event.Context{
				want("service.bin", "starter", "root", inContainer), want(test.want, "starter", "root", inContainer), want(test.want, "starter", "root", inContainer),
			}, got)
		})
	}
}

// With cgroup v1 the events of before a process was moved are of where it was then.
func TestAMovedProcess(t *testing.T) {
	f, table := withTable(t, nil)
	in := func(container container.Identity, change ...func(*event.Context)) event.Context {
		return want("service.bin", "starter", "root", container, change...)
	}
	v1 := func(time uint64) event.Event {
		return service(at(time), func(e *event.Event) { e.Process.CgroupID = 1 }) // the root of cgroup v2
	}
	table.cgroups[cgroupKey{id: 1}] = container.Identity{}
	moved := func(places ...place) {
		for number := range uint32(4) {
			r := table.records[serviceAt(number)]
			r.places = places
			table.records[serviceAt(number)] = r
		}
		table.moved[100]++
	}
	other := cgroupKey{7, 3}
	assert.Equal(t, []event.Context{in(container.Identity{})}, f.contexts(v1(2000)))
	moved(place{3000, other}, place{})
	assert.Equal(t, []event.Context{in(container.Identity{}), in(inOther), in(container.Identity{})}, f.contexts(v1(2999), v1(3000), v1(2000)))
	moved(place{4000, cgroupKey{}}, place{3000, other}, place{})
	assert.Equal(t, []event.Context{in(inOther), in(container.Identity{}), in(container.Identity{}), in(inOther)},
		f.contexts(v1(3999), v1(4000), v1(2999), v1(3000)))
	moved(place{4000, cgroupKey{}}, place{3000, other}) // what was before is forgotten
	assert.Equal(t, []event.Context{in(inOther), in(container.Identity{}, missing(event.MissingEvicted)), in(container.Identity{})},
		f.contexts(v1(3000), v1(2999), v1(4000)))
	assert.Len(t, table.asked, 4, "once after each move")
}

func TestTheTableIsAskedAboutABatchTogether(t *testing.T) {
	f, table := withTable(t, func(c *Config, _ *knownTable) { c.Cache.Processes = 100 })
	events := make([]event.Event, 1000)
	for i := range events {
		number := uint32(1 + i%500)
		table.records[identity{1000, number, 3}] = record{facts: facts{executable: fmt.Sprint(number), parent: "init", parentTGID: 1}, places: []place{{}}}
		events[i] = service(func(e *event.Event) { e.Process.TGID = number })
	}
	for i, got := range f.contexts(events...) {
		require.Equal(t, want(fmt.Sprint(1+i%500), "init", "root", inContainer), got, i)
	}
	assert.Len(t, table.asked[0], 1000, "in a cache that is too small for them none is found a second time")

	f, table = withTable(t, nil)
	for i := range events {
		table.records[identity{1000, uint32(1 + i%500), 3}] = record{places: []place{{}}}
	}
	f.contexts(events...)
	require.Len(t, table.asked, 1)
	assert.Len(t, table.asked[0], 500)
}

func TestATableThatFailsLeavesTheOthers(t *testing.T) {
	f, table := withTable(t, nil)
	table.err = errors.New("broken")
	f.known.set(func() {
		f.known.processes[ofService] = facts{comm: "service", executable: "service.bin", parent: "init", parentTGID: 1}
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
			func(k *knownTable) { delete(k.records, identity{start: 900, tgid: 90}) }, "", false,
		},
		{
			"a line without an end", AncestorConfig{Command: []string{"other"}}, func(k *knownTable) {
				r := k.records[identity{start: 900, tgid: 90}]
				r.parentID = identity{start: 900, tgid: 90}
				k.records[identity{start: 900, tgid: 90}] = r
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
