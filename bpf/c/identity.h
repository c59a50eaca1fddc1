/* SPDX-License-Identifier: Apache-2.0 */
/* Who did it, and whether anyone asked about them. */
#ifndef KERNELPIPE_IDENTITY_H
#define KERNELPIPE_IDENTITY_H

/* When the current process was started, boot-time clock. */
static __always_inline __u64 current_start_ns(void)
{
	return READ_CURRENT(group_leader, start_boottime);
}

static __always_inline __u32 current_tgid(void)
{
	return READ_CURRENT(tgid);
}

/* The real user, as the initial user namespace has it. */
static __always_inline __u32 current_uid(void)
{
	return READ_CURRENT(cred, uid.val);
}

/* The bits of the bytes of word before its first zero byte. */
static __always_inline __u64 before_zero(__u64 word)
{
	__u64 zeros = (word - 0x0101010101010101ULL) & ~word & 0x8080808080808080ULL;

	return zeros ? ((zeros & -zeros) >> 7) - 1 : ~0ULL;
}

/* The name of a task, in two words. Kernels before 5.17 leave an older name's end behind the zero. */
static __always_inline void clean_comm(__u64 *comm)
{
	__u64 mask = before_zero(comm[0]);

	comm[0] &= mask;
	comm[1] = ~mask ? 0 : comm[1] & before_zero(comm[1]);
}

/* As bpf_get_current_comm(), without a call. */
static __always_inline void current_comm(__u64 *comm)
{
	if (HAS_TYPED_CURRENT) {
		struct task_struct *task = bpf_get_current_task_btf();

		comm[0] = *(__u64 *)task->comm;
		comm[1] = *(__u64 *)(task->comm + 8);
		clean_comm(comm);
		return;
	}
	bpf_get_current_comm(comm, KP_COMM_LEN); /* it fails only on a missing task, and then writes zeros */
}

/* The number of the program that the current process runs. */
static __always_inline __u16 current_exec_number(void)
{
	return KP_EXEC_NUMBER(READ_CURRENT(self_exec_id));
}

/* The current task. comm is 8-byte aligned in kp_process, which is 8-byte aligned itself. */
static __always_inline void identify(struct kp_process *process)
{
	process->cgroup_id = bpf_get_current_cgroup_id();
	process->start_ns = current_start_ns();
	process->tgid = current_tgid();
	process->tid = READ_CURRENT(pid);
	process->uid = current_uid();
	process->gid = READ_CURRENT(cred, gid.val);
	current_comm((__u64 *)process->comm);
}

/* Is the current task the collector? Its pid is compared first, which settles it for all others. */
static __always_inline bool is_self(void)
{
	return current_tgid() == settings.self_tgid && current_start_ns() == settings.self_start_ns;
}

/*
 * Global functions, which the verifier reads once and not for each call. They have to return a number, and those of older
 * kernels take no pointers.
 */

/* Is a name, in two words, one of those that a category's filter asks for? */
__noinline int has_command(__u32 category, __u64 first, __u64 second)
{
	const struct filter *filter = &settings.filter[category & 7];

	for (int i = 0; i < MAX_COMMANDS; i++) {
		if (i >= filter->commands)
			return false;
		if (filter->command[i][0] == first && filter->command[i][1] == second)
			return true;
	}
	return false;
}

/* Does the current task meet the conditions of a category's filter? They come cheapest first, and read no more than they need. */
__noinline int current_passes(__u32 category)
{
	const struct filter *filter = &settings.filter[category & 7];
	__u32 flags = filter->flags, number;
	__u64 comm[2] = {};

	if (flags & FILTER_PID) {
		number = current_tgid();
		if (number < filter->pid_min || number > filter->pid_max)
			return false;
	}
	if (flags & FILTER_UID) {
		number = current_uid();
		if (number < filter->uid_min || number > filter->uid_max)
			return false;
	}
	if ((flags & FILTER_CGROUP) && bpf_get_current_cgroup_id() != filter->cgroup_id)
		return false;
	if (!(flags & FILTER_COMMAND))
		return true;
	current_comm(comm);
	return has_command(category, comm[0], comm[1]);
}

/* Does a category want what the current task does? Most ask nothing about it, which costs no call. */
static __always_inline bool wants_current(__u32 category)
{
	return !(settings.filter[category & 7].flags & FILTER_PROCESS) || current_passes(category);
}

/* Does a category want what this process does? As wants_current. */
static __always_inline bool wants_process(__u32 category, const struct kp_process *process)
{
	const struct filter *filter = &settings.filter[category & 7];
	const __u64 *comm = (const __u64 *)process->comm;
	__u32 flags = filter->flags;

	if (!(flags & FILTER_PROCESS))
		return true;
	if ((flags & FILTER_PID) && (process->tgid < filter->pid_min || process->tgid > filter->pid_max))
		return false;
	if ((flags & FILTER_UID) && (process->uid < filter->uid_min || process->uid > filter->uid_max))
		return false;
	if ((flags & FILTER_CGROUP) && process->cgroup_id != filter->cgroup_id)
		return false;
	return !(flags & FILTER_COMMAND) || has_command(category, comm[0], comm[1]);
}

#endif
