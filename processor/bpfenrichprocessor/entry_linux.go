package bpfenrichprocessor

import (
	"strings"
	"unsafe"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/container"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/users"
)

// kind is what is looked up.
type kind uint8

const (
	kindProcess kind = iota
	kindCgroup
	kindUser
	kindAncestor
	kinds
)

// reason says why something is missing.
type reason uint8

const (
	complete reason = iota
	notFound
	timedOut
	denied
	unknown // the event names no process
	evicted // it was known, and made room for others
	reasons
)

// inEvents are the words that events have for the reasons.
var inEvents = [reasons]event.Missing{
	complete: event.MissingNothing, notFound: event.MissingNotFound, timedOut: event.MissingTimeout, denied: event.MissingDenied,
	unknown: event.MissingUnknown, evicted: event.MissingEvicted,
}

// state is how far a lookup has come.
type state uint8

const (
	unasked state = iota // or not answered
	found
	gone    // there is nothing to be found
	refused // this process may not know
	nobody  // of a process: the events name none that can be looked up
)

func (s state) settled() bool { return s >= found }

// entry is what is remembered of a program of a process: the context that its events get. What serves looks at lies together.
type entry struct {
	context    event.Context
	cgroup     uint64 // id
	since      uint64 // tabled: boot-time ns, from when on the context holds; asOf knows what was before
	checked    uint64 // tabled: the number of all moves when that of its own was looked at last
	uid        uint32
	users      uint32 // the version of the users
	moves      uint32 // tabled: the table's number before it was looked up
	state      state
	settled    bool // all of it, so that the context is final as long as what it was made for does not change
	tabled     bool // it is from the process table
	forgotten  bool // tabled: the table has the program no more
	nameless   bool // it has no executable, or one without a name
	denied     bool // the executable may not be seen
	evicted    bool // the process table had it
	lineBroken bool // the chosen ancestor can't be found
	incomplete [kinds]reason
	batch      uint64             // that it was last asked about for
	consulted  uint64             // the batch that the process table was last asked for
	executed   uint64             // tabled: boot-time ns, when the process began to run the program that it runs
	container  container.Identity // from the process
	stays      []stay             // tabled, by cgroup v1, the latest first; nil: it was never moved
}

// stay is the time from since on that a process was in a container, or in none.
type stay struct {
	since     uint64 // boot-time ns
	container container.Identity
}

// What the cache takes for an entry beside it: key, map and ring.
const entryOverhead = 80

const (
	processMemory = int64(unsafe.Sizeof(entry{})) + entryOverhead
	cgroupMemory  = int64(unsafe.Sizeof(group{})) + entryOverhead
)

// serves reports whether the context is right for the event as it is.
func (n *entry) serves(e *event.Event, users uint32) bool {
	return n.settled && e.Time >= n.since && n.uid == e.Process.UID && n.cgroup == e.Process.CgroupID && n.users == users
}

func isExec(e *event.Event) bool {
	return e.Category == event.CategoryProcess && e.Operation == event.ProcessExec
}

// executes notes what an exec event says. /proc knows better (it has the interpreter of a script, and the target
// of a symbolic link), but it may be too late for it.
func (n *entry) executes(e *event.Event) {
	n.setExecutable("")
	if name := e.Name(); name != "" && e.Flags&(event.FlagNameCut|event.FlagNameUnreadable|event.FlagSimulated) == 0 {
		n.setExecutable(name[strings.LastIndexByte(name, '/')+1:])
	}
}

func (n *entry) setExecutable(name string) {
	n.set(event.KnownExecutable, n.context.Executable[:], name)
}

// set makes text one of the context's strings; an empty one is not known.
func (n *entry) set(part event.Known, room []byte, text string) {
	n.context.Known &^= part
	n.context.Cut &^= part
	if event.SetText(room, text) {
		n.context.Cut |= part
	}
	if text != "" {
		n.context.Known |= part
	}
}

// learn takes over the facts of a lookup.
func (n *entry) learn(facts *facts) {
	n.state = found
	n.nameless, n.denied = facts.nameless, facts.denied
	n.container = facts.container
	n.setExecutable(facts.executable)
	n.set(event.KnownParent, n.context.Parent[:], facts.parent)
	n.context.ParentTGID = facts.parentTGID
}

// tabulate takes over what the process table has. Of an event without a number it is not known which program it is of: it gets
// the one that the process runs, unless that began later.
func (n *entry) tabulate(r *record, id identity, moves uint32, stays []stay) {
	n.learn(&r.facts)
	n.tabled, n.settled = true, false
	n.forgotten, n.moves = r.forgotten, moves
	n.container, n.stays, n.since = stays[0].container, nil, stays[0].since
	if len(stays) > 1 || n.since > 0 {
		n.stays = stays
	}
	if n.executed = 0; id.exec == 0 {
		n.executed = r.executed
		n.since = max(n.since, r.executed)
	}
}

