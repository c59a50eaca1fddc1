package bpfaggregateconnector

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	conventions "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// anyEvent returns an event of few different values, so that pairs are alike now and then, with bytes that mean
// nothing now and then.
func anyEvent(r *rand.Rand) event.Enriched {
	few := func(n int) int { return r.IntN(n) }
	text := func(room []byte) {
		event.SetText(room, []string{"", "a", "b\xff", "b?", "b\xfe", "b\n", `b\x0a`, "sh"}[few(8)])
		if few(8) == 0 {
			room[len(room)-1] = 'x' // behind the NUL
		}
	}
	e := event.Enriched{Event: event.Event{
		Version: event.Version, Category: event.Categories()[few(4)], Operation: uint16(1 + few(4)), Priority: event.Priority(few(4)),
		Time: r.Uint64(), Duration: r.Uint64N(3), Bytes: r.Uint64N(100), Result: []int64{0, 1, 5000, -2, -13, -4000, -100000, 137, 300, 200, -200}[few(11)],
	}}
	if few(4) > 0 {
		e.Event.Process = event.Process{
			CgroupID: uint64(few(2)), Start: uint64(few(3)), TGID: uint32(few(3)), TID: uint32(few(3)), UID: uint32(few(2)), GID: uint32(few(2)),
		}
		text(e.Event.Process.Comm[:])
	}
	switch few(3) {
	case 0:
		*e.Event.Network() = event.Network{
			Family: []uint16{0, familyUnix, familyIPv4, familyIPv6, 16}[few(5)], Protocol: []uint16{0, protocolTCP, protocolUDP, 1}[few(4)],
			LocalPort: uint16(few(2)), RemotePort: uint16(few(2)), LocalAddress: [16]byte{127, 0, 0, byte(few(2))}, RemoteAddress: [16]byte{15: byte(few(2))},
		}
	case 1:
		text(e.Event.Payload[:])
	case 2:
		e.Event.Lifecycle().Signal = uint32(few(3))
	}
	if few(3) > 0 {
		c := &e.Context
		for _, room := range [][]byte{c.Executable[:], c.Parent[:], c.Ancestor[:], c.User[:]} {
			text(room)
		}
		c.ParentTGID, c.Known = uint32(few(2)), event.Known(few(64))
		c.ContainerID[0], c.PodUID[0] = byte(few(2)), byte(few(2))
	}
	return e
}

// attributesOf returns all attributes of a series, in one string.
func attributesOf(dimensions []dimension, s *bpf.Series) string {
	attributes := pcommon.NewMap()
	for i := range dimensions {
		dimensions[i].put(attributes, s)
	}
	text := ""
	for key, value := range attributes.All() {
		text += key + "=" + value.AsString() + "(" + value.Type().String() + ");"
	}
	return text
}

// TestSeriesAreAttributes: two events are of one series if and only if they have the same attributes, and events
// with the same raw key are of one series. Any choice of dimensions has to have it.
func TestSeriesAreAttributes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	all := dimensions()
	for range 200 {
		var chosen []dimension
		for _, d := range all {
			if r.IntN(6) == 0 {
				chosen = append(chosen, d)
			}
		}
		if v := (&view{dimensions: chosen}); v.has(dimensionOperation) && !v.has(dimensionCategory) {
			continue // is refused
		}
		raw := newRawKey(chosen)
		bySeries, byAttributes, byRaw := map[bpf.Series]string{}, map[string]bpf.Series{}, map[[maxRawKey]uint64]bpf.Series{}
		for range 2000 {
			e := anyEvent(r)
			var series bpf.Series
			for i := range chosen {
				chosen[i].take(&e, &series)
			}
			text := attributesOf(chosen, &series)
			if other, ok := bySeries[series]; ok {
				require.Equal(t, other, text)
			}
			if other, ok := byAttributes[text]; ok {
				require.Equal(t, other, series, text)
			}
			var key [maxRawKey]uint64
			raw.take(&e.Event, &e.Context, &key)
			if other, ok := byRaw[key]; ok {
				require.Equal(t, other, series, text)
			}
			bySeries[series], byAttributes[text], byRaw[key] = text, series, series
		}
	}
}

