//go:build linux

package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
)

// run runs a raw_tp program once, with args as its context, and returns its return value.
func run(program *ebpf.Program, args ...uint64) (int, error) {
	result, err := program.Run(&ebpf.RunOptions{Context: args})
	if err != nil {
		return 0, fmt.Errorf("run BPF program: %w", err)
	}
	return int(int32(result)), nil
}

// newID returns a random number that is not 0 and has its lowest 8 bits clear, for 256 sources.
func newID() uint64 {
	var bytes [8]byte
	for {
		_, _ = rand.Read(bytes[:]) // it never fails: it ends the process instead
		if id := binary.NativeEndian.Uint64(bytes[:]) &^ 0xff; id != 0 {
			return id
		}
	}
}
