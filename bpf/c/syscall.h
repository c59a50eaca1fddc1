/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls, and the network and filesystem events that are system calls: all leave at sys_exit, where result,
 * arguments and the file behind the descriptor are known. What is noted of a call, and who wants it.
 */
#ifndef KERNELPIPE_SYSCALL_H
#define KERNELPIPE_SYSCALL_H

/* When a thread entered the system call that it is in. */
struct start {
	__u64 time_ns;
	__u32 number;
	__u32 interrupted; /* the call before may have been, and may begin again: struct interruption */
};

/* Kept in the task where the kernel can: that is three times as fast as a hash. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct start);
} starts SEC(".maps");

/* For kernels without task storage for tracing programs (before 5.12). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct start);
} starts_by_tid SEC(".maps");

/* What the end of a system call is, once its arguments have been looked at. */
struct call {
	__u32 category;
	__u32 operation;
	__s64 result;
	__u64 start_ns; /* 0: not known */
	__u64 bytes;
	struct file *file; /* behind the descriptor, if there is one */
	struct sock *sk;
	const char *path;  /* in user memory */
	/* In user memory, the address that the call was given or has given: 0, or */
	unsigned long peer; /* … where it is, and … */
	__u32 peer_size;
	__u32 messages;        /* … or how many … */
	unsigned long message; /* … struct mmsghdr, or one struct user_msghdr, name it */
	__u32 number;
	__u8 kind;   /* of its struct syscall_rule, as is … */
	__u8 wanted; /* … this */
	bool partial;
};

/*
 * The call that returns on a CPU. In memory of whose content the verifier keeps no account: it would follow every kind of call
 * to the end of the program.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__uint(value_size, sizeof(struct call)); /* not its type: Go has no use for the pointers in it */
} calls SEC(".maps");

/* Keeps a number below MAX_SYSCALLS in a way that the compiler can't find needless: the verifiers of older kernels need it. */
#define BOUND_SYSCALL(number) asm volatile("%0 &= 511" : "+r"(number))

/* The rule for a system call of this architecture's own table; NULL for one that nobody wants. */
static __always_inline const struct syscall_rule *rule_of(__u32 number)
{
	const struct syscall_rule *rule;

	if (number >= MAX_SYSCALLS)
		return NULL;
	BOUND_SYSCALL(number);
	rule = &settings.rule[number];
	return rule->wanted ? rule : NULL;
}

/* Is this the number of another table, that of 32-bit programs or x32? */
static __always_inline bool of_other_table(__u32 number)
{
	return (READ_CURRENT(thread_info.COMPAT_FIELD) & COMPAT_BIT) || X32_SYSCALL(number);
}

/* Does any category that may want this call want its process? */
static __always_inline bool anyone_wants_current(__u8 wanted)
{
	for (__u32 category = KP_CATEGORY_SYSCALL; category <= KP_CATEGORY_FILESYSTEM; category++) {
		if ((wanted & (1 << category)) && wants_current(category))
			return true;
	}
	return false;
}

/* Counts a call by another table, unless no category that is on would want its process. */
static __always_inline void count_other_table(void)
{
	__u8 on = 0;

	for (__u32 category = KP_CATEGORY_SYSCALL; category <= KP_CATEGORY_FILESYSTEM; category++) {
		if (settings.filter[category & 7].flags & FILTER_ENABLED)
			on |= 1 << category;
	}
	if (!is_self() && anyone_wants_current(on))
		count_missed(MISSED_COMPAT);
}

/* Does any category that may want this call want its result? */
static __always_inline bool anyone_wants_result(__u8 wanted, __s64 result)
{
	for (__u32 category = KP_CATEGORY_SYSCALL; category <= KP_CATEGORY_FILESYSTEM; category++) {
		if ((wanted & (1 << category)) && (failed(result) || !(settings.filter[category & 7].flags & FILTER_ERRORS_ONLY)))
			return true;
	}
	return false;
}

static __always_inline bool executes(__u8 kind)
{
	return kind == SYSCALL_EXEC || kind == SYSCALL_EXECVEAT;
}

/* What is noted about the system call that the current thread entered last; NULL: nothing. */
static __always_inline struct start *noted_start(bool by_tid)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();

	if (by_tid)
		return bpf_map_lookup_elem(&starts_by_tid, &tid);
	return bpf_task_storage_get(&starts, bpf_get_current_task_btf(), NULL, 0);
}

/*
 * When the current thread entered system call number, 0 if that was not noted. It is forgotten thereby, for a call that
 * seccomp denies is not entered, and must not come by the start of one before.
 */
static __always_inline __u64 take_start(__u32 number, bool by_tid)
{
	struct start *start = noted_start(by_tid);
	__u64 time_ns;

	if (!start || start->number != number)
		return 0;
	time_ns = start->time_ns;
	start->time_ns = 0;
	return time_ns;
}

/* The number of a call that has begun again by restart_syscall(2). */
static __always_inline __u32 restarted_number(bool by_tid)
{
	struct start *start = noted_start(by_tid);

	return start ? start->number : RESTART_SYSCALL;
}

/*
 * Did a signal interrupt the call before it did anything? Then it fails with EINTR if a handler takes the signal and wants
 * that; else it begins again. Which of them is known when the signal is delivered, after sys_exit.
 */
static __always_inline bool restarts(long result)
{
	return result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK && result != -ENOIOCTLCMD;
}

/*
 * Did seccomp deny this call by a signal (SECCOMP_RET_TRAP, SECCOMP_RET_KILL_PROCESS)? Then it was not entered, its
 * registers are as before it, so that its result is what that register held, and the signal is still to be delivered
 * (__seccomp_filter in kernel/seccomp.c). A process that is about to die gets no other signal than SIGKILL.
 */
static __always_inline bool denied(struct pt_regs *regs, long result, bool by_tid)
{
	struct start *start;
	__u64 signals;

	if (result != ROLLED_BACK(regs))
		return false;
	signals = READ_CURRENT(pending.signal.sig[0]) & ~READ_CURRENT(blocked.sig[0]);
	if (!(signals & (SIGNAL_BIT(SIGSYS) | SIGNAL_BIT(SIGKILL))))
		return false;
	start = noted_start(by_tid);
	return !start || !start->time_ns || start->number != SYSCALL_NUMBER(regs);
}

/*
 * Is this the return of an exec? On x86 a success has replaced its number by that of execve, in the table of the new
 * program (set_personality_64bit and __set_personality_ia32 in process_64.c): which call it was is known from its start.
 */
static __always_inline bool exec_returns(__u32 *number, long result, bool by_tid)
{
#ifdef EXECVE
	if (result == 0 && (*number == EXECVE || *number == COMPAT_EXECVE)) {
		struct start *start = noted_start(by_tid);

		if (start && start->time_ns && executes(settings.rule[start->number & (MAX_SYSCALLS - 1)].kind)) {
			*number = start->number;
			return true;
		}
	}
#endif
	return false;
}

#endif
