//go:build linux

package bpf

import "github.com/kernelpipe/kernelpipe/internal/syscalls"

// syscallKind says what a system call does with its arguments; enum syscall_kind.
type syscallKind uint8

const (
	syscallPlain syscallKind = iota
	syscallRead
	syscallWrite
	syscallCopy
	syscallSendMany
	syscallReceiveMany
	syscallConnect
	syscallAccept
	syscallOpen
	syscallOpenat
	syscallFsync
	syscallUnlink
	syscallUnlinkat
	syscallRename
	syscallRenameat
	syscallProcess
)

// network reports whether a call of this kind can be a network event.
func (k syscallKind) network() bool { return k >= syscallRead && k <= syscallAccept }

// filesystem reports whether a call of this kind can be a filesystem event.
func (k syscallKind) filesystem() bool {
	return k == syscallRead || k == syscallWrite || k == syscallCopy || k >= syscallOpen && k <= syscallRenameat
}

// syscallKinds returns the kinds of the system calls that this architecture has, by number. Those that are
// not here are plain.
func syscallKinds() map[int]syscallKind {
	kinds := map[int]syscallKind{}
	for kind, names := range map[syscallKind][]string{
		syscallRead:        {"read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg"},
		syscallWrite:       {"write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendfile"},
		syscallCopy:        {"splice", "copy_file_range"},
		syscallSendMany:    {"sendmmsg"},
		syscallReceiveMany: {"recvmmsg"},
		syscallConnect:     {"connect"},
		syscallAccept:      {"accept", "accept4"},
		syscallOpen:        {"open", "creat"},
		syscallOpenat:      {"openat", "openat2"},
		syscallFsync:       {"fsync", "fdatasync"},
		syscallUnlink:      {"unlink"},
		syscallUnlinkat:    {"unlinkat"},
		syscallRename:      {"rename"},
		syscallRenameat:    {"renameat", "renameat2"},
		syscallProcess:     {"fork", "vfork", "clone", "clone3", "execve", "execveat", "exit", "exit_group"},
	} {
		for _, name := range names {
			if number, ok := syscalls.Number(name); ok {
				kinds[number] = kind
			}
		}
	}
	return kinds
}
