//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/kernelpipe/kernelpipe/internal/boottime"
)

// ProcessTableConfig is the size of a process table.
type ProcessTableConfig struct {
	Processes int  // entries, of processes that live and that have ended; at least 1
	Cgroups   int  // likewise of cgroups; at least 1
	Arguments bool // keep the arguments of processes that are executed from now on
}

// ProcessTable is who every process of the machine is and was, kept by programs in the kernel while it happens.
// Entries outlive their processes: only when there is no room for a new one does the one go that ended first. What is
// pinned goes on when this process is gone. Any number of goroutines may use it until Close.
type ProcessTable struct {
	dir      *Directory
	config   ProcessTableConfig
	books    *group   // of all shapes: counters and state
	entries  *group   // of this shape
	earlier  []*group // of other shapes, to be moved
	programs *ebpf.Collection
	attached *attachment

	stateMemory, movesMemory memory
	moves                    []uint32

	mu        sync.Mutex // guards what is asked and answered
	asking    memory
	answering memory
	questions []processTableKpQuestion
	answers   []processTableKpAnswer
}

// programsPerProcess is for how many replaced programs there is room: those of processes that, one with another, execute two
// programs. The first that a process replaces is its parent's.
const programsPerProcess = 2

// The names of the groups in the table's directory, beside the links.
const (
	tableBooks   = "books"
	tableEntries = "entries"
)

// OpenProcessTable opens the table, attaches its programs, and puts in the processes that are running already. A table
// that an earlier process left is taken over: where its programs are still attached it lacks nothing that
// happened meanwhile. One of another size is moved, the processes that ended first left out where there is less room.
func OpenProcessTable(dir *Directory, config ProcessTableConfig) (_ *ProcessTable, err error) {
	spec, err := loadProcessTable()
	if err != nil {
		return nil, err
	}
	t := &ProcessTable{dir: dir, config: config}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Abandon())
			t.Close()
		}
	}()
	if err := t.openBooks(spec); err != nil {
		return nil, err
	}
	if err := t.openEntries(spec); err != nil {
		return nil, err
	}
	if err := t.attach(spec); err != nil {
		return nil, fmt.Errorf("process table: %w", err)
	}
	return t, nil
}

func (t *ProcessTable) openBooks(spec *ebpf.CollectionSpec) (err error) {
	mmapable(spec.Maps[processTableMapDataTable])
	t.books, err = openGroup(t.dir.join(tableBooks), specsOf(spec, processTableMapDataTable, processTableMapCounts, processTableMapMoves), nil)
	if err != nil {
		return err
	}
	if t.stateMemory, err = mapMemory(t.books.maps[processTableMapDataTable]); err != nil {
		return err
	}
	if t.movesMemory, err = mapMemory(t.books.maps[processTableMapMoves]); err != nil {
		return err
	}
	t.moves = asSlice[uint32](t.movesMemory)[:t.books.maps[processTableMapMoves].MaxEntries()*2]
	return nil
}

func specsOf(spec *ebpf.CollectionSpec, names ...string) map[string]*ebpf.MapSpec {
	specs := map[string]*ebpf.MapSpec{}
	for _, name := range names {
		specs[name] = spec.Maps[name].Copy()
	}
	return specs
}

// openEntries opens the entries, and those of other shapes that an earlier process left.
func (t *ProcessTable) openEntries(spec *ebpf.CollectionSpec) error {
	shape := map[string]uint32{
		processTableMapProcesses: uint32(t.config.Processes), processTableMapEnded: uint32(t.config.Processes), processTableMapArguments: 1,
		processTableMapPrograms: uint32(t.config.Processes) * programsPerProcess, processTableMapReplaced: uint32(t.config.Processes) * programsPerProcess,
		processTableMapCgroups: uint32(t.config.Cgroups), processTableMapRemoved: uint32(t.config.Cgroups),
	}
	if t.config.Arguments {
		shape[processTableMapArguments] = uint32(t.config.Processes)
	}
	specsFor := func(shape map[string]uint32) map[string]*ebpf.MapSpec {
		specs := map[string]*ebpf.MapSpec{}
		for name, entries := range shape {
			specs[name] = spec.Maps[name].Copy()
			specs[name].MaxEntries = entries
		}
		return specs
	}
	numbers, err := t.dir.numbered(tableEntries)
	if err != nil {
		return err
	}
	next := 0
	for i, n := range numbers {
		next = n + 1
		at := t.dir.join(fmt.Sprintf("%s-%d", tableEntries, n))
		was, err := pinnedSizes(at, shape)
		if err != nil {
			return err
		}
		group, err := openGroup(at, specsFor(was), nil)
		if err != nil {
			return err
		}
		if i == len(numbers)-1 && sameSizes(was, shape) {
			t.entries = group
		} else {
			t.earlier = append(t.earlier, group)
		}
	}
	if t.entries == nil {
		t.entries, err = openGroup(t.dir.join(fmt.Sprintf("%s-%d", tableEntries, next)), specsFor(shape), nil)
	}
	return err
}

