package bpfenrichprocessor

import (
	"strings"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/container"
)

// cgroupKey tells a cgroup from all others; hierarchy 0 is that of cgroup v2, whose cgroups events name.
type cgroupKey struct{ id, hierarchy uint64 }

// place is a cgroup v1 that a process was in from some time on.
type place struct {
	since uint64    // boot-time ns
	key   cgroupKey // zero: none that may be a container's
}

// record is what the process table has of a process, with one of its programs.
type record struct {
	facts
	forgotten bool   // the table has the program no more
	executed  uint64 // boot-time ns, when the process began to run the program that it runs, or ran last; 0: from the start
	parentID  identity
	places    []place // by cgroup v1: where it is, and where it was before; at least one
}

// processTable knows every process since it was made, also those that are gone, without asking the file system.
type processTable interface {
	// lookUp shows the records of the programs whose processes it has.
	lookUp(ids []identity, visit func(i int, record *record)) error
	// moves returns a number that changes whenever the process is moved to another container by cgroup v1.
	moves(tgid uint32) uint32
	// allMoves returns a number that changes whenever any process is.
	allMoves() uint64
	// had reports whether a process that the table has no more was put in.
	had(identity) bool
	// cgroup returns the container of a cgroup that it has.
	cgroup(cgroupKey) (_ container.Identity, ok bool, err error)
}

// kernelTable is the process table in the kernel.
type kernelTable struct{ *bpf.ProcessTable }

func (t kernelTable) lookUp(ids []identity, visit func(int, *record)) error {
	asked := make([]bpf.ProgramID, len(ids))
	for i, id := range ids {
		asked[i] = programID(id)
	}
	return t.LookUp(asked, func(i int, entry *bpf.ProcessEntry) {
		record := recordOf(entry)
		visit(i, &record)
	})
}

func processID(id identity) bpf.ProcessID {
	return bpf.ProcessID{Start: id.start, TGID: uint64(id.tgid)}
}

func programID(id identity) bpf.ProgramID {
	return bpf.ProgramID{ProcessID: processID(id), ExecNumber: uint16(id.exec)}
}

func recordOf(entry *bpf.ProcessEntry) record {
	parent := entry.Parent()
	return record{
		facts: facts{
			comm: entry.Comm(), executable: entry.BaseName(), nameless: entry.Nameless(),
			parent: entry.ParentComm(), parentTGID: uint32(parent.TGID),
		},
		forgotten: entry.Forgotten(),
		executed:  entry.Since(),
		parentID:  identity{start: parent.Start, tgid: uint32(parent.TGID)},
		places:    placesOf(entry),
	}
}

// placesOf returns where a process is and was, the latest first.
func placesOf(entry *bpf.ProcessEntry) []place {
	places := []place{{key: keyOf(entry.CgroupV1())}}
	earlier, complete := entry.EarlierV1()
	for _, before := range earlier {
		places[len(places)-1].since = before.Until
		places = append(places, place{key: keyOf(before.Cgroup)})
	}
	if !complete { // since when it was in the first of them is not known
		places = places[:len(places)-1]
	}
	return places
}

func keyOf(id bpf.CgroupID) cgroupKey { return cgroupKey{id.ID, id.Hierarchy} }

func (t kernelTable) moves(tgid uint32) uint32 { return t.Moves(tgid) }

func (t kernelTable) allMoves() uint64 { return t.AllMoves() }

func (t kernelTable) had(id identity) bool { return t.Had(processID(id)) }

func (t kernelTable) cgroup(key cgroupKey) (container.Identity, bool, error) {
	path, cut, ok, err := t.Cgroup(bpf.CgroupID{ID: key.id, Hierarchy: key.hierarchy})
	if !ok || err != nil {
		return container.Identity{}, false, err
	}
	if cut { // what it begins with may be a part of a name only
		_, path, _ = strings.Cut(path, "/")
	}
	return container.OfCgroup(path), true, nil
}
