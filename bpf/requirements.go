//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/boottime"
)

// btfPath is where the kernel offers its type information.
const btfPath = "/sys/kernel/btf/vmlinux"

// CheckRequirements says what this kernel or process lacks for kernelpipe: type information, capabilities, or a clock that
// can be compared with the kernel's. All that is missing is named at once.
func CheckRequirements() error {
	_, err := boottime.Offset()
	return errors.Join(checkBTF(btfPath), checkCapabilities(effectiveCapabilities), err)
}

// raiseMemoryLimit lets the process have as much BPF memory as it asks for: kernels before 5.11 count it as locked memory,
// for the programs that a look at the kernel's features loads too. Later ones count it to the cgroup, and nothing is done.
func raiseMemoryLimit() error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("memory limit for BPF: %w: before Linux 5.11 this needs CAP_SYS_RESOURCE or an unlimited RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)", err)
	}
	return nil
}

func checkBTF(path string) error {
	_, err := os.Stat(path) //nolint:gosec // btfPath, or that of a test
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("kernel has no BTF at %s: it needs a kernel built with CONFIG_DEBUG_INFO_BTF=y (5.10 or later), and /sys mounted", path)
	}
	if err != nil {
		return fmt.Errorf("kernel BTF: %w", err)
	}
	return nil
}

// checkCapabilities wants CAP_BPF and CAP_PERFMON; CAP_SYS_ADMIN stands for both (capabilities(7)).
func checkCapabilities(effective func() (uint64, error)) error {
	set, err := effective()
	if err != nil {
		return fmt.Errorf("capabilities of this process: %w", err)
	}
	has := func(capability uint) bool { return set&(1<<capability) != 0 }
	var errs []error
	for _, need := range []struct {
		capability uint
		name, use  string
	}{
		{unix.CAP_BPF, "CAP_BPF", "to load BPF programs and make BPF maps"},
		{unix.CAP_PERFMON, "CAP_PERFMON", "to attach BPF programs to tracepoints"},
	} {
		if !has(need.capability) && !has(unix.CAP_SYS_ADMIN) {
			errs = append(errs, fmt.Errorf("missing capability %s, needed %s: run as root or grant it (systemd: AmbientCapabilities=%s)", need.name, need.use, need.name))
		}
	}
	return errors.Join(errs...)
}

func effectiveCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, err
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}