func (t *ProcessTable) state() *processTableKpTableState {
	return as[processTableKpTableState](t.stateMemory)
}

// attach puts the programs into force, and brings the entries up to date where nobody has done so since.
func (t *ProcessTable) attach(spec *ebpf.CollectionSpec) error {
	state := t.state()
	next, err := nextGeneration(t.dir, state.Generation)
	if err != nil {
		return err
	}
	if err := t.load(spec, next); err != nil {
		return err
	}
	tracepoints := map[string]*ebpf.Program{}
	for _, name := range []string{
		processTableProgTableFork, processTableProgTableExec, processTableProgTableExit,
		processTableProgTableMkdir, processTableProgTableRmdir, processTableProgTableAttach,
	} {
		tracepoints[name] = t.programs.Programs[name]
	}
	numbers, err := t.dir.numbered(probesLinks)
	if err != nil {
		return err
	}
	// The programs of before did not stop; or they did, and a process lived to make good for that.
	kept := slices.Contains(numbers, int(state.Generation)) && state.SinceNs != 0
	// Programs of before write to the entries of before.
	if t.attached, err = attach(t.dir, tracepoints, state.Generation, next, t.entries.adopted && len(t.earlier) == 0); err != nil {
		return err
	}
	state.WithArguments = 0
	if t.config.Arguments {
		state.WithArguments = 1
	}
	adopted := state.Generation == t.attached.generation
	atomic.StoreUint32(&state.Generation, t.attached.generation)
	if err := t.attached.dropEarlier(); err != nil {
		return err
	}
	waitForPrograms()
	if adopted && kept {
		return nil
	}
	since := boottime.Now()
	if !kept {
		atomic.StoreUint64(&state.SinceNs, 0) // so that entries are renewed
		state.MissedFirstNs, state.MissedLastNs = 0, 0
	}
	if err := t.moveEarlier(); err != nil {
		return err
	}
	if err := t.countLiving(); err != nil {
		return err
	}
	if kept {
		return nil
	}
	if err := t.countCgroups(); err != nil {
		return err
	}
	atomic.StoreUint64(&state.SinceNs, since)
	return nil
}

func (t *ProcessTable) load(spec *ebpf.CollectionSpec, generation uint32) error {
	if err := spec.Variables[processTableVarOwnGeneration].Set(generation); err != nil {
		return fmt.Errorf("set generation: %w", err)
	}
	replacements := map[string]*ebpf.Map{}
	for _, group := range []*group{t.books, t.entries} {
		for name, m := range group.maps {
			replacements[name] = m
			spec.Maps[name].MaxEntries = m.MaxEntries()
		}
	}
	var err error
	if t.programs, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements}); err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	if t.asking, err = mapMemory(t.programs.Maps[processTableMapQuestions]); err != nil {
		return err
	}
	if t.answering, err = mapMemory(t.programs.Maps[processTableMapAnswers]); err != nil {
		return err
	}
	t.questions = asSlice[processTableKpQuestion](t.asking)
	t.answers = asSlice[processTableKpAnswer](t.answering)
	return nil
}

// iterate runs the program that looks at every process.
func (t *ProcessTable) iterate() error {
	iterator, err := link.AttachIter(link.IterOptions{Program: t.programs.Programs[processTableProgTableFill]})
	if err != nil {
		return fmt.Errorf("find running processes: %w", err)
	}
	defer func() { _ = iterator.Close() }()
	reader, err := iterator.Open()
	if err != nil {
		return fmt.Errorf("find running processes: %w", err)
	}
	defer func() { _ = reader.Close() }()
	if _, err := io.Copy(io.Discard, reader); err != nil {
		return fmt.Errorf("find running processes: %w", err)
	}
	return nil
}

