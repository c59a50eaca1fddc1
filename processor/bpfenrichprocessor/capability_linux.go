package bpfenrichprocessor

import "golang.org/x/sys/unix"

// capability is one that lookups need.
type capability struct {
	number    uint
	name, use string
}

// missingCapabilities returns what is not in the set; capabilities(7), proc_pid_exe(5), open_by_handle_at(2).
func missingCapabilities(set uint64) (missing []capability) {
	for _, need := range []capability{
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "to see the executables of other users' processes"},
		{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "to find the container of a process that is gone, by its cgroup's id"},
	} {
		if set&(1<<need.number) == 0 {
			missing = append(missing, need)
		}
	}
	return missing
}

func effectiveCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, err
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}
