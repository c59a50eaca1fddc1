//go:build linux

// Command init is process 1 of a virtual machine: it mounts what BPF needs, runs the test programs beside it in
// the file system, says how they ended, and switches the machine off.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	code := 0
	if err := mount(); err != nil {
		fmt.Println(err)
		code = 1
	}
	tests, _ := filepath.Glob("/*.test") // the pattern is well-formed
	for _, test := range tests {
		// In a directory of its own, as `go test` has it; test data that is not there is not asked for.
		cmd := exec.Command(test, "-test.timeout", "300s") //nolint:gosec // the machine has nothing else in it
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		cmd.Env = []string{"PATH=/", "HOME=/", "TMPDIR=/tmp"}
		if err := cmd.Run(); err != nil {
			fmt.Println(test, err)
			code = 1
		}
	}
	fmt.Printf("kernels: tests exited with %d\n", code)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // if it fails, the caller's time limit ends the machine
}

func mount() error {
	for _, m := range []struct{ kind, target string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"bpf", "/sys/fs/bpf"}, {"tracefs", "/sys/kernel/tracing"},
		{"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.target, 0o700); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.target, m.kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}
