//go:build linux

package bpf

import (
	"bytes"
	"unsafe"
)

// ProcessEntry is what the table has of a process.
type ProcessEntry processTableKpAnswer

// enum kp_process_flag
const (
	processPathCut = 1 << iota
	processPathUnreadable
	processKernel
	processFound
)

// Parent returns who forked the process. It may live no more.
func (e *ProcessEntry) Parent() ProcessID {
	return ProcessID{Start: e.Process.Parent.StartNs, TGID: e.Process.Parent.Tgid}
}

// ParentComm returns the name that the parent's main thread had at the fork.
func (e *ProcessEntry) ParentComm() string { return textOf(e.Process.ParentComm[:]) }

// Comm returns the name of the main thread, as it was at the fork, the last exec, or the exit.
func (e *ProcessEntry) Comm() string { return textOf(e.Process.Comm[:]) }

// Kernel reports whether it is a thread of the kernel's, which has no executable.
func (e *ProcessEntry) Kernel() bool { return e.Process.Flags&processKernel != 0 }

// Found reports whether the process was there before the table.
func (e *ProcessEntry) Found() bool { return e.Process.Flags&processFound != 0 }

// UID returns the real user ID at the fork or the last exec.
func (e *ProcessEntry) UID() uint32 { return e.Process.Uid }

// Cgroup returns the cgroup v2 at the fork or the last exec.
func (e *ProcessEntry) Cgroup() CgroupID { return CgroupID{ID: e.Process.CgroupId} }

// LegacyCgroup returns the last cgroup v1 that the process was put in and that may be a container's; zero: none.
func (e *ProcessEntry) LegacyCgroup() CgroupID {
	return CgroupID{ID: e.Process.Legacy.Id, Hierarchy: e.Process.Legacy.Hierarchy}
}

// Exit returns when the process ended, in ns of the boot-time clock; 0: it lived.
func (e *ProcessEntry) Exit() uint64 { return e.Process.ExitNs }

// Path returns the path of the executable that the process runs, or ran last, as its mount namespace sees it; "" if
// it can't be read. Of one of more than 255 bytes it is the end, and then cut is set.
func (e *ProcessEntry) Path() (path string, cut bool) {
	return textOf(e.Process.Path[:]), e.Process.Flags&processPathCut != 0
}

// ArgumentList returns the first 256 bytes of the arguments that the process was executed with last, each with the
// NUL that ends it, and whether there are more. ok says whether they are known: not where arguments are not kept, and
// not of processes that were there before the table or that have executed nothing.
func (e *ProcessEntry) ArgumentList() (arguments []byte, cut, ok bool) {
	kept := &e.Arguments
	start := e.Process.Id.StartNs
	if kept.StartNs != start || kept.StartAgainNs != start || kept.Unreadable != 0 {
		return nil, false, false
	}
	text := bytesOf(kept.Text[:])
	return text[:min(len(text), int(kept.Length))], int(kept.Length) > len(text), true
}

// Since returns when the process executed the program that it runs, in ns of the boot-time clock; 0: from the start.
func (e *ProcessEntry) Since() uint64 { return e.Process.ExecNs }

// BaseName returns the base name of the executable, "" if it is not known.
func (e *ProcessEntry) BaseName() string {
	path := bytesOf(e.Process.Path[:])
	return text(path[min(int(e.Process.Base), len(path)):])
}

// Image is a program that a process ran before it executed another.
type Image struct {
	Until    uint64 // ns, boot-time clock
	BaseName string // of its executable, up to 24 bytes of it; "": not known
}

// Earlier returns the last programs that the process ran before, the latest of them first; they are at most 4. complete
// says whether these are all.
func (e *ProcessEntry) Earlier() (images []Image, complete bool) {
	kept := uint32(len(e.Process.Earlier))
	for i := uint32(0); i < min(e.Process.Execs, kept); i++ {
		image := &e.Process.Earlier[(e.Process.Execs-1-i)%kept]
		images = append(images, Image{Until: image.UntilNs, BaseName: textOf(image.Base[:])})
	}
	return images, e.Process.Execs <= kept && !e.Found()
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
