//go:build linux

package bpf

import (
	"bytes"
	"unsafe"
)

// ProcessEntry is what the table has of a process, with one of its programs.
type ProcessEntry processTableKpAnswer

// enum kp_program_flag
const (
	programPathCut = 1 << iota
	programUnreadable
	programKernel
	programNameless
	programForgotten
)

// enum kp_process_flag
const processFound = 1

// Parent returns who forked the process. It may live no more.
func (e *ProcessEntry) Parent() ProcessID {
	return ProcessID{Start: e.Process.Parent.StartNs, TGID: e.Process.Parent.Tgid}
}

// ParentComm returns the name that the parent's main thread had at the fork.
func (e *ProcessEntry) ParentComm() string { return textOf(e.Process.ParentComm[:]) }

// Comm returns the name of the main thread, as it was at the fork, the last exec, or the exit.
func (e *ProcessEntry) Comm() string { return textOf(e.Process.Comm[:]) }

// Nameless reports whether the program has no path that could be known: a thread of the kernel's, which has no executable,
// and a file that was made without a name.
func (e *ProcessEntry) Nameless() bool {
	return e.Process.Program.Flags&(programKernel|programNameless) != 0
}

// Found reports whether the process was there before the table.
func (e *ProcessEntry) Found() bool { return e.Process.Flags&processFound != 0 }

// UID returns the real user ID at the fork or the last exec.
func (e *ProcessEntry) UID() uint32 { return e.Process.Uid }

// Cgroup returns the cgroup v2 at the fork or the last exec.
func (e *ProcessEntry) Cgroup() CgroupID { return CgroupID{ID: e.Process.CgroupId} }

// CgroupV1 returns the cgroup v1 that the process is in and that may be a container's; zero: none.
func (e *ProcessEntry) CgroupV1() CgroupID { return cgroupID(e.Process.CgroupV1) }

func cgroupID(id processTableKpCgroupId) CgroupID {
	return CgroupID{ID: id.Id, Hierarchy: id.Hierarchy}
}

// Place is a cgroup v1 that a process was in before it was moved.
type Place struct {
	Until  uint64 // ns, boot-time clock
	Cgroup CgroupID
}

// EarlierV1 returns the last cgroups v1 that may be a container's and that the process was in before, the latest of them
// first; they are at most 4. complete says whether these are all.
func (e *ProcessEntry) EarlierV1() (places []Place, complete bool) {
	kept := uint32(len(e.Process.Earlier))
	for i := uint32(0); i < min(e.Process.Moves, kept); i++ {
		place := &e.Process.Earlier[(e.Process.Moves-1-i)%kept]
		places = append(places, Place{Until: place.UntilNs, Cgroup: cgroupID(place.Cgroup)})
	}
	return places, e.Process.Moves <= kept
}

// Exit returns when the process ended, in ns of the boot-time clock; 0: it lived.
func (e *ProcessEntry) Exit() uint64 { return e.Process.ExitNs }

// Forgotten reports whether the table has the program no more, only its process.
func (e *ProcessEntry) Forgotten() bool { return e.Process.Program.Flags&programForgotten != 0 }

// ExecNumber says which of the programs of the process it is.
func (e *ProcessEntry) ExecNumber() uint16 { return e.Process.Program.ExecNumber }

// Path returns the path of the executable, as the mount namespace of the process sees it; "" if it has none, or it can't be
// read. Of one of more than 255 bytes it is the end, and then cut is set.
func (e *ProcessEntry) Path() (path string, cut bool) {
	program := &e.Process.Program
	return textOf(program.Path[:]), program.Flags&programPathCut != 0
}

// ArgumentList returns the first 256 bytes of the arguments that the program was executed with, each with the
// NUL that ends it, and whether there are more. ok says whether they are known: not where arguments are not kept, not
// of a program that its process has replaced, and not of processes that were there before the table or that have executed
// nothing.
func (e *ProcessEntry) ArgumentList() (arguments []byte, cut, ok bool) {
	kept := &e.Arguments
	start := e.Process.Id.StartNs
	if kept.StartNs != start || kept.StartAgainNs != start || kept.ExecNumber != e.ExecNumber() || kept.Unreadable != 0 {
		return nil, false, false
	}
	text := bytesOf(kept.Text[:])
	return text[:min(len(text), int(kept.Length))], int(kept.Length) > len(text), true
}

// Since returns when the process executed the program that it runs, or ran last, in ns of the boot-time clock; 0: from the start.
func (e *ProcessEntry) Since() uint64 { return e.Process.ExecNs }

// BaseName returns the base name of the executable, "" if it is not known.
func (e *ProcessEntry) BaseName() string {
	path := bytesOf(e.Process.Program.Path[:])
	return text(path[min(int(e.Process.Program.Base), len(path)):])
}

func bytesOf(chars []int8) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(chars))), len(chars))
}

// textOf returns the string in a room, up to its NUL.
func textOf(chars []int8) string { return text(bytesOf(chars)) }

func text(room []byte) string {
	if end := bytes.IndexByte(room, 0); end >= 0 {
		room = room[:end]
	}
	return string(room)
}
