/* SPDX-License-Identifier: Apache-2.0 */
/* What user space asked for: one filter per category and one rule per system call, changed at run time. */
#ifndef KERNELPIPE_SETTINGS_H
#define KERNELPIPE_SETTINGS_H

#define MAX_COMMANDS 16
#define MAX_SYSCALLS 512

enum filter_flag {
	FILTER_ENABLED = 1,
	FILTER_ERRORS_ONLY = 2,
	FILTER_PID = 4,
	FILTER_UID = 8,
	FILTER_COMMAND = 16,
	FILTER_CGROUP = 32,
	FILTER_PROCESS = FILTER_PID | FILTER_UID | FILTER_COMMAND | FILTER_CGROUP,
};

struct filter {
	__u32 flags;      /* enum filter_flag */
	__u32 operations; /* bit n: operation n is wanted (not in the syscall category) */
	__u64 min_duration_ns;
	__u64 cgroup_id;
	__u32 pid_min, pid_max;
	__u32 uid_min, uid_max;
	__u32 sample;   /* one in so many; 0 and 1: all */
	__u32 commands; /* how many of command are set */
	__u64 command[MAX_COMMANDS][2];
};

/* What a system call does with its arguments, so that its event finds its category. */
enum syscall_kind {
	SYSCALL_PLAIN = 0,
	SYSCALL_READ,        /* from the descriptor in argument 0 */
	SYSCALL_WRITE,       /* to the descriptor in argument 0 */
	SYSCALL_COPY,        /* to the descriptor in argument 2, else from the one in argument 0 */
	SYSCALL_SENDFILE,    /* to the descriptor in argument 0, else from the one in argument 1 */
	SYSCALL_SEND,        /* sendto: as write, with an address in argument 4 and its size in argument 5 */
	SYSCALL_SEND_MESSAGE, /* sendmsg: as write, with a struct msghdr in argument 1 */
	/* recvfrom: as read, with a length in argument 2, flags in argument 3, an address in argument 4, its size where 5 points */
	SYSCALL_RECEIVE,
	SYSCALL_RECEIVE_MESSAGE, /* recvmsg: as read, with a struct msghdr in argument 1 and flags in argument 2 */
	SYSCALL_SEND_MANY,   /* sendmmsg */
	SYSCALL_RECEIVE_MANY, /* recvmmsg: flags in argument 3 */
	SYSCALL_CONNECT,
	SYSCALL_CLOSE,      /* the descriptor in argument 0 */
	SYSCALL_GETSOCKOPT, /* level in argument 1, option in argument 2, its value where argument 3 points */
	SYSCALL_ACCEPT,
	SYSCALL_OPEN,     /* path in argument 0 */
	SYSCALL_OPENAT,   /* path in argument 1 */
	SYSCALL_FSYNC,    /* the descriptor in argument 0 */
	SYSCALL_AIO_SUBMIT, /* io_submit: so many control blocks as argument 1 says, addresses where argument 2 points */
	SYSCALL_AIO_FETCH, /* io_getevents: results where argument 3 points */
	SYSCALL_UNLINK,   /* path in argument 0 */
	SYSCALL_UNLINKAT, /* path in argument 1 */
	SYSCALL_RENAME,   /* path in argument 0 */
	SYSCALL_RENAMEAT, /* path in argument 1 */
	SYSCALL_EXEC,     /* execve: a success is a process event */
	SYSCALL_EXECVEAT, /* likewise, unless argument 4 says that it was but a check */
	SYSCALL_FORK,     /* fork, vfork: likewise */
	SYSCALL_CLONE,    /* flags in argument 0; a success is a process event unless it made a thread */
	SYSCALL_CLONE3,   /* likewise, flags where argument 0 points */
};

struct syscall_rule {
	__u8 kind;   /* enum syscall_kind */
	__u8 wanted; /* bit n: category n may want it. 0: not traced. Process is set only beside another */
};

struct kp_settings {
	__u32 generation; /* the programs of this generation emit, all others are silent */
	__u32 self_tgid; /* the collector itself, never traced … */
	__u64 self_start_ns; /* … and its start, for its pid may be another's after its death */
	__u64 wakeup_bytes; /* wake the reader when so much waits in the ring buffer */
	struct filter filter[8]; /* by category; 8 so that the verifier sees the bound in a mask */
	struct syscall_rule rule[MAX_SYSCALLS];
};

struct kp_settings settings SEC(".data.settings");

/*
 * Set at load time, never 0. One store to settings.generation hands over from one set of programs to the
 * next: without a gap, and without a moment when both report.
 */
volatile const __u32 own_generation = 1;

static __always_inline bool silent(void)
{
	return settings.generation != own_generation;
}

#endif
