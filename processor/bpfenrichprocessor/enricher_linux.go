package bpfenrichprocessor

import (
	"errors"
	"time"
	"unsafe"

	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/clock"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/users"
)

// enricher is the event path: the work on one event. One goroutine at a time uses it, so its caches need no
// locks; what the resolver's workers find comes through a channel.
type enricher struct {
	resolver  *resolver
	table     processTable // nil: there is none
	ancestors *ancestors   // nil: none is chosen
	timeout   time.Duration

	processes *clock.Cache[identity, entry]
	cgroups   *clock.Cache[cgroupKey, group]
	names     *users.Table // of this batch
	version   uint32       // of names
	counts    counts

	asked map[job]struct{} // and not answered yet

	other  entry      // what an event older than its process's program gets
	asking []identity // of the process table
	askers []*entry   // the entries of asking

	recent [recently]struct { // by the lower bits of the pid: what the cache would answer, without asking it
		id    identity
		entry *entry
	}

	batch     uint64 // the number of the batch at hand
	last      int    // its last event
	ahead     bool   // all that it needs has been asked for
	consulted bool   // the process table has been asked about all of it
	waiting   bool   // the timer runs
	stalled   bool   // a batch has used up its time, and nothing has been answered since
	timer     *time.Timer
}

// recently is how many processes are found without the cache, if their pids allow it.
const recently = 1 << 12

// newEnricher returns an enricher; table is nil where there is none.
func newEnricher(config *Config, resolver *resolver, table processTable) *enricher {
	e := &enricher{
		resolver: resolver, table: table, ancestors: newAncestors(config, table), timeout: config.LookupTimeout, timer: time.NewTimer(0),
		processes: clock.New[identity, entry](config.Cache.Processes), cgroups: clock.New[cgroupKey, group](config.Cache.Cgroups),
		asked: map[job]struct{}{},
	}
	e.timer.Stop()
	return e
}

// prepare is a stage.Prepare: a new batch has time to wait again, as long as lookups get done at all.
func (e *enricher) prepare(batch event.Batch) error {
	e.batch++
	e.last = batch.Len() - 1
	e.ahead, e.consulted, e.waiting = false, false, false
	e.timer.Stop()
	if e.takeResults() > 0 || len(e.asked) == 0 {
		e.stalled = false
	}
	if directory := e.resolver.users; directory != nil && directory.Table() != e.names {
		e.names = directory.Table()
		e.version++
	}
	return nil
}

// work is a stage.Work: it writes the event with its context to out.
func (e *enricher) work(batch event.Batch, i int, out []byte) bool {
	enriched := (*event.Enriched)(unsafe.Pointer(unsafe.SliceData(out[:event.EnrichedSize]))) // the stage aligns it
	entry := e.entry(batch, i)
	if batch.Enriched() {
		copy(out, batch.Data[i*batch.Size:])
		fill(&enriched.Context, &entry.context)
	} else {
		enriched.Event = *batch.At(i)
		enriched.Context = entry.context
	}
	if entry.incomplete != [kinds]reason{} {
		e.counts.incompleteBy(entry.incomplete)
	}
	if i == e.last {
		e.counts.publish(e)
	}
	return true
}

// entry returns the entry of the event's process, with the context that this event is to have.
func (e *enricher) entry(batch event.Batch, i int) *entry {
	in := batch.At(i)
	slot := &e.recent[in.Process.TGID%recently]
	if id := identityOf(in); id != slot.id || slot.entry == nil {
		slot.id, slot.entry = id, e.processes.Get(id)
	}
	if slot.entry != nil {
		e.counts.hits[kindProcess]++
		if slot.entry.serves(in, e.version) && e.upToDate(slot.entry, in) {
			return slot.entry
		}
	}
	slot.entry = e.resolve(batch, i)
	if in.Time < slot.entry.since && slot.entry.asOf(in, e.group(in), &e.other) {
		return &e.other
	}
	return slot.entry
}

// upToDate reports whether the process is still what the table had of it. What a program is never changes, but an event
// without a number is of any.
func (e *enricher) upToDate(process *entry, in *event.Event) bool {
	if in.ExecNumber == 0 && process.state != nobody && process.consulted != e.batch {
		return false
	}
	if !process.tabled {
		return true
	}
	now := e.table.allMoves() // in one place for all processes, so that it is at hand
	if process.checked == now {
		return true
	}
	if process.moves != e.table.moves(in.Process.TGID) {
		return false
	}
	process.checked = now
	return true
}

