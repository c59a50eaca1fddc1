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
	syscallSendfile
	syscallSend
	syscallSendMessage
	syscallReceive
	syscallReceiveMessage
	syscallSendMany
	syscallReceiveMany
	syscallConnect
	syscallClose
	syscallGetsockopt
	syscallAccept
	syscallOpen
	syscallOpenat
	syscallFsync
	syscallAioSubmit
	syscallAioFetch
	syscallUnlink
	syscallUnlinkat
	syscallRename
	syscallRenameat
	syscallExec
	syscallExecveat
	syscallFork
	syscallClone
	syscallClone3
	syscallKindCount
)

// Operations that settings are looked at for; enum kp_network_operation and its kin.
const (
	networkConnect = iota + 1
	networkAccept
	networkClose
	networkRetransmit
	networkSend
	networkReceive
)

const (
	filesystemOpen = iota + 1
	filesystemRead
	filesystemWrite
	filesystemFsync
	filesystemUnlink
	filesystemRename
)

const (
	processFork = iota + 1
	processExec
	processExit
)

// syscallOperations has, by kind and category, the operations (bit n: operation n) that a call can be; for an
// accept also those that need to know whose the connection is.
var syscallOperations = [syscallKindCount][categories]uint32{
	syscallRead:           {categoryNetwork: 1 << networkReceive, categoryFilesystem: 1 << filesystemRead},
	syscallSend:           {categoryNetwork: 1 << networkSend},
	syscallSendMessage:    {categoryNetwork: 1 << networkSend},
	syscallReceive:        {categoryNetwork: 1 << networkReceive},
	syscallReceiveMessage: {categoryNetwork: 1 << networkReceive},
	syscallWrite:          {categoryNetwork: 1 << networkSend, categoryFilesystem: 1 << filesystemWrite},
	syscallCopy:           {categoryNetwork: 1<<networkSend | 1<<networkReceive, categoryFilesystem: 1<<filesystemWrite | 1<<filesystemRead},
	syscallSendfile:       {categoryNetwork: 1<<networkSend | 1<<networkReceive, categoryFilesystem: 1<<filesystemWrite | 1<<filesystemRead},
	syscallSendMany:       {categoryNetwork: 1 << networkSend},
	syscallReceiveMany:    {categoryNetwork: 1 << networkReceive},
	syscallConnect:        {categoryNetwork: 1 << networkConnect},
	syscallClose:          {categoryNetwork: 1 << networkConnect},
	syscallGetsockopt:     {categoryNetwork: 1 << networkConnect},
	syscallAccept:         {categoryNetwork: 1<<networkAccept | 1<<networkClose | 1<<networkRetransmit},
	syscallOpen:           {categoryFilesystem: 1 << filesystemOpen},
	syscallOpenat:         {categoryFilesystem: 1 << filesystemOpen},
	syscallFsync:          {categoryFilesystem: 1 << filesystemFsync},
	syscallAioSubmit:      {categoryFilesystem: 1<<filesystemRead | 1<<filesystemWrite | 1<<filesystemFsync},
	syscallAioFetch:       {categoryFilesystem: 1<<filesystemRead | 1<<filesystemWrite | 1<<filesystemFsync},
	syscallUnlink:         {categoryFilesystem: 1 << filesystemUnlink},
	syscallUnlinkat:       {categoryFilesystem: 1 << filesystemUnlink},
	syscallRename:         {categoryFilesystem: 1 << filesystemRename},
	syscallRenameat:       {categoryFilesystem: 1 << filesystemRename},
	syscallExec:           {categoryProcess: 1 << processExec},
	syscallExecveat:       {categoryProcess: 1 << processExec},
	syscallFork:           {categoryProcess: 1 << processFork},
	syscallClone:          {categoryProcess: 1 << processFork},
	syscallClone3:         {categoryProcess: 1 << processFork},
}

// syscallKinds returns the kinds of the system calls that this architecture has, by number. Those that are
// not here are plain.
func syscallKinds() map[int]syscallKind {
	kinds := map[int]syscallKind{}
	for kind, names := range map[syscallKind][]string{
		syscallRead:           {"read", "readv", "pread64", "preadv", "preadv2"},
		syscallWrite:          {"write", "writev", "pwrite64", "pwritev", "pwritev2"},
		syscallCopy:           {"splice", "copy_file_range"},
		syscallSendfile:       {"sendfile"},
		syscallSend:           {"sendto"},
		syscallSendMessage:    {"sendmsg"},
		syscallReceive:        {"recvfrom"},
		syscallReceiveMessage: {"recvmsg"},
		syscallSendMany:       {"sendmmsg"},
		syscallReceiveMany:    {"recvmmsg"},
		syscallConnect:        {"connect"},
		syscallClose:          {"close"},
		syscallGetsockopt:     {"getsockopt"},
		syscallAccept:         {"accept", "accept4"},
		syscallOpen:           {"open", "creat"},
		syscallOpenat:         {"openat", "openat2"},
		syscallFsync:          {"fsync", "fdatasync"},
		syscallAioSubmit:      {"io_submit"},
		syscallAioFetch:       {"io_getevents", "io_pgetevents"},
		syscallUnlink:         {"unlink"},
		syscallUnlinkat:       {"unlinkat"},
		syscallRename:         {"rename"},
		syscallRenameat:       {"renameat", "renameat2"},
		syscallExec:           {"execve"},
		syscallExecveat:       {"execveat"},
		syscallFork:           {"fork", "vfork"},
		syscallClone:          {"clone"},
		syscallClone3:         {"clone3"},
	} {
		for _, name := range names {
			if number, ok := syscalls.Number(name); ok {
				kinds[number] = kind
			}
		}
	}
	return kinds
}
