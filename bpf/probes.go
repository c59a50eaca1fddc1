//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// ProbesConfig is what OpenProbes needs.
type ProbesConfig struct {
	RingSize    uint32 // bytes; a power of two and a multiple of the page size
	ElementSize int    // bytes of an event
	Settings    Settings
	Simulation  *Simulation // nil: none
	// Valid reports whether a record of ElementSize bytes is an event; nil: each is. What is none is counted and goes no further.
	Valid func(record []byte) bool

	withoutTaskStorage bool // for tests: what older kernels do
}

// Probes are the programs on tracepoints, the ring buffer that they fill, and the books about it. One
// goroutine at a time may use it; Simulate and what only reads the books is free of that until Close.
type Probes struct {
	config    ProbesConfig
	dir       *Directory
	spec      *ebpf.CollectionSpec
	state     *group           // settings, counters and what the programs remember: shared by all generations
	programs  *ebpf.Collection // with them the starts of system calls: each generation has its own
	simulator *simulator
	before    *probesKpSettings // those that Attach found; nil: it has changed nothing
	committed bool              // Attach has begun to remove the programs of before: there is no way back to them

	taskStorage bool // the start of a system call is kept in its task, else in a hash by thread

	mu       sync.Mutex  // guards rings and attached, for those that only look
	rings    []*Ring     // the last one is in use
	attached *attachment // nil: nothing is
	detached bool        // Detach was called
	damage   []error     // what of the ring buffers that were found can't be trusted
	aside    RingBooks   // the account of those that were left with a record that can't be
}

// The names of the groups in the component's directory.
const (
	probesState = "probes"
	probesRing  = "ring"
)

// OpenProbes opens the ring buffer and loads what the settings need. Nothing is attached yet; but probes that
// an earlier process left attached go on, with their settings as they were.
func OpenProbes(dir *Directory, config ProbesConfig) (_ *Probes, err error) {
	spec, err := loadProbes()
	if err != nil {
		return nil, err
	}
	p := &Probes{config: config, dir: dir, spec: spec}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Abandon())
			p.Close()
		}
	}()
	if err := p.checkTaskStorage(); err != nil {
		return nil, err
	}
	if err := p.openState(); err != nil {
		return nil, err
	}
	if err := p.openRings(); err != nil {
		return nil, err
	}
	if config.Simulation != nil {
		if p.simulator, err = openSimulator(dir, p.maps(), *config.Simulation); err != nil {
			return nil, err
		}
		if p.simulator.damage != nil {
			p.damage = append(p.damage, p.simulator.damage)
		}
	}
	return p, nil
}

// Adopted reports whether an earlier process left what is now open.
func (p *Probes) Adopted() bool { return p.state.adopted }

// checkTaskStorage finds out whether the kernel has task storage for tracing programs (5.12). There is no probe
// for programs on BTF tracepoints themselves; those on raw ones have the same helpers (bpf_tracing_func_proto in
// kernel/trace/bpf_trace.c).
func (p *Probes) checkTaskStorage() error {
	err := features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnTaskStorageGet)
	if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("look for task storage: %w", err)
	}
	p.taskStorage = err == nil && !p.config.withoutTaskStorage
	return nil
}

func (p *Probes) openState() (err error) {
	specs := map[string]*ebpf.MapSpec{}
	for _, name := range []string{probesMapCounters, probesMapMissed, probesMapOwners, probesMapEnded, probesMapDataSettings} {
		specs[name] = p.spec.Maps[name]
	}
	mmapable(specs[probesMapDataSettings])
	p.state, err = openGroup(p.dir.join(probesState), specs, nil)
	return err
}

// openRings opens the ring buffers of another size that an earlier process left, and the one to use now.
func (p *Probes) openRings() error {
	numbers, err := p.dir.numbered(probesRing)
	if err != nil {
		return err
	}
	next, replaced, open := 0, uint64(0), false // whether the last of them is open
	if len(numbers) > 0 {
		last := numbers[len(numbers)-1]
		next = last + 1
		if replaced, err = replacedBy(p.ringAt(last), p.spec); err != nil {
			return err
		}
		if replaced > uint64(last) {
			p.damage = append(p.damage, damaged(p.ringAt(last), probesMapRingBooks, fmt.Errorf("it has replaced those before %d", replaced)))
			replaced = 0
		}
	}
	for _, n := range numbers {
		at := p.ringAt(n)
		if uint64(n)+1 == replaced { // a process was killed before it could remove it; those before are damaged, and stay
			if err := at.remove(); err != nil {
				return err
			}
			continue
		}
		open = false
		switch err := p.adoptRing(n); {
		case errors.As(err, new(*DamageError)):
			p.damage = append(p.damage, err) // it stays as it is, and another one takes its place
		case err != nil:
			return err
		default:
			open = true
		}
	}
	if open && p.Ring().Capacity() == uint64(p.config.RingSize) {
		return nil
	}
	return p.addRing(next, p.config.RingSize)
}