// It is asked of every failed event.
func TestErrorOfAllocatesNothing(t *testing.T) {
	for _, e := range []event.Event{
		example(event.CategoryNetwork, event.NetworkConnect, "a", func(e *event.Event) { e.Result = -111 }),
		example(event.CategoryNetwork, event.NetworkConnect, "a", func(e *event.Event) { e.Result = -200 }),
		example(event.CategoryProcess, event.ProcessExit, "a", func(e *event.Event) { e.Result = 200 }),
	} {
		assert.Zero(t, testing.AllocsPerRun(100, func() { errorOf(&e) }), e.ErrorType())
	}
}

func TestDimensions(t *testing.T) {
	network := example(event.CategoryNetwork, event.NetworkConnect, "curl", func(e *event.Event) {
		e.Result = -111
		*e.Network() = event.Network{Family: familyIPv4, Protocol: protocolTCP, LocalPort: 40000, RemotePort: 443,
			LocalAddress: [16]byte{127, 0, 0, 1}, RemoteAddress: [16]byte{192, 0, 2, 7}}
	})
	unknown := example(event.CategoryNetwork, event.NetworkConnect, "curl", func(e *event.Event) {
		*e.Network() = event.Network{Family: familyIPv4, Protocol: protocolTCP}
	})
	unknown6 := example(event.CategoryNetwork, event.NetworkConnect, "curl", func(e *event.Event) {
		*e.Network() = event.Network{Family: familyIPv6, Protocol: protocolTCP}
	})
	named := func(e event.Event, name string) event.Event {
		e.SetName(name)
		return e
	}
	exec := func(path string) event.Event {
		return named(example(event.CategoryProcess, event.ProcessExec, "thread"), path)
	}
	const longPath = "/opt/a/directory/with/a/long/name/of/its/own/bin/a-program-with-a-long-name"
	known := event.Context{Known: event.KnownExecutable}
	require.True(t, event.SetText(known.Executable[:], "a-program-with-a-long-name"))
	for _, test := range []struct {
		dimension string
		event     event.Event
		context   event.Context
		want      string
	}{
		{"kernel.event.category", network, event.Context{}, "kernel.event.category=network(Str);"},
		{"kernel.event.operation", network, event.Context{}, "kernel.event.operation=unset_1(Str);"}, // refused without the category
		{"kernel.event.priority", network, event.Context{}, "kernel.event.priority=medium(Str);"},
		{"error.type", network, event.Context{}, "error.type=ECONNREFUSED(Str);"},
		{"error.type", event.Event{Result: 17}, event.Context{}, ""},
		{"error.type", event.Event{Category: event.CategoryProcess, Operation: event.ProcessExit, Result: 137}, event.Context{}, "error.type=137(Str);"},
		{"error.type", event.Event{Result: -4000}, event.Context{}, "error.type=4000(Str);"},
		{"error.type", event.Event{Result: -100000}, event.Context{}, ""},
		{"process.executable.name", network, event.Context{}, "process.executable.name=curl(Str);"},
		{"process.executable.name", network, event.Context{Known: event.KnownExecutable, Executable: [24]byte{'x'}}, "process.executable.name=x(Str);"},
		{"process.pid", network, event.Context{}, "process.pid=1000(Int);"},
		{"process.pid", event.Event{}, event.Context{}, ""},
		{"process.parent_pid", network, event.Context{ParentTGID: 7}, "process.parent_pid=7(Int);"},
		{"process.executable.path", named(example(event.CategoryProcess, event.ProcessExec, ""), "/bin/sh"), event.Context{}, "process.executable.path=/bin/sh(Str);"},
		{"process.executable.path", network, event.Context{}, ""},
		{"process.exit.code", example(event.CategoryProcess, event.ProcessExit, ""), event.Context{}, "process.exit.code=0(Int);"},
		{"process.exit.code", network, event.Context{}, ""},
		{"kernel.process.exit.signal", example(event.CategoryProcess, event.ProcessExit, "", func(e *event.Event) { e.Lifecycle().Signal = 9 }), event.Context{}, "kernel.process.exit.signal=9(Int);"},
		{"kernel.process.parent.name", network, event.Context{Parent: [16]byte{'p'}}, "kernel.process.parent.name=p(Str);"},
		{"kernel.process.ancestor.name", network, event.Context{Ancestor: [16]byte{'q'}}, "kernel.process.ancestor.name=q(Str);"},
		{"kernel.process.cgroup.id", network, event.Context{}, "kernel.process.cgroup.id=4242(Int);"},
		{"kernel.process.group.id", network, event.Context{}, "kernel.process.group.id=34(Int);"},
		{"thread.id", network, event.Context{}, "thread.id=1001(Int);"},
		{"thread.name", network, event.Context{}, "thread.name=curl(Str);"},
		{"user.id", network, event.Context{}, "user.id=33(Str);"},
		{"user.name", network, event.Context{User: [16]byte{'u'}}, "user.name=u(Str);"},
		{"container.id", network, event.Context{ContainerID: [32]byte{0xab}}, "container.id=ab00000000000000000000000000000000000000000000000000000000000000(Str);"},
		{"k8s.pod.uid", network, event.Context{PodUID: [16]byte{0xab}}, "k8s.pod.uid=ab000000-0000-0000-0000-000000000000(Str);"},
		{"network.transport", network, event.Context{}, "network.transport=tcp(Str);"},
		{"network.type", network, event.Context{}, "network.type=ipv4(Str);"},
		{"network.local.address", network, event.Context{}, "network.local.address=127.0.0.1(Str);"},
		{"network.local.port", network, event.Context{}, "network.local.port=40000(Int);"},
		{"network.peer.address", network, event.Context{}, "network.peer.address=192.0.2.7(Str);"},
		{"network.peer.port", network, event.Context{}, "network.peer.port=443(Int);"},
		// What is not known of an address is left out.
		{"network.local.address", unknown, event.Context{}, ""},
		{"network.local.port", unknown, event.Context{}, ""},
		{"network.peer.address", unknown, event.Context{}, ""},
		{"network.peer.address", unknown6, event.Context{}, ""},
		{"network.peer.port", unknown, event.Context{}, ""},
		// Of a path that the probes had to cut no part is taken for the name of the executable.
		{dimensionExecutable, exec(longPath), event.Context{}, "process.executable.name=thread(Str);"},
		{dimensionExecutable, exec(longPath), known, "process.executable.name=a-program-with-a-long-n(Str);"},
		{"process.executable.path", exec(longPath), known, "process.executable.path=/opt/a/directory/with/a/long/name/of/it(Str);"},
		{"file.name", named(example(event.CategoryFilesystem, event.FilesystemWrite, ""), "log"), event.Context{}, "file.name=log(Str);"},
		{"file.name", named(example(event.CategoryFilesystem, event.FilesystemOpen, ""), "log"), event.Context{}, ""},
		{"file.path", named(example(event.CategoryFilesystem, event.FilesystemOpen, ""), "/log"), event.Context{}, "file.path=/log(Str);"},
	} {
		d, ok := dimensionByName(test.dimension)
		require.True(t, ok, test.dimension)
		enriched := event.Enriched{Event: test.event, Context: test.context}
		var series bpf.Series
		d.take(&enriched, &series)
		assert.Equal(t, test.want, attributesOf([]dimension{d}, &series))
	}
}

