/* SPDX-License-Identifier: Apache-2.0 */
/* The maps of the process table, and the memory that its programs work in. */
#ifndef KERNELPIPE_TABLE_MAPS_H
#define KERNELPIPE_TABLE_MAPS_H

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 15);
	__type(key, struct kp_process_id);
	__type(value, struct kp_process_entry);
} processes SEC(".maps");

/* Of the processes, where arguments are wanted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct kp_process_id);
	__type(value, struct kp_arguments);
} arguments SEC(".maps");

/* The processes that have ended, in that order. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1 << 15);
	__type(value, struct kp_process_id);
} ended SEC(".maps");

/* The programs that processes ran before they executed another. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 15);
	__type(key, struct kp_program_id);
	__type(value, struct kp_program);
} programs SEC(".maps");

/* The same, in the order in which they were replaced. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1 << 15);
	__type(value, struct kp_program_id);
} replaced SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 12);
	__type(key, struct kp_cgroup_id);
	__type(value, struct kp_cgroup_entry);
} cgroups SEC(".maps");

/* The cgroups that were removed, in that order; after a time in which the table was not kept, those that may have been. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1 << 12);
	__type(value, struct kp_cgroup_id);
} removed SEC(".maps");

/*
 * How many moves among the cgroups v1 there were, by the lower bits of the pid: who remembers a process sees at a glance
 * whether it may be in another container.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_MOVES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
} moves SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KP_TABLE_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct kp_table_state state SEC(".data.table");

/* Set at load time, never 0; as in settings.h. */
volatile const __u32 own_generation = 1;

static __always_inline bool silent(void)
{
	return state.generation != own_generation;
}

static __always_inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&counts, &what);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

/* Memory to work in: one for each program, since one may interrupt another on its CPU, but never itself. */
enum user {
	USER_FORK,
	USER_EXEC,
	USER_EXIT,
	USER_MKDIR,
	USER_ATTACH,
	USER_FILL,
	USERS,
};

struct scratch {
	struct path_text path;
	char component[KP_PATH_LEN];
	char longer[1024 + KP_PATH_LEN]; /* TRACE_CGROUP_PATH_LEN in kernel/cgroup/cgroup-internal.h, and room behind it */
	struct kp_process_entry entry;
	__u64 next, last; /* in the list of a task's cgroups */
	struct kp_cgroup_id before, found;
	__u32 best;       /* how well the best of them fits that were looked at */
	__u32 digits;     /* hexadecimal ones in a row */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, USERS);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *scratch_of(__u32 user)
{
	return bpf_map_lookup_elem(&scratches, &user);
}

static const struct kp_cgroup_id nowhere;

/* What a new entry is before it is filled: nothing that a reader takes for an answer. */
const struct kp_process_entry blank_process = {};
const struct kp_arguments blank_arguments = {};
const struct kp_cgroup_entry blank_cgroup = {};

#define BARRIER() asm volatile("" ::: "memory")

#define EVICTION_TRIES 4

static __always_inline struct kp_process_id id_of(struct task_struct *task)
{
	struct kp_process_id id = {
		.start_ns = task->group_leader->start_boottime,
		.tgid = (__u32)task->tgid,
	};

	return id;
}

static __always_inline __u16 exec_number_of(struct task_struct *task)
{
	return KP_EXEC_NUMBER(task->self_exec_id);
}

#endif