func (p *Probes) ringAt(n int) place { return p.dir.join(fmt.Sprintf("%s-%d", probesRing, n)) }

func (p *Probes) adoptRing(n int) error {
	at := p.ringAt(n)
	events, err := at.loadMap(probesMapEvents)
	if errors.Is(err, fs.ErrNotExist) {
		return damaged(at, probesMapEvents, errors.New("its pin was removed, and what waited in it is gone"))
	}
	if err != nil {
		return shapeError(at, probesMapEvents, err)
	}
	size := events.MaxEntries()
	_ = events.Close()
	return p.addRing(n, size)
}

// Damage returns what of the ring buffers and the simulation that an earlier process left can't be trusted, and was left out or
// mended.
func (p *Probes) Damage() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.damage)
}

func (p *Probes) addRing(n int, size uint32) error {
	ring, err := openRing(p.ringAt(n), ringSpecs(p.spec, size), p.config.ElementSize)
	if err != nil {
		return err
	}
	ring.number, ring.valid = n, p.config.Valid
	if ring.mended != nil {
		p.damage = append(p.damage, ring.mended)
	}
	p.rings = append(p.rings, ring)
	return nil
}

// Ring returns the ring buffer in use.
func (p *Probes) Ring() *Ring {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rings[len(p.rings)-1]
}

// OlderRing returns the oldest ring buffer of another size from before, nil if there is none. It is to be
// drained first, once Attach has returned, and then given up with DropOlderRing.
func (p *Probes) OlderRing() *Ring {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rings) == 1 {
		return nil
	}
	return p.rings[0]
}

// DropOlderRing removes the oldest ring buffer, in which Read finds nothing more. Its account goes on in that of the one in use. One
// that is not drained, as what comes next is no record, is left pinned, and the DamageError returned: the next one can be drained all the same.
func (p *Probes) DropOlderRing() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ring := p.rings[0]
	defer ring.Close()
	p.rings = p.rings[1:]
	damage := ring.damage
	if left := ring.Depth(); damage == nil && left > 0 {
		damage = damaged(ring.group.place, probesMapEvents, fmt.Errorf("%d bytes begin with a record that no program fills in any more", left))
	}
	if damage != nil {
		p.damage = append(p.damage, damage)
		p.aside.add(ring.left())
		p.aside.add(ring.Books())
		return damage
	}
	p.rings[len(p.rings)-1].inherit(ring)
	return ring.group.remove()
}

// maps returns the maps that programs share.
func (p *Probes) maps() map[string]*ebpf.Map {
	maps := map[string]*ebpf.Map{}
	for name, m := range p.state.maps {
		maps[name] = m
	}
	for name, m := range p.Ring().group.maps {
		maps[name] = m
	}
	return maps
}

// Attach puts the settings into force. Probes that an earlier process left attached go on without a gap if they are
// the same programs with the same settings; others are replaced, in one step. When it returns no program that fills an
// older ring buffer is running.
func (p *Probes) Attach() error {
	settings, err := p.config.Settings.kernel()
	if err != nil {
		return err
	}
	settings.WakeupBytes = p.Ring().wakeupMark()
	var current probesKpSettings
	if err := p.state.maps[probesMapDataSettings].Lookup(uint32(0), &current); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	next, err := nextGeneration(p.dir, current.Generation)
	if err != nil {
		return err
	}
	if err := p.loadPrograms(next); err != nil {
		return err
	}
	if err := p.findSelf(settings); err != nil {
		return err
	}
	if err := p.forgetOwners(current.Generation); err != nil {
		return err
	}
	p.before = &current
	probes := maps.Clone(p.programs.Programs)
	delete(probes, probesProgFindSelf)
	// Programs of before write to the ring buffer of before. And under other settings they may have noted the start of a
	// call whose end they were not to look at, which must not be taken for that of a later one.
	goOn := p.OlderRing() == nil && p.Ring().group.adopted && settings.Filter == current.Filter && settings.Rule == current.Rule
	attached, err := attach(p.dir, probes, current.Generation, next, goOn)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.attached = attached
	p.mu.Unlock()
	settings.Generation = attached.generation
	if err := p.state.maps[probesMapDataSettings].Put(uint32(0), settings); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	p.committed = len(attached.earlier) > 0
	if err := attached.dropEarlier(); err != nil {
		return err
	}
	waitForPrograms()
	if p.config.Simulation == nil {
		return forgetSimulation(p.dir)
	}
	return nil
}