// TestSemanticConventions holds the names of attributes against the conventions that the schema URL names.
func TestSemanticConventions(t *testing.T) {
	assert.Equal(t, conventions.SchemaURL, schemaURL)
	defined := map[string]bool{}
	for _, key := range []string{
		string(conventions.ErrorTypeKey), string(conventions.ProcessExecutableNameKey), string(conventions.ProcessPIDKey), string(conventions.ProcessParentPIDKey),
		string(conventions.ProcessExecutablePathKey), string(conventions.ProcessExitCodeKey), string(conventions.ThreadIDKey), string(conventions.ThreadNameKey),
		string(conventions.UserIDKey), string(conventions.UserNameKey), string(conventions.ContainerIDKey), string(conventions.K8SPodUIDKey),
		string(conventions.NetworkTransportKey), string(conventions.NetworkTypeKey), string(conventions.NetworkLocalAddressKey), string(conventions.NetworkLocalPortKey),
		string(conventions.NetworkPeerAddressKey), string(conventions.NetworkPeerPortKey), string(conventions.FileNameKey), string(conventions.FilePathKey),
	} {
		defined[key] = true
	}
	for _, name := range dimensionNames() {
		assert.True(t, defined[name] || len(name) > 7 && name[:7] == "kernel.", "%s is neither in the conventions nor ours", name)
	}
}

