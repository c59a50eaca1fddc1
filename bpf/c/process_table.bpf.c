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

/* The helpers for reading kernel memory are for GPL-compatible programs; Apache-2.0 alone is not listed. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

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

#define EVICTION_TRIES 4

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

/* Throws out the program that was replaced first. */
static __always_inline void evict_program(void)
{
	struct kp_program_id id = {};

	if (bpf_map_pop_elem(&replaced, &id))
		return;
	if (!bpf_map_delete_elem(&programs, &id))
		count(KP_TABLE_PROGRAMS_EVICTED);
}

/* Keeps a program that its process is about to replace. */
static __always_inline void keep_program(const struct kp_process_id *process, const struct kp_program *program)
{
	struct kp_program_id id = {
		.start_ns = process->start_ns,
		.tgid = process->tgid,
		.exec_number = program->exec_number,
	};
	int error = bpf_map_update_elem(&programs, &id, program, BPF_NOEXIST);

	for (int i = 0; i < EVICTION_TRIES && error == -E2BIG; i++) {
		evict_program();
		error = bpf_map_update_elem(&programs, &id, program, BPF_NOEXIST);
	}
	if (error) { /* its number has come round where it is there */
		if (error != -EEXIST)
			count(KP_TABLE_PROGRAMS_MISSED);
		return;
	}
	count(KP_TABLE_PROGRAMS);
	if (bpf_map_push_elem(&replaced, &id, BPF_ANY) && !bpf_map_delete_elem(&programs, &id))
		count(KP_TABLE_PROGRAMS_EVICTED); /* nobody would ever throw it out */
}

/* Describes the program that a task runs. */
static __always_inline void set_program(struct kp_program *program, struct path_text *path, struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	struct file *file = mm ? mm->exe_file : NULL;

	program->exec_number = exec_number_of(task);
	program->flags = 0;
	begin_path(path);
	if (file)
		file_path(path, file);
	else if (task->flags & PF_KTHREAD)
		program->flags |= KP_PROGRAM_KERNEL;
	if (file && path->text[path->base & (KP_PATH_LEN - 1)] == '#' && is_nameless(file)) {
		program->flags |= KP_PROGRAM_NAMELESS;
		begin_path(path);
	}
	copy_path(program->path, path);
	program->base = path->base - path->at;
	if (path->cut)
		program->flags |= KP_PROGRAM_PATH_CUT;
	if (path->base >= KP_PATH_LEN - 1 && !(program->flags & (KP_PROGRAM_KERNEL | KP_PROGRAM_NAMELESS)))
		program->flags |= KP_PROGRAM_UNREADABLE;
}

