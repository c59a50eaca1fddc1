/* SPDX-License-Identifier: Apache-2.0 */
/* Who did it, and whether anyone asked about them. */
#ifndef KERNELPIPE_IDENTITY_H
#define KERNELPIPE_IDENTITY_H

static __always_inline __u64 task_start_ns(struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader, start_boottime);
}

/* The current task. */
static __always_inline void identify(struct kp_process *process)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 pid = bpf_get_current_pid_tgid();
	__u64 uid = bpf_get_current_uid_gid();

	process->cgroup_id = bpf_get_current_cgroup_id();
	process->start_ns = task_start_ns(task);
	process->tgid = pid >> 32;
	process->tid = (__u32)pid;
	process->uid = (__u32)uid;
	process->gid = uid >> 32;
	/* It fails only on a missing task, and then writes zeros: "not known". */
	bpf_get_current_comm(process->comm, sizeof(process->comm));
}

/* Is the current task the collector? Its pid is compared first, which settles it for all others. */
static __always_inline bool is_self(void)
{
	if ((__u32)(bpf_get_current_pid_tgid() >> 32) != settings.self_tgid)
		return false;
	return task_start_ns((struct task_struct *)bpf_get_current_task()) == settings.self_start_ns;
}

static __always_inline bool has_command(const struct filter *filter, const __u64 *comm)
{
	for (int i = 0; i < MAX_COMMANDS; i++) {
		if (i >= filter->commands)
			return false;
		if (filter->command[i][0] == comm[0] && filter->command[i][1] == comm[1])
			return true;
	}
	return false;
}

/* The conditions on the process, cheapest first. */
static __always_inline bool wants_process(const struct filter *filter, const struct kp_process *process)
{
	__u32 flags = filter->flags;

	if (!(flags & (FILTER_PID | FILTER_UID | FILTER_COMMAND | FILTER_CGROUP)))
		return true;
	if ((flags & FILTER_PID) && (process->tgid < filter->pid_min || process->tgid > filter->pid_max))
		return false;
	if ((flags & FILTER_UID) && (process->uid < filter->uid_min || process->uid > filter->uid_max))
		return false;
	if ((flags & FILTER_CGROUP) && process->cgroup_id != filter->cgroup_id)
		return false;
	/* comm is 8-byte aligned in kp_process, which is 8-byte aligned itself. */
	if ((flags & FILTER_COMMAND) && !has_command(filter, (const __u64 *)process->comm))
		return false;
	return true;
}

/* As wants_process, for the current task, reading no more of it than the filter asks about. */
static __always_inline bool wants_current(const struct filter *filter)
{
	__u32 flags = filter->flags;
	__u32 tgid, uid;
	__u64 comm[2] = {};

	if (!(flags & (FILTER_PID | FILTER_UID | FILTER_COMMAND | FILTER_CGROUP)))
		return true;
	tgid = bpf_get_current_pid_tgid() >> 32;
	if ((flags & FILTER_PID) && (tgid < filter->pid_min || tgid > filter->pid_max))
		return false;
	uid = (__u32)bpf_get_current_uid_gid();
	if ((flags & FILTER_UID) && (uid < filter->uid_min || uid > filter->uid_max))
		return false;
	if ((flags & FILTER_CGROUP) && bpf_get_current_cgroup_id() != filter->cgroup_id)
		return false;
	if (flags & FILTER_COMMAND) {
		bpf_get_current_comm(comm, sizeof(comm));
		return has_command(filter, comm);
	}
	return true;
}

#endif
