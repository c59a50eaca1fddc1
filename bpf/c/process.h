/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: fork, exec and exit, from include/trace/events/sched.h. */
#ifndef KERNELPIPE_PROCESS_H
#define KERNELPIPE_PROCESS_H

/* Applies the filter to what process did, which is the current one, and makes room for the event. */
static __always_inline struct kp_event *process_event(const struct kp_process *process, __u16 operation, __s64 result, __u64 duration)
{
	const struct filter *filter = &settings.filter[KP_CATEGORY_PROCESS];
	struct kp_event *event;

	if (silent() || !(filter->flags & FILTER_ENABLED) || !wants_operation(filter, operation))
		return NULL;
	if ((filter->flags & FILTER_ERRORS_ONLY) && result == 0)
		return NULL;
	if (duration < filter->min_duration_ns || is_self() || !wants_process(KP_CATEGORY_PROCESS, process) || !sampled(filter))
		return NULL;
	event = reserve(KP_CATEGORY_PROCESS, operation, bpf_ktime_get_boot_ns());
	if (!event)
		return NULL;
	event->result = result;
	event->duration_ns = duration;
	event->process = *process;
	event->exec_number = current_exec_number();
	return event;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_process_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 tgid = BPF_CORE_READ(child, tgid);
	struct kp_process process = {};
	struct kp_event *event;

	if (BPF_CORE_READ(child, pid) != tgid) /* a thread */
		return 0;
	identify(&process);
	event = process_event(&process, KP_PROCESS_FORK, 0, 0);
	if (!event)
		return 0;
	event->lifecycle.child_tgid = tgid;
	submit(event);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *task, int old_pid, struct linux_binprm *binary)
{
	struct kp_process process = {};
	struct kp_event *event;

	identify(&process);
	event = process_event(&process, KP_PROCESS_EXEC, 0, 0);
	if (!event)
		return 0;
	COPY_NAME(event, bpf_probe_read_kernel_str, bpf_probe_read_kernel, BPF_CORE_READ(binary, filename));
	submit(event);
	return 0;
}

struct incarnation {
	__u64 start_ns;
	__u32 tgid;
	__u32 reserved;
};

/* The processes that ended last. Two threads that end at once can both see themselves as the last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct incarnation);
	__type(value, __u8);
} ended SEC(".maps");

/* First to report the end of the current process? */
static __always_inline bool first_to_end(void)
{
	struct incarnation process = {
		.start_ns = current_start_ns(),
		.tgid = current_tgid(),
	};
	__u8 seen = 1;
	int error = bpf_map_update_elem(&ended, &process, &seen, BPF_NOEXIST);

	if (error == -EEXIST)
		return false;
	if (error)
		count_missed(MISSED_EXIT);
	return true;
}

/* What wait(2) says: the whole group's code when something ended the group, else the leader's own (wait_task_zombie in kernel/exit.c). */
static __always_inline __u32 exit_code_of(struct task_struct *task)
{
	__u32 group = BPF_CORE_READ(task, signal, group_exit_code);

	if (group || (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT))
		return group;
	return BPF_CORE_READ(task, group_leader, exit_code);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task)
{
	struct kp_process process = {};
	struct kp_event *event;
	__u32 code, signal;

	if (silent() || BPF_CORE_READ(task, signal, live.counter) != 0) /* other threads live on */
		return 0;
	if (!first_to_end())
		return 0;
	code = exit_code_of(task);
	signal = code & 0x7f;
	/* Whichever thread is the last, the process goes by its leader's name. */
	identify(&process);
	process.tid = process.tgid;
	BPF_CORE_READ_INTO(&process.comm, task, group_leader, comm);
	clean_comm((__u64 *)process.comm);
	event = process_event(&process, KP_PROCESS_EXIT, signal ? 128 + signal : (code >> 8) & 0xff, bpf_ktime_get_boot_ns() - process.start_ns);
	if (!event)
		return 0;
	event->lifecycle.signal = signal;
	submit(event);
	return 0;
}

#endif