// resolve is entry for what the cache can't answer at once.
func (e *enricher) resolve(batch event.Batch, i int) *entry {
	in := batch.At(i)
	process := e.process(in)
	if e.table != nil {
		e.consult(batch, i, process)
	}
	group := e.group(in)
	if group != nil && group.state != unasked {
		e.counts.hits[kindCgroup]++
	}
	if in.ExecNumber == 0 && process.state == found && !process.tabled && process.batch != e.batch {
		process.state = unasked
	}
	if isExec(in) && process.state != found {
		process.executes(in)
	}
	if e.ask(in, process, group) {
		e.askAhead(batch, i+1)
	}
	process, group = e.wait(in, process, group)
	if process.state == gone && e.table != nil {
		process.evicted = e.table.had(identityOf(in))
	}
	process.compose(in, group, e.names, e.version)
	e.countUser(process)
	return process
}

// consult asks the process table about the event's process if it has to, and then also about those of the events that
// follow, once a batch: they are answered together.
func (e *enricher) consult(batch event.Batch, i int, process *entry) {
	if process.state == nobody || process.state.settled() && e.upToDate(process, batch.At(i)) {
		return
	}
	e.asking, e.askers = append(e.asking[:0], identityOf(batch.At(i))), append(e.askers[:0], process)
	for next := i + 1; next <= e.last && !e.consulted; next++ {
		if in := batch.At(next); !e.processes.Contains(identityOf(in)) {
			if process := e.process(in); process.state != nobody {
				e.asking, e.askers = append(e.asking, identityOf(in)), append(e.askers, process)
			}
		}
	}
	e.consulted = true
	e.askTable()
}

// askTable asks the process table about asking for askers.
func (e *enricher) askTable() {
	moves := make([]uint32, len(e.asking))
	for i, id := range e.asking {
		e.askers[i].consulted = e.batch
		moves[i] = e.table.moves(id.tgid)
	}
	var records []tabled
	err := e.table.lookUp(e.asking, func(i int, r *record) {
		records = append(records, tabled{e.askers[i], e.asking[i], moves[i], *r})
	})
	if err != nil {
		e.resolver.logger.Error("the process table does not answer", zap.Error(err))
	}
	for i := range records { // it can be asked again from here on
		e.enter(&records[i])
	}
}

// tabled is an answer of the process table.
type tabled struct {
	entry  *entry
	id     identity
	moves  uint32
	record record
}

func (e *enricher) enter(answer *tabled) {
	r := &answer.record
	stays := make([]stay, len(r.places))
	for i, place := range r.places {
		stays[i].since = place.since
		if place.key != (cgroupKey{}) {
			stays[i].container = e.groupOf(place.key).container
		}
	}
	answer.entry.tabulate(r, answer.id, answer.moves, stays)
	if e.ancestors != nil {
		name, known, err := e.ancestors.of(r)
		if err != nil {
			e.resolver.logger.Error("the process table does not answer", zap.Error(err))
		}
		answer.entry.setAncestor(name, known)
	}
}

// process returns the entry of the event's process, a new one if need be.
func (e *enricher) process(in *event.Event) *entry {
	id := identityOf(in)
	if known := e.processes.Get(id); known != nil {
		return known
	}
	process := e.addProcess(id)
	if in.Process.TGID == 0 || in.Process.Start == 0 || in.Flags&event.FlagSimulated != 0 {
		process.state = nobody
	}
	return process
}

func (e *enricher) addProcess(id identity) *entry {
	e.counts.misses[kindProcess]++
	process, evicted := e.processes.Add(id)
	if evicted {
		e.counts.evictions[kindProcess]++
	}
	return process
}

// group returns what is remembered of the event's cgroup, something new if need be; nil where there is none.
func (e *enricher) group(in *event.Event) *group {
	id := in.Process.CgroupID
	if id == 0 || e.resolver.cgroups == nil && e.table == nil {
		return nil
	}
	return e.groupOf(cgroupKey{id: id})
}

func (e *enricher) groupOf(key cgroupKey) *group {
	if known := e.cgroups.Get(key); known != nil {
		return known
	}
	return e.addGroup(key)
}

