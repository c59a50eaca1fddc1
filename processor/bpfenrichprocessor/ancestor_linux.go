package bpfenrichprocessor

import (
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/clock"
)

// maxGenerations is how far up an ancestor is looked for.
const maxGenerations = 32

// relative is what is remembered of a process for its descendants.
type relative struct {
	comm, parent string
	parentID     identity
	execs        uint32
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
		if current, err = a.relative(current.parentID); err != nil || !current.known {
			return "", false, err
		}
		if _, ok := a.command[current.comm]; ok {
			return current.comm, true, nil
		}
	}
	return "", true, nil
}

func (a *ancestors) relative(id identity) (relative, error) {
	execs := a.table.execs(uint32(id.tgid))
	cached := a.cache.Get(id)
	if cached != nil && cached.known && cached.execs == execs {
		return *cached, nil
	}
	found := relative{execs: execs}
	if err := a.table.lookUp([]identity{id}, func(_ int, r *record) {
		found.comm, found.parent, found.parentID, found.known = r.comm, r.parent, r.parentID, true
	}); err != nil {
		return relative{}, err
	}
	if cached == nil {
		cached, _ = a.cache.Add(id)
	}
	*cached = found
	return found, nil
}