// numbers gives out numbers of series.
func numbers() func() uint64 {
	var last uint64
	return func() uint64 {
		last++
		return last
	}
}

// newTestRegistry returns a registry of series by process, and what finds the series of a process of a cgroup.
func newTestRegistry(limit int) (*registry, func(cgroup uint64, pid int) bpf.Series) {
	d, _ := dimensionByName(dimensionPID)
	r := newRegistry(&view{number: 3, dimensions: []dimension{d}, limit: limit}, numbers())
	f := newFinders([]*registry{r})[0]
	return r, func(cgroup uint64, pid int) bpf.Series {
		e := event.Event{Process: event.Process{TGID: uint32(pid), CgroupID: cgroup}}
		entry := &r.entries[f.find(&e, &event.Context{}).series(0)]
		entry.last = r.intervalStart
		return entry.series
	}
}

func TestRegistryKeepsTheLimit(t *testing.T) {
	r, find := newTestRegistry(10)
	for range 3 {
		for pid := 1; pid <= 100_000; pid++ {
			series := find(1, pid)
			if pid < 9 {
				require.EqualValues(t, pid, series.PID)
			} else {
				require.Equal(t, r.overflow(), series, pid)
			}
		}
	}
	assert.EqualValues(t, 9, r.active.Load())
	assert.LessOrEqual(t, len(r.finder.cache.slots), r.finder.cache.words*minCacheSlots)
	assert.EqualValues(t, 7, find(2, 7).PID)
	assert.EqualValues(t, 200_000, find(2, 200_000).PID, "the last place is that of another cgroup")
	assert.Equal(t, r.overflow(), find(3, 200_001))
	assert.EqualValues(t, 10, r.active.Load())

	r.remove([]int32{r.index[find(1, 5)], r.index[find(2, 200_000)]})
	assert.EqualValues(t, 20, find(1, 20).PID, "there is room again")
	assert.Equal(t, r.overflow(), find(1, 5))
	assert.Len(t, r.entries, 10, "the place is used again")
	assert.Empty(t, r.excess())
	for pid := range 5 {
		r.adopt(uint64(1000+pid), bpf.Series{View: 3, Flags: bpf.SeriesProcess, PID: uint32(100 + pid)}, 1000)
	}
	assert.Len(t, r.excess(), 4)
	for _, i := range r.excess() {
		assert.Less(t, r.entries[i].series.PID, uint32(100), "those that were idle for longest go")
	}
	assert.Len(t, r.endInterval(2000, 1000), 9)
	given := map[uint64]bool{}
	for _, i := range r.index {
		given[r.entries[i].number] = true
	}
	assert.Len(t, given, 14, "no two series have one number")
	assert.Equal(t, map[uint64]int{1: 8, unknownCgroup: 5}, r.cgroups)
	find(2, 102)
	assert.Equal(t, map[uint64]int{1: 8, 2: 1, unknownCgroup: 4}, r.cgroups)
}

// TestKnownNumberOfSeries: where all series have a place, each has one.
func TestKnownNumberOfSeries(t *testing.T) {
	r, find := newTestRegistry(101)
	r.view.fits = true
	for pid := 1; pid <= 100; pid++ {
		require.EqualValues(t, pid, find(1, pid).PID)
	}
	views, err := newViews(createDefaultConfig().(*Config))
	require.NoError(t, err)
	for _, v := range views {
		assert.Equal(t, !v.has(dimensionExecutable), v.fits, v.name)
	}
}