// addGroup asks the table at once. Who else is to be asked is slower.
func (e *enricher) addGroup(key cgroupKey) *group {
	e.counts.misses[kindCgroup]++
	group, evicted := e.cgroups.Add(key)
	if evicted {
		e.counts.evictions[kindCgroup]++
	}
	if e.table == nil {
		return group
	}
	container, ok, err := e.table.cgroup(key)
	if err != nil {
		e.resolver.logger.Error("the process table does not answer", zap.Error(err))
	}
	switch {
	case ok:
		group.container, group.state = container, found
	case e.resolver.cgroups == nil || key.hierarchy != 0:
		group.state = gone
	}
	return group
}

// ask has looked up what is not known, once a batch, and reports whether there was something to ask.
func (e *enricher) ask(in *event.Event, process *entry, group *group) (asking bool) {
	if process.state == unasked && process.batch != e.batch {
		process.batch = e.batch
		asking = e.askFor(job{process: identityOf(in)})
	}
	if group != nil && group.state == unasked && group.batch != e.batch {
		group.batch = e.batch
		asking = e.askFor(job{cgroup: in.Process.CgroupID}) || asking
	}
	return asking
}

func (e *enricher) askFor(job job) bool {
	if _, ok := e.asked[job]; ok || len(e.asked) == maxOutstanding {
		return ok
	}
	e.asked[job] = struct{}{}
	e.resolver.jobs <- job // has room
	return true
}

// askAhead asks for what the events from number first on will need, once a batch, so that the workers have
// something to do while the event path waits.
func (e *enricher) askAhead(batch event.Batch, first int) {
	if e.ahead {
		return
	}
	e.ahead = true
	for i := first; i <= e.last && len(e.asked) < maxOutstanding; i++ {
		if in := batch.At(i); !e.processes.Contains(identityOf(in)) {
			e.ask(in, e.process(in), e.group(in))
		}
	}
}

// wait waits until what has been asked about the event is answered, or the batch's time is up. It returns process
// and group as they are then: in a small cache they may be others.
func (e *enricher) wait(in *event.Event, process *entry, group *group) (*entry, *group) {
	aboutProcess, aboutCgroup := job{process: identityOf(in)}, job{cgroup: in.Process.CgroupID}
	for !e.stalled && (e.isAsked(aboutProcess) || e.isAsked(aboutCgroup)) {
		if !e.waiting {
			e.waiting = true
			e.timer.Reset(e.timeout)
		}
		select {
		case result := <-e.resolver.results:
			switch result.job {
			case aboutProcess:
				process = e.takeProcess(&result)
			case aboutCgroup:
				group = e.takeCgroup(&result)
			default:
				e.take(&result)
			}
		case <-e.timer.C:
			e.stalled = true
		}
	}
	return process, group
}

func (e *enricher) isAsked(job job) bool {
	_, ok := e.asked[job]
	return ok
}

// takeResults takes the answers that are there, and returns their number.
func (e *enricher) takeResults() int {
	for n := 0; ; n++ {
		select {
		case result := <-e.resolver.results:
			e.take(&result)
		default:
			return n
		}
	}
}

func (e *enricher) take(result *result) {
	if result.process == (identity{}) {
		e.takeCgroup(result)
	} else {
		e.takeProcess(result)
	}
}

func (e *enricher) takeProcess(result *result) *entry {
	delete(e.asked, result.job)
	process := e.processes.Get(result.process)
	if process == nil {
		process = e.addProcess(result.process)
	}
	process.settled = false // it has to be composed
	if e.table != nil {
		// A program is in the table before its process can do anything else. So what the table still lacks the process still
		// runs, or nobody ever saw it; of what it has by now, /proc may tell of a later one.
		e.asking, e.askers = append(e.asking[:0], result.process), append(e.askers[:0], process)
		if e.askTable(); process.tabled {
			return process
		}
	}
	switch {
	case result.err == nil:
		process.learn(&result.facts)
	case errors.Is(result.err, errNotFound):
		process.missed()
	default: // asked again with the next batch
		process.state = unasked
	}
	return process
}

func (e *enricher) takeCgroup(result *result) *group {
	delete(e.asked, result.job)
	group := e.groupOf(cgroupKey{id: result.cgroup})
	switch {
	case result.err == nil:
		group.container, group.state = result.container, found
	case errors.Is(result.err, errNotFound):
		group.state = gone
	case errors.Is(result.err, errDenied):
		group.state = refused
	default:
		group.state = unasked
	}
	return group
}

func (e *enricher) countUser(process *entry) {
	switch {
	case process.context.Known&event.KnownUser != 0:
		e.counts.hits[kindUser]++
	case process.incomplete[kindUser] != complete:
		e.counts.misses[kindUser]++
	}
}