// ProcessID tells a process from all others, also from those that have its pid before and after it.
type ProcessID struct {
	Start uint64 // ns, boot-time clock
	TGID  uint64 // its pid in the initial pid namespace
}

// ProgramID tells a program from all others: which of those of its process it is. A process begins with the number of its
// parent, whose program it runs, and each exec adds 1; after 65,535 comes 1.
type ProgramID struct {
	ProcessID
	ExecNumber uint16 // as events have it; 0: the one that the process runs, or ran last
}

// maxAsked is how many processes one program run looks up; KP_QUESTIONS.
const maxAsked = 64

// lookUpTries is how often an entry is looked at that changes just then: an exec takes it a microsecond.
const lookUpTries = 10

// LookUp shows the entries of the programs whose process the table has. A program that its process is about to execute is
// there as soon as it runs. An entry is good until visit returns.
func (t *ProcessTable) LookUp(ids []ProgramID, visit func(i int, entry *ProcessEntry)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for first := 0; first < len(ids); first += maxAsked {
		if err := t.lookUp(ids[first:min(first+maxAsked, len(ids))], func(i int, entry *ProcessEntry) { visit(first+i, entry) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *ProcessTable) lookUp(ids []ProgramID, visit func(int, *ProcessEntry)) error {
	var numbers [maxAsked]int
	for i, id := range ids {
		numbers[i] = i
		t.questions[i].Id = processTableKpProgramId{StartNs: id.Start, Tgid: uint32(id.TGID), ExecNumber: uint32(id.ExecNumber)}
	}
	for n, try := len(ids), 0; n > 0 && try < lookUpTries; try++ {
		if _, err := run(t.programs.Programs[processTableProgLookUp], uint64(n)); err != nil {
			return fmt.Errorf("process table: %w", err)
		}
		again := 0
		for i := range n {
			switch t.questions[i].Answered {
			case answeredYes:
				visit(numbers[i], (*ProcessEntry)(&t.answers[i]))
			case answeredChanging:
				numbers[again], t.questions[again].Id = numbers[i], t.questions[i].Id
				again++
			}
		}
		if n = again; n > 0 {
			runtime.Gosched()
		}
	}
	return nil
}

// enum kp_answered
const (
	answeredYes      = 1
	answeredChanging = 2
)

// Moves returns a number that changes whenever the process is moved to another container by cgroup v1, or out of one;
// moves of processes that share its slot may change it too. It is one load from memory.
func (t *ProcessTable) Moves(tgid uint32) uint32 {
	return atomic.LoadUint32(&t.moves[(tgid%moveSlots)*2]) // each in 8 bytes
}

const moveSlots = 1 << 16 // KP_MOVES

// AllMoves returns a number that changes whenever any process is moved: as long as it is the same, so is what Moves
// returns. A stale value is safe.
func (t *ProcessTable) AllMoves() uint64 { return atomic.LoadUint64(&t.state().Moves) }

// Had reports whether a process that the table has no more was put in: since the table is kept every process is, but for
// those that are counted as missed. Of one that started between the first and the last of these it is not known.
func (t *ProcessTable) Had(id ProcessID) bool {
	state := t.state()
	since, evicted := atomic.LoadUint64(&state.SinceNs), atomic.LoadUint64(&state.EvictedExitNs)
	first, last := atomic.LoadUint64(&state.MissedFirstNs), atomic.LoadUint64(&state.MissedLastNs)
	return since != 0 && evicted != 0 && id.Start >= since && (first == 0 || id.Start < first || id.Start > last)
}

// CgroupID tells a cgroup from all others: its id is unique within its hierarchy.
type CgroupID struct {
	ID        uint64
	Hierarchy uint64 // 0: that of cgroup v2
}

// Cgroup returns the path of a cgroup in its hierarchy, also of one that is removed; of a path of more than
// 255 bytes its end, and then cut is set. ok says whether the table has it.
func (t *ProcessTable) Cgroup(id CgroupID) (path string, cut, ok bool, err error) {
	key := processTableKpCgroupId{Id: id.ID, Hierarchy: id.Hierarchy}
	var entry processTableKpCgroupEntry
	switch err := t.entries.maps[processTableMapCgroups].Lookup(&key, &entry); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return "", false, false, nil
	case err != nil:
		return "", false, false, fmt.Errorf("cgroup %d: %w", id.ID, err)
	}
	if entry.Id != key || entry.Again != key { // it is being made, and nothing can be in it yet; or it has just gone
		return "", false, false, nil
	}
	return textOf(entry.Path[:]), entry.Cut != 0, true, nil
}

// TableCounts is the account of the table: what is in it is Started + Found - Evicted - LeftOut.
type TableCounts struct {
	Started           uint64        // processes put in as they were forked
	Found             uint64        // processes put in that were there before
	Evicted           uint64        // ended processes that made room
	LeftOut           uint64        // processes without room when the table was made smaller
	Full              uint64        // processes that could not be put in: all others lived
	Errors            uint64        // processes that could not be put in for another reason
	Skipped           uint64        // runs of a program that would have interrupted itself, which the kernel skips
	Kept              time.Duration // how long the last to be evicted had been kept since its end; 0: none was
	Cgroups, Programs KeptCounts
}

// Entries returns how many processes are in the table.
func (c *TableCounts) Entries() uint64 { return beyond(c.Started+c.Found, c.Evicted, c.LeftOut) }

// KeptCounts is the account of the cgroups, and of the programs that were replaced: what is in the table is Put - Evicted -
// LeftOut.
type KeptCounts struct {
	Put     uint64
	Evicted uint64 // cgroups that were removed, programs that were replaced, and that made room
	LeftOut uint64 // those without room when the table was made smaller
	Missed  uint64 // those that could not be put in
}

// Entries returns how many are in the table.
func (c *KeptCounts) Entries() uint64 { return beyond(c.Put, c.Evicted, c.LeftOut) }

// Counts returns the account over the life of the table.
func (t *ProcessTable) Counts() (TableCounts, error) {
	var total [11]uint64 // enum kp_table_count
	for what := range total {
		var perCPU []uint64
		if err := t.books.maps[processTableMapCounts].Lookup(uint32(what), &perCPU); err != nil {
			return TableCounts{}, fmt.Errorf("read counters of the process table: %w", err)
		}
		for _, n := range perCPU {
			total[what] += n
		}
	}
	skipped, err := t.attached.recursions()
	if err != nil {
		return TableCounts{}, err
	}
	state := t.state()
	return TableCounts{
		Started: total[0], Found: total[1], Evicted: total[2], LeftOut: atomic.LoadUint64(&state.LeftOut),
		Full: total[3], Errors: total[4], Skipped: skipped,
		Kept:     time.Duration(min(atomic.LoadUint64(&state.EvictedAfterNs), most)),
		Cgroups:  KeptCounts{Put: total[5], Evicted: total[6], LeftOut: atomic.LoadUint64(&state.CgroupsLeftOut), Missed: total[7]},
		Programs: KeptCounts{Put: total[8], Evicted: total[9], LeftOut: atomic.LoadUint64(&state.ProgramsLeftOut), Missed: total[10]},
	}, nil
}

// Memory returns what the table costs in kernel memory, in bytes.
func (t *ProcessTable) Memory() uint64 {
	var total uint64
	for _, m := range t.programs.Maps { // those of the groups among them
		total += memoryOf(m)
	}
	return total
}

// Detach stops the programs. The table keeps what it has; the next to open it finds the processes that live then.
func (t *ProcessTable) Detach() error {
	state := t.state()
	atomic.StoreUint64(&state.SinceNs, 0)  // what happens from now on is not in it
	atomic.AddUint32(&state.Generation, 1) // nobody's: the kernel may take a while to let go of a link
	err := t.attached.detach()
	waitForPrograms()
	if err != nil {
		return fmt.Errorf("detach the process table: %w", err)
	}
	return nil
}

// Abandon undoes OpenProcessTable, for a start that fails: what this process has attached is detached, what it has pinned is
// removed. A table that an earlier process left goes on.
func (t *ProcessTable) Abandon() error {
	var err error
	if t.attached != nil && !t.attached.adopted {
		err = t.Detach()
	}
	for _, group := range []*group{t.entries, t.books} {
		if group != nil {
			err = errors.Join(err, group.abandon())
		}
	}
	return err
}

// Close lets go of everything. What is pinned lives on, the programs among it.
func (t *ProcessTable) Close() {
	if t.attached != nil {
		t.attached.close()
	}
	t.asking.unmap()
	t.answering.unmap()
	if t.programs != nil {
		t.programs.Close()
	}
	t.movesMemory.unmap()
	t.stateMemory.unmap()
	for _, group := range append(t.earlier, t.entries, t.books) {
		if group != nil {
			group.Close()
		}
	}
}
