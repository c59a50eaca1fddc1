// SPDX-License-Identifier: Apache-2.0
/*
 * The process table: who every process is and was, kept by the kernel while it happens, so that an event can be
 * enriched when its process is long gone.
 *
 * Entries of processes that end stay. Only when there is no room for a new one does the one that ended first
 * go. The same holds for cgroups that are removed and programs that are replaced. Each program ends its work on an entry before the process can do anything that
 * an event would report.
 */
#include "kernel.h"
#include "event.h"
#include "process_table.h"
#include "file.h"
#include "path.h"
#include "table_maps.h"
#include "table_program.h"
#include "table_process.h"
#include "table_cgroup.h"
#include "table_answer.h"

/* The helpers for reading kernel memory are for GPL-compatible programs; Apache-2.0 alone is not listed. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sched_process_fork")
int table_fork(__u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	struct kp_process_entry *entry, *from;
	struct kp_process_id id, of;
	struct scratch *scratch;

	if (silent() || child->pid != child->tgid) /* a thread */
		return 0;
	scratch = scratch_of(USER_FORK);
	if (!scratch)
		return 0;
	id = id_of(child);
	of = id_of(parent);
	if (insert(&id, &blank_process, KP_TABLE_STARTED))
		return 0;
	entry = bpf_map_lookup_elem(&processes, &id);
	if (!entry)
		return 0;
	describe(entry, child);
	from = bpf_map_lookup_elem(&processes, &of);
	if (from && (!from->id.start_ns || from->seen != state.living))
		from = NULL;
	if (from && from->program.exec_number == exec_number_of(child)) /* it runs what its parent runs */
		copy_program(&entry->program, &from->program);
	else
		set_program(&entry->program, USER_FORK, scratch, child);
	/* It is where its parent is, unless one of the two has been moved since. */
	if (from && child->cgroups == parent->group_leader->cgroups)
		entry->cgroup_v1 = from->cgroup_v1;
	else
		entry->cgroup_v1 = find_cgroups(USER_FORK, scratch, child, nowhere);
	publish(entry, &id);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int table_exec(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct kp_process_id id;
	struct kp_process_entry *entry;
	struct scratch *scratch;

	bool found;

	if (silent())
		return 0;
	scratch = scratch_of(USER_EXEC);
	if (!scratch)
		return 0;
	id = id_of(task);
	entry = bpf_map_lookup_elem(&processes, &id);
	found = !entry;
	if (found) {
		if (insert(&id, &blank_process, KP_TABLE_FOUND))
			return 0;
		entry = bpf_map_lookup_elem(&processes, &id);
		if (!entry)
			return 0;
		entry->flags = KP_PROCESS_FOUND;
		describe(entry, task);
		entry->cgroup_v1 = find_cgroups(USER_EXEC, scratch, task, nowhere);
	}
	if (entry->program.exec_number != exec_number_of(task)) /* else the count of the living has found it just now */
		become(entry, &id, USER_EXEC, scratch, task);
	if (found)
		publish(entry, &id);
	if (state.with_arguments)
		keep_arguments(&id, task);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int table_exit(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct kp_process_entry *entry;
	struct kp_process_id id;
	struct scratch *scratch;

	if (silent() || task->signal->live.counter != 0) /* other threads live on */
		return 0;
	scratch = scratch_of(USER_EXIT);
	id = id_of(task);
	entry = bpf_map_lookup_elem(&processes, &id);
	if (!entry || !scratch)
		return 0;
	if (entry->program.exec_number != exec_number_of(task)) /* an exec failed when the program before was gone already */
		become(entry, &id, USER_EXIT, scratch, task);
	end(entry, &id, task);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int table_mkdir(__u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0];
	struct kp_cgroup_id id;
	struct scratch *scratch;

	if (silent())
		return 0;
	scratch = scratch_of(USER_MKDIR);
	if (!scratch)
		return 0;
	id = cgroup_id_of(cgroup);
	put_cgroup(scratch, &id, (const char *)ctx[1]);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int table_rmdir(__u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0];
	struct kp_cgroup_entry *entry;
	struct kp_cgroup_id id;

	if (silent())
		return 0;
	id = cgroup_id_of(cgroup);
	entry = bpf_map_lookup_elem(&cgroups, &id);
	if (!entry || entry->gone)
		return 0;
	entry->gone = 1;
	if (bpf_map_push_elem(&removed, &id, BPF_ANY) && !bpf_map_delete_elem(&cgroups, &id))
		count(KP_TABLE_CGROUPS_EVICTED);
	return 0;
}

/* A process was moved to another cgroup, or one of its threads, in which case it stays where its main thread is. */
SEC("tp_btf/cgroup_attach_task")
int table_attach(__u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0];
	struct task_struct *task = (void *)ctx[2];
	struct kp_cgroup_id id = cgroup_id_of(cgroup);
	struct kp_process_entry *entry;
	struct kp_process_id process;
	struct scratch *scratch;

	if (silent() || !id.hierarchy) /* with cgroup v2 every event says which it was in */
		return 0;
	scratch = scratch_of(USER_ATTACH);
	if (!scratch)
		return 0;
	put_cgroup(scratch, &id, (const char *)ctx[1]);
	process = id_of(task);
	entry = bpf_map_lookup_elem(&processes, &process);
	if (entry && entry->id.start_ns && task->pid == task->tgid)
		move(entry, &process, find_cgroups(USER_ATTACH, scratch, task, entry->cgroup_v1));
	return 0;
}

