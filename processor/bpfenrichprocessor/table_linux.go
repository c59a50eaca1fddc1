package bpfenrichprocessor

import (
	"strings"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/container"
)

// cgroupKey tells a cgroup from all others; hierarchy 0 is that of cgroup v2, whose cgroups events name.
type cgroupKey struct{ id, hierarchy uint64 }

// image is an executable that a process ran from some time on.
type image struct {
	since uint64 // boot-time ns
	base  string // base name, which may be cut at 24 bytes; empty: not known
}

// history is the executables that a process ran, the latest first. What it ran before the last of them is forgotten, or
// nothing: that one has the time 0 then.
type history []image

// at returns what the process ran at a time. ok is false for a time that is forgotten.
func (h history) at(time uint64) (_ image, ok bool) {
	for _, image := range h {
		if time >= image.since {
			return image, true
		}
	}
	return image{}, false
}

// executedAt returns the executable of the exec that an event reports. The table and the event have the time from two
// programs on one tracepoint, either of which may be the first.
func (h history) executedAt(time uint64) (_ image, ok bool) {
	const slack = 100_000_000 // ns; an interrupt may come between the programs
	best, distance := image{}, uint64(slack)
	for _, image := range h {
		if d := max(time, image.since) - min(time, image.since); image.since != 0 && d < distance {
			best, distance = image, d
		}
	}
	return best, distance < slack
}

// of returns what an event of that time is about.
func (h history) of(time uint64, exec bool) (_ image, ok bool) {
	if exec {
		return h.executedAt(time)
	}
	return h.at(time)
}

// record is what the process table has of a process.
type record struct {
	facts
	history  history
	parentID identity
	legacy   cgroupKey // zero: none
}

// processTable knows every process since it was made, also those that are gone, without asking the file system.
type processTable interface {
	// lookUp shows the records of the processes that it has.
	lookUp(ids []identity, visit func(i int, record *record)) error
	// execs returns a number that is another one after the process has executed a program.
	execs(tgid uint32) uint32
	// allExecs returns a number that is another one after any process has done so.
	allExecs() uint64
	// had reports whether the table had a process once that lived at a time.
	had(id identity, at uint64) bool
	// cgroup returns the container of a cgroup that it has.
	cgroup(cgroupKey) (_ container.Identity, ok bool, err error)
}

// kernelTable is the process table in the kernel.
type kernelTable struct{ *bpf.ProcessTable }

func (t kernelTable) lookUp(ids []identity, visit func(int, *record)) error {
	asked := make([]bpf.ProcessID, len(ids))
	for i, id := range ids {
		asked[i] = processID(id)
	}
	return t.LookUp(asked, func(i int, entry *bpf.ProcessEntry) {
		record := recordOf(entry)
		visit(i, &record)
	})
}

func processID(id identity) bpf.ProcessID { return bpf.ProcessID{Start: id.start, TGID: id.tgid} }

func recordOf(entry *bpf.ProcessEntry) record {
	parent, legacy := entry.Parent(), entry.LegacyCgroup()
	return record{
		facts: facts{
			comm: entry.Comm(), executable: entry.BaseName(), kernel: entry.Kernel(),
			parent: entry.ParentComm(), parentTGID: uint32(parent.TGID),
		},
		history:  historyOf(entry),
		parentID: identity{parent.Start, parent.TGID},
		legacy:   cgroupKey{legacy.ID, legacy.Hierarchy},
	}
}

func historyOf(entry *bpf.ProcessEntry) history {
	images := history{{since: entry.Since(), base: entry.BaseName()}}
	earlier, complete := entry.Earlier()
	for i, replaced := range earlier {
		var since uint64
		switch {
		case i+1 < len(earlier):
			since = earlier[i+1].Until
		case !complete: // nor is it known since when
			return images
		}
		images = append(images, image{since: since, base: replaced.BaseName})
	}
	return images
}

func (t kernelTable) execs(tgid uint32) uint32 { return t.Execs(tgid) }

func (t kernelTable) allExecs() uint64 { return t.AllExecs() }

func (t kernelTable) had(id identity, at uint64) bool { return t.Had(processID(id), at) }

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
