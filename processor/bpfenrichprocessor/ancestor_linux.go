package bpfenrichprocessor

import (
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/clock"
)

// maxGenerations is how far up an ancestor is looked for.
const maxGenerations = 32

// relative is what is remembered of a process for its descendants. A process goes by the name that it had when it forked the
// next in the line.
type relative struct {
	comm, parent string
	parentID     identity
	known        bool
}

// ancestors finds the chosen ancestor of a process: the nearest that meets one of the two conditions.
type ancestors struct {
	table   processTable
	command map[string]struct{} // it has one of these names
	childOf map[string]struct{} // its parent has one of these names; then it may be the process itself
	cache   *clock.Cache[identity, relative]
}

// newAncestors returns nil where none is chosen.
func newAncestors(config *Config, table processTable) *ancestors {
	chosen := &config.Ancestor
	if table == nil || len(chosen.Command)+len(chosen.ChildOf) == 0 {
		return nil
	}
	set := func(names []string) map[string]struct{} {
		set := map[string]struct{}{}
		for _, name := range names {
			set[name] = struct{}{}
		}
		return set
	}
	return &ancestors{
		table: table, command: set(chosen.Command), childOf: set(chosen.ChildOf),
		cache: clock.New[identity, relative](config.Cache.Processes),
	}
}

// of returns the name of the ancestor, "" if there is none; known is false where the line breaks off before it.
func (a *ancestors) of(process *record) (name string, known bool, err error) {
	current := relative{comm: process.comm, parent: process.parent, parentID: process.parentID}
	for range maxGenerations {
		if _, ok := a.childOf[current.parent]; ok {
			return current.comm, true, nil
		}
		if current.parentID.tgid == 0 { // the kernel itself
			return "", true, nil
		}
		comm := current.parent
		if _, ok := a.command[comm]; ok {
			return comm, true, nil
		}
		if current, err = a.relative(current.parentID); err != nil || !current.known {
			return "", false, err
		}
		current.comm = comm
	}
	return "", true, nil
}

// relative returns the parent of a process, which never changes.
func (a *ancestors) relative(id identity) (relative, error) {
	if cached := a.cache.Get(id); cached != nil {
		return *cached, nil
	}
	var found relative
	if err := a.table.lookUp([]identity{id}, func(_ int, r *record) {
		found.parent, found.parentID, found.known = r.parent, r.parentID, true
	}); err != nil || !found.known {
		return relative{}, err
	}
	cached, _ := a.cache.Add(id)
	*cached = found
	return found, nil
}
