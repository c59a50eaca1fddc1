//go:build linux

// Command init is process 1 of a virtual machine: it makes ready what the tests need, runs those that /tests lists,
// says how they ended, and switches the machine off.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	code := 0
	for _, prepare := range []func() error{mount, loopback, test} {
		if err := prepare(); err != nil {
			fmt.Println("kernels:", err)
			code = 1
		}
	}
	fmt.Printf("kernels: tests exited with %d\n", code)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // if it fails, the caller's time limit ends the machine
}

// test runs the test binaries, each in its package's directory, as `go test` has it. A line of /tests is the directory
// and the arguments.
func test() error {
	tests, err := os.ReadFile("/tests")
	if err != nil {
		return err
	}
	failed := 0
	for line := range strings.Lines(string(tests)) {
		words := strings.Fields(line)
		cmd := exec.Command("./package.test", words[1:]...) //nolint:gosec // the machine has nothing else in it
		cmd.Dir = filepath.Join("/", words[0])
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		cmd.Env = []string{"PATH=/bin", "HOME=/", "TMPDIR=/tmp"}
		fmt.Println("kernels:", words[0])
		start := time.Now()
		if err := cmd.Run(); err != nil {
			fmt.Println(words[0], err)
			failed++
		}
		fmt.Println("kernels: took", time.Since(start).Round(time.Second))
	}
	if failed > 0 {
		return fmt.Errorf("%d packages failed", failed)
	}
	return nil
}

// loopback switches the loopback interface on, which is all the network there is.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}

func mount() error {
	for _, m := range []struct{ kind, target string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"bpf", "/sys/fs/bpf"}, {"tracefs", "/sys/kernel/tracing"},
		{"cgroup2", "/sys/fs/cgroup"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
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
