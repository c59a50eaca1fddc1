// Package testprogram makes programs for tests: executables of a few instructions that need no files beside them, so that
// they run anywhere, and start and end in no time.
package testprogram

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
)

// Program is one of the programs, by architecture: what its instructions are.
type Program map[string][]byte

// The programs.
var (
	// Brief removes a file that is not there, executes its arguments if there are any, and ends.
	Brief = Program{
		"amd64": {
			0x48, 0x8d, 0x3d, 0x21, 0, 0, 0, // lea rdi, [rip+name]
			0xb8, 87, 0, 0, 0, // mov eax, unlink
			0x0f, 0x05, // syscall
			0x48, 0x8d, 0x74, 0x24, 0x10, // lea rsi, [rsp+16]
			0x48, 0x8b, 0x3e, // mov rdi, [rsi]
			0x31, 0xd2, // xor edx, edx
			0xb8, 59, 0, 0, 0, // mov eax, execve
			0x0f, 0x05, // syscall
			0x31, 0xff, // xor edi, edi
			0xb8, 60, 0, 0, 0, // mov eax, exit
			0x0f, 0x05, // syscall
			'k', 'p', '-', 'g', 'o', 'n', 'e', 0,
		},
		"arm64": instructions(
			0x92800c60,             // mov x0, #-100
			0x10000181,             // adr x1, name
			0xd2800002,             // mov x2, #0
			0xd2800468,             // mov x8, #unlinkat
			0xd4000001,             // svc #0
			0xf9400be0,             // ldr x0, [sp, #16]
			0x910043e1,             // add x1, sp, #16
			0xd2800002,             // mov x2, #0
			0xd2801ba8,             // mov x8, #execve
			0xd4000001,             // svc #0
			0xd2800000,             // mov x0, #0
			0xd2800ba8,             // mov x8, #exit
			0xd4000001,             // svc #0
			0x672d706b, 0x00656e6f, // "kp-gone"
		),
	}
	// Compat makes CompatCalls calls of each kind by the numbers of other tables than its own: open and close, as a
	// 32-bit program does, and getppid by its x32 number. Then it makes one of its own, getppid, and ends.
	Compat = Program{
		"amd64": {
			0xbd, CompatCalls, 0, 0, 0, // mov ebp, CompatCalls
			0xb8, 5, 0, 0, 0, // mov eax, open
			0x48, 0x8d, 0x1d, 0x2a, 0, 0, 0, // lea rbx, [rip+name]
			0x31, 0xc9, // xor ecx, ecx
			0x31, 0xd2, // xor edx, edx
			0xcd, 0x80, // int 0x80
			0x89, 0xc3, // mov ebx, eax
			0xb8, 6, 0, 0, 0, // mov eax, close
			0xcd, 0x80, // int 0x80
			0xb8, 110, 0, 0, 0x40, // mov eax, __X32_SYSCALL_BIT | getppid
			0x0f, 0x05, // syscall
			0xff, 0xcd, // dec ebp
			0x75, 0xda, // jnz to mov eax, open
			0xb8, 110, 0, 0, 0, // mov eax, getppid
			0x0f, 0x05, // syscall
			0x31, 0xff, // xor edi, edi
			0xb8, 60, 0, 0, 0, // mov eax, exit
			0x0f, 0x05, // syscall
			'/', 0,
		},
	}
	// Endless sleeps for ever.
	Endless = Program{
		"amd64": {
			0xb8, 34, 0, 0, 0, // mov eax, pause
			0x0f, 0x05, // syscall
			0xeb, 0xf7, // jmp to the beginning
		},
		"arm64": instructions(
			0xd2800000, // mov x0, #0
			0xd2800001, // mov x1, #0
			0xd2800002, // mov x2, #0
			0xd2800003, // mov x3, #0
			0xd2800928, // mov x8, #ppoll
			0xd4000001, // svc #0
			0x17fffffa, // b to the beginning
		),
	}
)

// CompatCalls is how many calls of each kind Compat makes.
const CompatCalls = 100

func instructions(words ...uint32) []byte {
	var code []byte
	for _, word := range words {
		code = binary.LittleEndian.AppendUint32(code, word)
	}
	return code
}

// Where the program lies in memory, and the sizes of the two headers of elf(5) in front of it.
const (
	address       = 0x400000
	headerSize    = 64
	segmentSize   = 56
	headersInAll  = headerSize + segmentSize
	machineAMD64  = 62
	machineARM64  = 183
	readAndExec   = 5
	pageAlignment = 0x1000
)

// Write writes the program as an executable file. It fails on an architecture that the program is not made for.
func Write(path string, program Program) error {
	code, ok := program[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("no test program for %s", runtime.GOARCH)
	}
	machine := uint16(machineAMD64)
	if runtime.GOARCH == "arm64" {
		machine = machineARM64
	}
	var file bytes.Buffer
	file.WriteString("\x7fELF\x02\x01\x01")
	file.Write(make([]byte, 9))
	size := uint64(headersInAll + len(code))
	for _, field := range []any{
		uint16(2), machine, uint32(1), uint64(address + headersInAll), uint64(headerSize), uint64(0), uint32(0),
		uint16(headerSize), uint16(segmentSize), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(readAndExec), uint64(0), uint64(address), uint64(address), size, size, uint64(pageAlignment),
	} {
		if err := binary.Write(&file, binary.LittleEndian, field); err != nil {
			return err
		}
	}
	file.Write(code)
	return os.WriteFile(path, file.Bytes(), 0o700) //nolint:gosec // it is a program
}