// Abandon undoes OpenProbes and Attach, for a start that fails: what this process has attached is detached, what it has pinned
// is removed, and what an earlier process left attached goes on as before. What holds events or counts them stays. Where the
// programs of before are being removed already, those that have taken their place go on instead.
func (p *Probes) Abandon() error {
	if p.committed {
		return nil
	}
	var err error
	if p.before != nil && p.attached != nil {
		if err = p.state.maps[probesMapDataSettings].Put(uint32(0), p.before); err != nil {
			err = fmt.Errorf("write settings: %w", err)
		}
		if !p.attached.adopted {
			err = errors.Join(err, p.attached.detach())
		}
		waitForPrograms()
	}
	return errors.Join(err, p.RemoveUnused())
}

// RemoveUnused removes what this process has pinned and no event has come to. The probes must be detached.
func (p *Probes) RemoveUnused() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	for _, ring := range p.rings {
		if ring.Depth() == 0 && ring.Books() == (RingBooks{}) && ring.left() == (RingBooks{}) {
			err = errors.Join(err, ring.group.abandon())
		}
	}
	if p.simulator != nil {
		err = errors.Join(err, p.simulator.removeIfUnused())
	}
	if p.state == nil {
		return err
	}
	counts, unknown := p.Counts()
	if unknown == nil && counts == ([categories]Counts{}) {
		err = errors.Join(err, p.state.abandon())
	}
	return errors.Join(err, unknown)
}

// loadPrograms loads the programs that the settings need, as members of a generation.
func (p *Probes) loadPrograms(generation uint32) error {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("read the kernel's types: %w", err)
	}
	spec := p.spec.Copy()
	wanted := append(p.config.Settings.programs(p.taskStorage, uringPrograms(kernel)), probesProgFindSelf)
	for name := range spec.Programs {
		if !slices.Contains(wanted, name) {
			delete(spec.Programs, name)
		}
	}
	if p.taskStorage {
		delete(spec.Maps, probesMapStartsByTid)
	} else {
		delete(spec.Maps, probesMapStarts)
	}
	spec.Maps[probesMapEvents].MaxEntries = uint32(p.Ring().Capacity())
	if err := spec.Variables[probesVarOwnGeneration].Set(generation); err != nil {
		return fmt.Errorf("set generation: %w", err)
	}
	p.programs, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: p.maps()})
	if err != nil {
		return fmt.Errorf("load probes: %w", err)
	}
	return nil
}

// findSelf asks the kernel who this process is: in a pid namespace its own idea of its pid is another.
func (p *Probes) findSelf(settings *probesKpSettings) error {
	if _, err := run(p.programs.Programs[probesProgFindSelf], 0); err != nil {
		return err
	}
	var self probesKpSelf
	if err := p.programs.Maps[probesMapDataSelf].Lookup(uint32(0), &self); err != nil {
		return fmt.Errorf("read self: %w", err)
	}
	settings.SelfTgid, settings.SelfStartNs = self.Tgid, self.StartNs
	return nil
}

// forgetOwners forgets whose the sockets are, unless a program that is attached sees them close: what was closed unseen
// has left its owner to the next socket at its address.
func (p *Probes) forgetOwners(attached uint32) error {
	seen, err := isAttached(p.dir, attached, probesProgInetSockSetState)
	if err != nil || seen {
		return err
	}
	owners := p.state.maps[probesMapOwners]
	return all(owners, func(socket uint64, _ probesKpOwner) error {
		if err := owners.Delete(socket); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget the owner of a socket: %w", err)
		}
		return nil
	})
}

// Detach stops the probes. When it returns none of them is running, so the ring buffer gets nothing more.
func (p *Probes) Detach() error {
	p.mu.Lock()
	p.detached = true
	p.mu.Unlock()
	var settings probesKpSettings
	at := p.state.maps[probesMapDataSettings]
	err := at.Lookup(uint32(0), &settings)
	if err == nil {
		settings.Generation++ // nobody's: the kernel may take a while to let go of a link
		err = at.Put(uint32(0), &settings)
	}
	if p.attached != nil {
		err = errors.Join(err, p.attached.detach())
	}
	waitForPrograms()
	if err != nil {
		return fmt.Errorf("detach probes: %w", err)
	}
	return nil
}