static __always_inline void copy_program(struct kp_program *to, const struct kp_program *from)
{
	bpf_probe_read_kernel(to, sizeof(*to), from); /* it can't fail: it reads a map */
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

/* Throws out the cgroup that was removed first. */
static __always_inline void evict_cgroup(void)
{
	struct kp_cgroup_id id = {};

	if (bpf_map_pop_elem(&removed, &id))
		return;
	if (!bpf_map_delete_elem(&cgroups, &id))
		count(KP_TABLE_CGROUPS_EVICTED);
}

static __always_inline struct kp_cgroup_id cgroup_id_of(struct cgroup *cgroup)
{
	struct kp_cgroup_id id = {
		.id = BPF_CORE_READ(cgroup, kn, id), /* of a list too, whose pointers have no type */
		.hierarchy = (__u32)BPF_CORE_READ(cgroup, root, hierarchy_id),
	};

	return id;
}

/* Puts a cgroup in and returns its entry; NULL if it is there, or there is no room for it. */
static __always_inline struct kp_cgroup_entry *insert_cgroup(const struct kp_cgroup_id *id)
{
	int error = bpf_map_update_elem(&cgroups, id, &blank_cgroup, BPF_NOEXIST);

	for (int i = 0; i < EVICTION_TRIES && error == -E2BIG; i++) {
		evict_cgroup();
		error = bpf_map_update_elem(&cgroups, id, &blank_cgroup, BPF_NOEXIST);
	}
	if (error) {
		if (error != -EEXIST)
			count(KP_TABLE_CGROUPS_MISSED);
		return NULL;
	}
	count(KP_TABLE_CGROUPS);
	return bpf_map_lookup_elem(&cgroups, id);
}

static __always_inline void publish_cgroup(struct kp_cgroup_entry *entry, const struct kp_cgroup_id *id)
{
	entry->seen = state.living;
	BARRIER();
	entry->id = *id;
	entry->again = *id;
}

/* Puts a cgroup in with the path that the kernel has written for a tracepoint. Returns the length of the path. */
static __always_inline __u32 put_cgroup(struct scratch *scratch, const struct kp_cgroup_id *id, const char *path)
{
	long length = bpf_probe_read_kernel_str(scratch->longer, 1024, path);
	struct kp_cgroup_entry *entry;
	__u32 from = 0;

	if (length <= 0)
		return 0;
	if (bpf_map_lookup_elem(&cgroups, id))
		return length;
	entry = insert_cgroup(id);
	if (!entry)
		return length;
	if (length > KP_PATH_LEN)
		from = length - KP_PATH_LEN;
	entry->cut = from > 0 || length == 1024;
	bpf_probe_read_kernel(entry->path, KP_PATH_LEN, &scratch->longer[from & 1023]); /* it can't fail: it reads a map */
	publish_cgroup(entry, id);
	return length;
}

#define CONTAINER_ID_LEN 64

/* Puts a cgroup in that was there before, with the path made of its names, which it leaves in scratch->path. */
static __always_inline void find_cgroup(struct scratch *scratch, struct cgroup *cgroup, const struct kp_cgroup_id *id)
{
	struct kp_cgroup_entry *entry = bpf_map_lookup_elem(&cgroups, id);

	cgroup_path(&scratch->path, scratch->component, BPF_CORE_READ(cgroup, kn));
	if (entry) {
		entry->seen = state.living;
	} else {
		entry = insert_cgroup(id);
		if (entry) {
			entry->cut = scratch->path.cut;
			copy_path(entry->path, &scratch->path);
			publish_cgroup(entry, id);
		}
	}
}

/*
 * Whether a container's id can be in the path in scratch->path. The count is in memory, of whose content the verifier
 * keeps no account: it would follow every one.
 */
static __noinline bool has_container_id(struct scratch *scratch)
{
	scratch->digits = 0;
	for (int i = 0; i < KP_PATH_LEN; i++) {
		char c = scratch->path.text[i];

		scratch->digits++;
		if (i < scratch->path.at || !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			scratch->digits = 0;
		BARRIER();
		if (scratch->digits == CONTAINER_ID_LEN)
			return true;
	}
	return false;
}

#define MAX_HIERARCHIES 32

/*
 * Looks at the next cgroup of a task, and says whether there is one. A function of its own, with what it goes on from in
 * memory, so that the verifier reads it once and not for each step.
 */
__noinline int find_next_cgroup(__u32 user)
{
	struct scratch *scratch = scratch_of(user);
	struct cgrp_cset_link *link;
	struct kp_cgroup_id id;
	struct cgroup *cgroup;
	__u32 fits;
	void *at;

	if (!scratch)
		return 0;
	at = (void *)scratch->next;
	if (!at || at == (void *)scratch->last)
		return 0;
	link = at - bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
	cgroup = BPF_CORE_READ(link, cgrp);
	id = cgroup_id_of(cgroup);
	find_cgroup(scratch, cgroup, &id);
	/* The longest path is that of the innermost container; of those that are as long, the one that it was found in before. */
	fits = 2 * (KP_PATH_LEN - (scratch->path.at & (KP_PATH_LEN - 1)));
	if (id.id == scratch->before.id && id.hierarchy == scratch->before.hierarchy)
		fits++;
	if (id.hierarchy && fits > scratch->best && has_container_id(scratch)) {
		scratch->best = fits;
		scratch->found = id;
	}
	scratch->next = (__u64)BPF_CORE_READ(link, cgrp_link.next);
	return 1;
}

/*
 * Looks at the cgroups of a task in all hierarchies. Returns the cgroup v1 that can be a container's; all 0: none. before
 * is the one that it was in before.
 */
static __always_inline struct kp_cgroup_id find_cgroups(__u32 user, struct scratch *scratch, struct task_struct *task,
							struct kp_cgroup_id before)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);

	scratch->before = before;
	scratch->found = (struct kp_cgroup_id){};
	scratch->best = 0;
	scratch->next = (__u64)BPF_CORE_READ(set, cgrp_links.next);
	scratch->last = (__u64)set + bpf_core_field_offset(struct css_set, cgrp_links);
	for (int i = 0; i < MAX_HIERARCHIES; i++)
		if (!find_next_cgroup(user))
			break;
	return scratch->found;
}

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
		set_program(&entry->program, &scratch->path, child);
	/* It is where its parent is, unless one of the two has been moved since. */
	if (from && child->cgroups == parent->group_leader->cgroups)
		entry->cgroup_v1 = from->cgroup_v1;
	else
		entry->cgroup_v1 = find_cgroups(USER_FORK, scratch, child, nowhere);
	publish(entry, &id);
	return 0;
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
static __always_inline void become(struct kp_process_entry *entry, const struct kp_process_id *id, struct scratch *scratch,
				   struct task_struct *task)
{
	if (entry->flags & KP_PROCESS_IN_EXEC) {
		entry->program.path[0] = 0;
		entry->program.base = 0;
		entry->program.flags = KP_PROGRAM_UNREADABLE;
	}
	if (entry->program.exec_number)
		keep_program(id, &entry->program); /* first, so that one of the two is there at any time */
	begin_change(entry);
	set_program(&entry->program, &scratch->path, task);
	describe_owner(entry, task);
	entry->exec_ns = bpf_ktime_get_boot_ns();
	entry->flags &= ~KP_PROCESS_IN_EXEC;
	end_change(entry);
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
		become(entry, &id, scratch, task);
	if (found)
		publish(entry, &id);
	if (state.with_arguments)
		keep_arguments(&id, task);
	return 0;
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
		become(entry, &id, scratch, task);
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

/* Notes that a process is in another container, or in none. */
static __always_inline void move(struct kp_process_entry *entry, const struct kp_process_id *id, struct kp_cgroup_id to)
{
	struct kp_place *before = &entry->earlier[entry->moves % KP_EARLIER];
	__u32 slot = id->tgid % KP_MOVES, *counter;

	if (entry->cgroup_v1.id == to.id && entry->cgroup_v1.hierarchy == to.hierarchy)
		return;
	begin_change(entry);
	before->until_ns = bpf_ktime_get_boot_ns();
	before->cgroup = entry->cgroup_v1;
	entry->cgroup_v1 = to;
	entry->moves++;
	end_change(entry);
	counter = bpf_map_lookup_elem(&moves, &slot);
	if (counter)
		__sync_fetch_and_add(counter, 1);
	__sync_fetch_and_add(&state.moves, 1);
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
	set_program(&entry->program, &scratch->path, task);
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

/* What is asked, and where the answers go. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_QUESTIONS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_question);
} questions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_QUESTIONS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_answer);
} answers SEC(".maps");

/*
 * Puts the program that was asked for in the place of the one that the process runs. That it is still there after the copy
 * says that the copy is whole, for none is put in a second time.
 */
static __always_inline enum kp_answered answer_program(struct kp_program *program, const struct kp_program_id *id)
{
	__u32 ahead = (id->exec_number + 65535 - program->exec_number) % 65535;
	struct kp_program *kept;

	if (!id->exec_number || !ahead)
		return KP_ANSWERED_YES;
	kept = bpf_map_lookup_elem(&programs, id);
	if (!kept && ahead < 32768) /* numbers come round: one that is ahead by more than half of them is behind */
		return KP_ANSWERED_NO;
	if (kept) {
		copy_program(program, kept);
		BARRIER();
		if (bpf_map_lookup_elem(&programs, id) == kept)
			return KP_ANSWERED_YES;
	}
	program->exec_number = id->exec_number;
	program->flags = KP_PROGRAM_FORGOTTEN;
	program->base = 0;
	program->path[0] = 0;
	return KP_ANSWERED_YES;
}

/* Answers question number index. A function of its own, so that the verifier reads it once and not for each step. */
__noinline int answer(__u32 index)
{
	struct kp_question *question = bpf_map_lookup_elem(&questions, &index);
	struct kp_answer *answer = bpf_map_lookup_elem(&answers, &index);
	struct kp_process_entry *entry;
	struct kp_program_id program;
	struct kp_arguments *kept;
	struct kp_process_id id;
	__u32 version;

	if (!question || !answer)
		return 0;
	program = question->id;
	id.start_ns = program.start_ns;
	id.tgid = program.tgid;
	question->answered = KP_ANSWERED_NO;
	entry = bpf_map_lookup_elem(&processes, &id);
	if (!entry)
		return 0;
	question->answered = KP_ANSWERED_CHANGING;
	version = entry->version;
	BARRIER();
	bpf_probe_read_kernel(&answer->process, sizeof(answer->process), entry); /* it can't fail: it reads a map */
	BARRIER();
	/* It may change meanwhile, or go, and another takes its place. */
	if (version % 2 || entry->version != version || answer->process.version != version)
		return 0;
	if (answer->process.id.start_ns != id.start_ns || answer->process.id.tgid != id.tgid || answer->process.start_again_ns != id.start_ns)
		return 0;
	answer->arguments.start_ns = 0;
	if (state.with_arguments) {
		kept = bpf_map_lookup_elem(&arguments, &id);
		if (kept)
			bpf_probe_read_kernel(&answer->arguments, sizeof(answer->arguments), kept);
	}
	question->answered = answer_program(&answer->process.program, &program);
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