static __always_inline bool is_in_exec(struct task_struct *task)
{
	return BPF_CORE_READ_BITFIELD(task, in_execve);
}

/* What is to be seen of a process that was there before, in scratch->entry. */
static __always_inline void find(struct scratch *scratch, struct task_struct *task, struct kp_cgroup_id before)
{
	struct kp_process_entry *entry = &scratch->entry;

	__builtin_memset(entry, 0, sizeof(*entry));
	entry->flags = KP_PROCESS_FOUND;
	describe(entry, task);
	set_program(&entry->program, USER_FILL, scratch, task);
	BARRIER();
	if (is_in_exec(task) || entry->program.exec_number != exec_number_of(task))
		entry->flags |= KP_PROCESS_IN_EXEC;
	entry->cgroup_v1 = find_cgroups(USER_FILL, scratch, task, before);
}

/*
 * Takes over what is to be seen now of a process whose entry nobody has kept for a while. If it has executed another program,
 * it is not known when, nor with what arguments, nor what it ran between the two.
 */
static __always_inline void renew(struct kp_process_entry *entry, const struct kp_process_id *id, const struct kp_process_entry *found)
{
	move(entry, id, found->cgroup_v1);
	if (entry->program.exec_number == found->program.exec_number)
		return;
	keep_program(id, &entry->program);
	begin_change(entry);
	copy_program(&entry->program, &found->program);
	entry->flags = found->flags;
	__builtin_memcpy(entry->comm, found->comm, sizeof(entry->comm));
	entry->cgroup_id = found->cgroup_id;
	entry->uid = found->uid;
	entry->exec_ns = bpf_ktime_get_boot_ns();
	end_change(entry);
}

#define RENEWALS 2 /* a process does not execute two programs meanwhile */

/*
 * Puts the processes in that were there before, and renews the entries of a table that was not kept for a while. A process
 * that forks, executes or ends meanwhile is in already, or seen here.
 */
SEC("iter/task")
int table_fill(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct kp_process_entry *entry;
	struct kp_process_id id;
	struct scratch *scratch;

	if (!task || task->pid != task->tgid)
		return 0;
	scratch = scratch_of(USER_FILL);
	if (!scratch)
		return 0;
	id = id_of(task);
	entry = bpf_map_lookup_elem(&processes, &id);
	if (entry && !entry->id.start_ns) /* another program is about to make it an answer */
		return 0;
	for (int i = 0; i < RENEWALS && (!entry || (!state.since_ns && !entry->exit_ns)); i++) {
		find(scratch, task, entry ? entry->cgroup_v1 : nowhere);
		if (!entry) {
			publish(&scratch->entry, &id);
			if (insert(&id, &scratch->entry, KP_TABLE_FOUND))
				return 0;
			entry = bpf_map_lookup_elem(&processes, &id);
			if (!entry)
				return 0;
			break;
		}
		renew(entry, &id, &scratch->entry);
		BARRIER();
		if (entry->program.exec_number == exec_number_of(task)) /* else it has executed just now, and what is older came last */
			break;
	}
	BARRIER();
	entry->seen = state.living;
	if (task->signal->live.counter == 0)
		end(entry, &id, task);
	return 0;
}

/* Answers the first args[0] questions. */
SEC("raw_tp")
int look_up(__u64 *args)
{
	__u32 end = args[0];

	for (__u32 i = 0; i < KP_QUESTIONS; i++) {
		if (i >= end)
			break;
		answer(i);
	}
	return 0;
}
