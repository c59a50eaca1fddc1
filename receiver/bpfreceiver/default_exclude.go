package bpfreceiver

import "slices"

// defaultExclude returns the system calls that `syscall:` leaves out unless it is told otherwise: those that
// programs make in their inner loops, to wait, to move data, to look at the clock, at themselves and at files.
// What remains changes something outside of the process or decides about access, and is rare beside these. The
// list names the calls of all architectures.
func defaultExclude() []string {
	return slices.Concat(
		[]string{ // waiting
			"clock_nanosleep", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old",
			"futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "io_getevents", "io_pgetevents", "io_uring_enter",
			"nanosleep", "pause", "poll", "ppoll", "pselect6", "restart_syscall", "sched_yield", "select",
		},
		[]string{ // memory
			"brk", "madvise", "membarrier", "mincore", "mmap", "mprotect", "mremap", "munmap",
		},
		[]string{ // signals and threads of the process itself
			"get_robust_list", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend",
			"rt_sigtimedwait", "set_robust_list", "set_tid_address", "sigaltstack",
		},
		[]string{ // time
			"clock_getres", "clock_gettime", "getitimer", "getrusage", "gettimeofday", "setitimer", "time", "timer_gettime",
			"timer_settime", "timerfd_gettime", "timerfd_settime", "times",
		},
		[]string{ // identity
			"getcpu", "getcwd", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp", "getpid", "getppid",
			"getpriority", "getresgid", "getresuid", "getsid", "gettid", "getuid", "sched_getaffinity", "sched_getparam",
			"sched_getscheduler", "sysinfo", "uname",
		},
		[]string{ // looking at files and descriptors
			"access", "close", "close_range", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fcntl", "fstat",
			"fstatfs", "getdents", "getdents64", "getpeername", "getsockname", "getsockopt", "ioctl", "lseek", "lstat",
			"newfstatat", "readahead", "readlink", "readlinkat", "stat", "statfs", "statx",
		},
		[]string{ // moving data
			"copy_file_range", "getrandom", "io_submit", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read",
			"readv", "recvfrom", "recvmmsg", "recvmsg", "sendfile", "sendmmsg", "sendmsg", "sendto", "splice", "tee", "vmsplice",
			"write", "writev",
		},
	)
}
