package event

import (
	"slices"
	"strconv"
	"strings"

	"github.com/kernelpipe/kernelpipe/internal/syscalls"
)

// The operations of CategoryNetwork; enum kp_network_operation.
const (
	NetworkConnect    uint16 = 1
	NetworkAccept     uint16 = 2
	NetworkClose      uint16 = 3
	NetworkRetransmit uint16 = 4
	NetworkSend       uint16 = 5
	NetworkReceive    uint16 = 6
)

// The operations of CategoryFilesystem; enum kp_filesystem_operation.
const (
	FilesystemOpen   uint16 = 1
	FilesystemRead   uint16 = 2
	FilesystemWrite  uint16 = 3
	FilesystemFsync  uint16 = 4
	FilesystemUnlink uint16 = 5
	FilesystemRename uint16 = 6
)

// The operations of CategoryProcess; enum kp_process_operation.
const (
	ProcessFork uint16 = 1
	ProcessExec uint16 = 2
	ProcessExit uint16 = 3
)

// By category and number; "" where there is none. The system calls are in package syscalls.
var operationNames = [CategoryCount][]string{
	CategoryNetwork:    {"", "connect", "accept", "close", "retransmit", "send", "receive"},
	CategoryFilesystem: {"", "open", "read", "write", "fsync", "unlink", "rename"},
	CategoryProcess:    {"", "fork", "exec", "exit"},
}

// OperationName returns the name of an operation in configuration and telemetry: "connect"; for a system
// call its name. An operation without a name is called after its category and number: "syscall_511".
// Names that are known cost no allocation.
func OperationName(c Category, operation uint16) string {
	if name, ok := knownOperation(c, operation); ok {
		return name
	}
	return c.String() + "_" + strconv.Itoa(int(operation))
}

func knownOperation(c Category, operation uint16) (string, bool) {
	if c == CategorySyscall {
		return syscalls.Name(int(operation))
	}
	if c < CategoryCount && int(operation) < len(operationNames[c]) && operationNames[c][operation] != "" {
		return operationNames[c][operation], true
	}
	return "", false
}

// ParseOperation is the inverse of OperationName.
func ParseOperation(c Category, name string) (uint16, bool) {
	if name == "" || !c.Valid() {
		return 0, false
	}
	if c == CategorySyscall {
		if number, ok := syscalls.Number(name); ok {
			return uint16(number), true
		}
	} else if number := slices.Index(operationNames[c], name); number >= 0 {
		return uint16(number), true
	}
	digits, ok := strings.CutPrefix(name, c.String()+"_")
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || OperationName(c, uint16(number)) != name { // has a name, or is written with leading zeros
		return 0, false
	}
	return uint16(number), true
}

// Operations returns the names of all operations of a category, system calls in alphabetical order, the
// others in the order of their numbers.
func Operations(c Category) []string {
	switch {
	case c == CategorySyscall:
		return syscalls.Names()
	case c.Valid():
		return slices.Clone(operationNames[c][1:])
	default:
		return nil
	}
}
