/* SPDX-License-Identifier: Apache-2.0 */
/* The entries of processes: how they come into the table, change and end. */
#ifndef KERNELPIPE_TABLE_PROCESS_H
#define KERNELPIPE_TABLE_PROCESS_H

/* Throws out the process that ended first. */
static __always_inline void evict_process(void)
{
	struct kp_process_entry *entry;
	struct kp_process_id id = {};
	__u64 exit_ns;

	if (bpf_map_pop_elem(&ended, &id))
		return;
	entry = bpf_map_lookup_elem(&processes, &id);
	if (!entry)
		return;
	exit_ns = entry->exit_ns;
	if (bpf_map_delete_elem(&processes, &id))
		return;
	bpf_map_delete_elem(&arguments, &id); /* many have none */
	state.evicted_exit_ns = exit_ns;
	state.evicted_after_ns = bpf_ktime_get_boot_ns() - exit_ns;
	count(KP_TABLE_EVICTED);
}

/*
 * Puts a process in with value. An error is counted, unless it is that the process is there. It is an int: before 6.4 the
 * kernel returns no more (its ops->map_update_elem are called without the helper), and the upper half is not the sign.
 */
static __always_inline int insert(const struct kp_process_id *id, const struct kp_process_entry *value, __u32 as)
{
	int error = bpf_map_update_elem(&processes, id, value, BPF_NOEXIST);

	for (int i = 0; i < EVICTION_TRIES && error == -E2BIG; i++) {
		evict_process();
		error = bpf_map_update_elem(&processes, id, value, BPF_NOEXIST);
	}
	if (!error) {
		count(as);
		return 0;
	}
	if (error == -EEXIST)
		return error;
	count(error == -E2BIG ? KP_TABLE_MISSED_FULL : KP_TABLE_MISSED_ERROR);
	if (!state.missed_first_ns || id->start_ns < state.missed_first_ns)
		state.missed_first_ns = id->start_ns;
	if (id->start_ns > state.missed_last_ns)
		state.missed_last_ns = id->start_ns;
	return error;
}

/* The name of a task, in two words. It ends with a NUL. */
static __always_inline void copy_comm(char *to, struct task_struct *task)
{
	((__u64 *)to)[0] = *(__u64 *)task->comm;
	((__u64 *)to)[1] = *(__u64 *)(task->comm + 8);
}

static __always_inline void describe_owner(struct kp_process_entry *entry, struct task_struct *task)
{
	copy_comm(entry->comm, task);
	entry->cgroup_id = task->cgroups->dfl_cgrp->kn->id;
	entry->uid = task->cred->uid.val;
}

/* Everything but the path and what identifies it. */
static __always_inline void describe(struct kp_process_entry *entry, struct task_struct *task)
{
	struct task_struct *parent = task->group_leader->real_parent->group_leader;

	entry->parent.start_ns = parent->start_boottime;
	entry->parent.tgid = (__u32)parent->tgid;
	copy_comm(entry->parent_comm, parent);
	describe_owner(entry, task);
}

/* Between the two, what is in the entry is no answer. An exec may come while the table is being filled: hence the atomics. */
static __always_inline void begin_change(struct kp_process_entry *entry)
{
	__sync_fetch_and_add(&entry->version, 1);
	BARRIER();
}

static __always_inline void end_change(struct kp_process_entry *entry)
{
	BARRIER();
	__sync_fetch_and_add(&entry->version, 1);
}

/* Makes the entry an answer. */
static __always_inline void publish(struct kp_process_entry *entry, const struct kp_process_id *id)
{
	entry->seen = state.living;
	BARRIER();
	entry->id = *id;
	entry->start_again_ns = id->start_ns;
}

/* Keeps the arguments that the current process was executed with. */
static __always_inline void keep_arguments(const struct kp_process_id *id, struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	struct kp_arguments *kept;
	__u64 start;
	__u32 length;

	if (!mm)
		return;
	start = mm->arg_start;
	length = mm->arg_end - start;
	kept = bpf_map_lookup_elem(&arguments, id);
	if (!kept) {
		if (bpf_map_update_elem(&arguments, id, &blank_arguments, BPF_ANY))
			return;
		kept = bpf_map_lookup_elem(&arguments, id);
		if (!kept)
			return;
	}
	kept->start_ns = 0;
	BARRIER();
	kept->exec_number = exec_number_of(task);
	kept->length = length;
	if (length > KP_PATH_LEN)
		length = KP_PATH_LEN;
	kept->unreadable = bpf_probe_read_user(kept->text, length, (void *)start) != 0;
	BARRIER();
	kept->start_ns = id->start_ns;
	kept->start_again_ns = id->start_ns;
}

/* Notes that a process has become another program: the task that executes it, or ends in the attempt. */
static __always_inline void become(struct kp_process_entry *entry, const struct kp_process_id *id, __u32 user,
				   struct scratch *scratch, struct task_struct *task)
{
	if (entry->flags & KP_PROCESS_IN_EXEC) {
		entry->program.path[0] = 0;
		entry->program.base = 0;
		entry->program.flags = KP_PROGRAM_UNREADABLE;
	}
	if (entry->program.exec_number)
		keep_program(id, &entry->program); /* first, so that one of the two is there at any time */
	begin_change(entry);
	set_program(&entry->program, user, scratch, task);
	describe_owner(entry, task);
	entry->exec_ns = bpf_ktime_get_boot_ns();
	entry->flags &= ~KP_PROCESS_IN_EXEC;
	end_change(entry);
}

/* Notes that a process has ended. Two of its threads may end at once; the second finds that it has been noted. */
static __always_inline void end(struct kp_process_entry *entry, struct kp_process_id *id, struct task_struct *task)
{
	if (entry->exit_ns)
		return;
	entry->exit_ns = bpf_ktime_get_boot_ns();
	copy_comm(entry->comm, task->group_leader);
	if (!bpf_map_push_elem(&ended, id, BPF_ANY))
		return;
	/* Nobody would ever throw it out. */
	if (!bpf_map_delete_elem(&processes, id))
		count(KP_TABLE_EVICTED);
}

#endif