// setAncestor notes what was found of the chosen ancestor.
func (n *entry) setAncestor(name string, known bool) {
	n.set(event.KnownAncestor, n.context.Ancestor[:], name)
	n.lineBroken = !known
}

// asOf makes other the entry as it was at the time of an event from before the process was moved to where it is. It reports
// whether there is a difference.
func (n *entry) asOf(e *event.Event, group *group, other *entry) bool {
	if e.Time >= n.since {
		return false
	}
	*other = *n
	if e.Time < n.executed {
		other.setExecutable("")
		other.incomplete[kindProcess] = notFound
	}
	if len(n.stays) > 0 {
		other.container = container.Identity{}
		known := false
		for i := range n.stays {
			if known = e.Time >= n.stays[i].since; known {
				other.container = n.stays[i].container
				break
			}
		}
		other.composeContainer(group)
		if !known {
			other.incomplete[kindCgroup] = evicted
		}
	}
	other.setReason()
	return true
}

// missed takes note that a lookup found nothing. What was known before stays: it was true.
func (n *entry) missed() { n.state = gone }

// compose makes the context that the event gets.
func (n *entry) compose(e *event.Event, group *group, names *users.Table, version uint32) {
	n.uid, n.cgroup, n.users = e.Process.UID, e.Process.CgroupID, version
	n.incomplete = [kinds]reason{kindProcess: n.lacks()}
	if n.lineBroken {
		n.incomplete[kindAncestor] = notFound
	}
	n.composeUser(e, names)
	n.composeContainer(group)
	n.settled = n.state.settled() && (group == nil || group.state.settled())
	n.setReason()
}

// setReason puts the first of the reasons into the context.
func (n *entry) setReason() {
	n.context.Reason = event.MissingNothing
	for _, why := range n.incomplete {
		if n.context.Reason == event.MissingNothing {
			n.context.Reason = inEvents[why]
		}
	}
}

// ofProcess is what a lookup of a process brings.
const ofProcess = event.KnownExecutable | event.KnownParent

// lacks says why something about the process itself is missing.
func (n *entry) lacks() reason {
	switch {
	case n.state == nobody:
		return unknown
	case !n.state.settled():
		return timedOut
	case n.denied:
		return denied
	case n.tabled:
		switch {
		case n.forgotten:
			return evicted
		case n.nameless || n.context.Known&event.KnownExecutable != 0:
			return complete
		default:
			return notFound
		}
	case n.evicted && n.context.Known&ofProcess != ofProcess:
		return evicted
	case n.state == gone && n.context.Known&ofProcess != ofProcess:
		return notFound
	case n.context.Known&event.KnownExecutable == 0 && !n.nameless: // it has ended and was not waited for
		return notFound
	default:
		return complete
	}
}

// composeUser: names is nil where users are not looked up.
func (n *entry) composeUser(e *event.Event, names *users.Table) {
	name := ""
	if names != nil && e.Process.TGID != 0 {
		var ok bool
		if name, ok = names.Name(e.Process.UID); !ok {
			n.incomplete[kindUser] = notFound
		}
	}
	n.set(event.KnownUser, n.context.User[:], name)
}

// composeContainer prefers the cgroup v2 that the event names, as of the event; with cgroup v1 that is the root, and
// the process knows more. group is nil where cgroups are not looked up.
func (n *entry) composeContainer(group *group) {
	in := n.container
	if group != nil {
		if group.container != (container.Identity{}) {
			in = group.container
		} else if n.state != found { // nobody else knows
			n.incomplete[kindCgroup] = group.lacks()
		}
	}
	n.context.ContainerID, n.context.PodUID = in.ID, in.PodUID
	n.context.Known &^= event.KnownContainer | event.KnownPod
	if in.HasID() {
		n.context.Known |= event.KnownContainer
	}
	if in.HasPod() {
		n.context.Known |= event.KnownPod
	}
}

// group is what is remembered of a cgroup.
type group struct {
	container container.Identity
	batch     uint64 // that it was last asked about for
	state     state
}

func (g *group) lacks() reason {
	switch g.state {
	case found:
		return complete
	case gone:
		return notFound
	case refused:
		return denied
	default:
		return timedOut
	}
}

// fill completes a context that has been composed elsewhere, by what from knows and it does not.
func fill(context, from *event.Context) {
	add := from.Known &^ context.Known
	if add&event.KnownExecutable != 0 {
		context.Executable = from.Executable
	}
	if add&event.KnownParent != 0 {
		context.Parent, context.ParentTGID = from.Parent, from.ParentTGID
	}
	if add&event.KnownAncestor != 0 {
		context.Ancestor = from.Ancestor
	}
	if add&event.KnownUser != 0 {
		context.User = from.User
	}
	if add&event.KnownContainer != 0 {
		context.ContainerID = from.ContainerID
	}
	if add&event.KnownPod != 0 {
		context.PodUID = from.PodUID
	}
	if context.Known == 0 || context.Reason != event.MissingNothing {
		context.Reason = from.Reason // what still is missing
	}
	context.Known |= add
	context.Cut = context.Cut&^add | from.Cut&add
}