// TestExpiryUnderPressure: who goes, and who stays, where there is no room for a series.
func TestExpiryUnderPressure(t *testing.T) {
	r, find := newTestRegistry(101) // 100 places: 88 for one cgroup, and 75 are kept
	end := func() (gone []uint32) {
		entries := r.endInterval(r.intervalStart+1000, 0)
		for _, i := range entries {
			gone = append(gone, r.entries[i].series.PID)
		}
		r.remove(entries)
		return gone
	}
	active := func(cgroup uint64, from, to int) {
		for pid := from; pid < to; pid++ {
			find(cgroup, pid)
		}
	}
	active(1, 1, 51)
	active(2, 1001, 1011)
	assert.Empty(t, end())
	active(1, 1, 51)
	active(1, 51, 81)
	assert.Equal(t, 90, r.used)
	assert.Empty(t, end())
	for range 5 {
		active(1, 1, 11)
		assert.Empty(t, end(), "nothing was refused, however idle others are")
	}
	assert.Equal(t, r.overflow(), find(1, 81))
	active(1, 1, 11)
	gone := end()
	assert.Len(t, gone, 90-75)
	for _, pid := range gone {
		assert.True(t, pid > 50 && pid < 81, "%d goes, and others were active for shorter", pid)
	}
	for pid := 1001; pid < 1011; pid++ {
		assert.EqualValues(t, pid, find(2, pid).PID, "a cgroup with few series keeps them")
	}
	assert.EqualValues(t, 81, find(1, 81).PID)
}

// TestReturningSeries: who was refused an interval ago is admitted before those that come for the first time.
func TestReturningSeries(t *testing.T) {
	r, find := newTestRegistry(2000)
	pid := 0
	flood := func() {
		for range 50_000 {
			pid++
			find(1, pid)
		}
	}
	flood()
	assert.Equal(t, 1777, r.used)
	const back = 10_000_000
	for i := range 20 {
		assert.Equal(t, r.overflow(), find(1, back+i))
	}
	for i := range 20 {
		assert.Equal(t, r.overflow(), find(1, back+i), "in the same interval it does not return")
	}
	r.endInterval(1000, 0)
	flood()
	for i := range 20 {
		assert.EqualValues(t, back+i, find(1, back+i).PID)
	}
	assert.Less(t, r.used, 1777+20+60, "few others are taken for those that are back")
}

// TestRegistryUnderAnyLoad: whatever comes in whatever order, the counts are those of the entries, no limit is exceeded, and
// nothing that was active in an interval goes at its end.
func TestRegistryUnderAnyLoad(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 5))
		r, find := newTestRegistry(2 + random.IntN(60))
		for range 40 {
			active := map[bpf.Series]bool{}
			for range random.IntN(300) {
				active[find(uint64(random.IntN(4)), 1+random.IntN(200))] = true
			}
			require.LessOrEqual(t, len(r.index), r.view.limit)
			if random.IntN(5) == 0 { // as after a restart
				for i := range r.entries {
					if e := &r.entries[i]; e.number != 0 && !e.isOverflow() {
						r.count(e, -1)
						e.cgroup = unknownCgroup
						r.count(e, 1)
					}
				}
			}
			going := r.endInterval(r.intervalStart+1000, 0)
			for _, i := range going {
				require.False(t, active[r.entries[i].series])
				require.False(t, r.entries[i].isOverflow())
			}
			r.remove(going)
			used, cgroups := 0, map[uint64]int{}
			for series, i := range r.index {
				entry := &r.entries[i]
				require.Equal(t, series, entry.series)
				if !entry.isOverflow() {
					used++
					cgroups[entry.cgroup]++
				}
			}
			require.Equal(t, used, r.used)
			require.Equal(t, cgroups, r.cgroups)
			require.Len(t, r.entries, len(r.index)+len(r.free))
			require.EqualValues(t, len(r.index), r.active.Load())
		}
	}
}

// TestIdleForLong: having been active for long does not keep a series for ever where there is no room.
func TestIdleForLong(t *testing.T) {
	r, find := newTestRegistry(2)
	end := func() []int32 { return r.endInterval(r.intervalStart+1000, 0) }
	for range 2 * maxIdle {
		find(1, 1)
		require.Empty(t, end())
	}
	for range maxIdle {
		require.Equal(t, r.overflow(), find(1, 2))
		require.Empty(t, end())
	}
	find(1, 2)
	assert.Len(t, end(), 1)
}

func BenchmarkFindSeries(b *testing.B) {
	views, err := newViews(createDefaultConfig().(*Config))
	require.NoError(b, err)
	for _, n := range []int{1, 100, 1000} {
		b.Run("series="+strconv.Itoa(n), func(b *testing.B) {
			f := newFinders([]*registry{newRegistry(views[0], numbers())})[0]
			events := mixed(4096, n, 1)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				e := &events[i%4096]
				f.find(&e.Event, &e.Context)
				i++
			}
		})
	}
}
