//go:build linux

package bpf

import (
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