// waitForPrograms returns when every BPF program that was running has ended: they run in an RCU read-side
// section, and this membarrier command is synchronize_rcu (kernel/sched/membarrier.c).
func waitForPrograms() {
	const membarrierCmdGlobal = 1
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierCmdGlobal, 0, 0); errno != 0 {
		time.Sleep(10 * time.Millisecond) // refused with nohz_full; a program lasts microseconds
	}
}

// Retire forgets a simulation that has come to its end, so that the next start begins it anew. All else that is
// pinned stays: the books go on with the next process. The probes must be detached.
func (p *Probes) Retire() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.simulator == nil {
		return nil
	}
	return p.simulator.removeIfFinished()
}

// Counts is the account of a category at the ring buffer, over the life of the books.
type Counts struct {
	Produced uint64 // events that passed the filters
	Lost     uint64 // of these, the ones the ring buffer had no room for
	Untimed  uint64 // system calls whose start was not seen: produced without a duration
}

// Counts returns the accounts by category number; entry 0 is unused.
func (p *Probes) Counts() ([categories]Counts, error) {
	var total [categories]Counts
	for category := uint32(1); category < categories; category++ {
		var perCPU []probesKpCounts
		if err := p.state.maps[probesMapCounters].Lookup(category, &perCPU); err != nil {
			return total, fmt.Errorf("read counters: %w", err)
		}
		for _, counts := range perCPU {
			total[category].Produced += counts.Produced
			total[category].Lost += counts.Lost
			total[category].Untimed += counts.Untimed
		}
	}
	return total, nil
}

// Missed counts what the probes could not note; enum missed.
type Missed struct {
	Starts     uint64 // starts of system calls: their events have no duration
	Owners     uint64 // owners of sockets: their events name no process
	Compat     uint64 // system calls by the numbers of 32-bit programs or of x32, which are not decoded
	ProcessEnd uint64 // ends of processes: they may be reported twice
	Results    uint64 // results of io_submit(2): they are no events
	Requests   uint64 // results of io_uring: likewise
	Recursions uint64 // runs of a program that interrupted itself, which the kernel skips
}

// Missed returns the counts.
func (p *Probes) Missed() (Missed, error) {
	var total [6]uint64
	for cause := range total {
		var perCPU []uint64
		if err := p.state.maps[probesMapMissed].Lookup(uint32(cause), &perCPU); err != nil {
			return Missed{}, fmt.Errorf("read counters: %w", err)
		}
		for _, n := range perCPU {
			total[cause] += n
		}
	}
	missed := Missed{Starts: total[0], Owners: total[1], Compat: total[2], ProcessEnd: total[3], Results: total[4], Requests: total[5]}
	p.mu.Lock()
	attached := p.attached
	p.mu.Unlock()
	if attached != nil {
		var err error
		if missed.Recursions, err = attached.recursions(); err != nil {
			return Missed{}, err
		}
	}
	return missed, nil
}

// RingBooks returns the account of what left the ring buffers, those of another size from before among them.
func (p *Probes) RingBooks() RingBooks {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := p.aside
	for _, ring := range p.rings {
		total.add(ring.left())
		total.add(ring.Books())
	}
	return total
}

// RingUse returns the bytes that wait in the ring buffers, how many events that is, and the capacity in bytes.
func (p *Probes) RingUse() (used, events, capacity uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ring := range p.rings {
		used += ring.Depth()
		events += ring.Waiting()
		capacity += ring.Capacity()
	}
	return used, events, capacity
}

// Memory returns what the probes cost in kernel memory, in bytes.
func (p *Probes) Memory() uint64 {
	groups := []*group{p.state}
	if p.simulator != nil {
		groups = append(groups, p.simulator.group)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ring := range p.rings {
		groups = append(groups, ring.group)
	}
	var total uint64
	for _, g := range groups {
		for _, m := range g.maps {
			total += memoryOf(m)
		}
	}
	if p.programs != nil {
		total += memoryOf(p.programs.Maps[probesMapStarts], p.programs.Maps[probesMapStartsByTid], p.programs.Maps[probesMapInterruptions],
			p.programs.Maps[probesMapOperations], p.programs.Maps[probesMapCalls], p.programs.Maps[probesMapRequests])
	}
	return total
}

// Close lets go of everything. Pinned objects, attached probes among them, live on.
func (p *Probes) Close() {
	if p.attached != nil {
		p.attached.close()
	}
	if p.simulator != nil {
		p.simulator.close()
	}
	if p.programs != nil {
		p.programs.Close()
	}
	for _, ring := range p.rings {
		ring.Close()
	}
	if p.state != nil {
		p.state.Close()
	}
}
