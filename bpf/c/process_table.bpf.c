// SPDX-License-Identifier: Apache-2.0
/*
 * The process table: who every process is and was, kept by the kernel while it happens, so that an event can be
 * enriched when its process is long gone.
 *
 * Entries of processes that end stay. Only when there is no room for a new one does the one that ended first
 * go. The same holds for cgroups. Each program ends its work on an entry before the process can do anything that
 * an event would report.
 */
#include "kernel.h"
#include "process_table.h"
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
 * How many execs there were, by the lower bits of the pid: who remembers a process sees at a glance whether it may
 * have become another program.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_EXECS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
} execs SEC(".maps");

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
	if (!error)
		count(as);
	else if (error == -E2BIG)
		count(KP_TABLE_MISSED_FULL);
	else if (error != -EEXIST)
		count(KP_TABLE_MISSED_ERROR);
	return error;
}

static __always_inline void set_path(struct kp_process_entry *entry, struct path_text *path, struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	struct file *file = mm ? mm->exe_file : NULL;

	entry->flags &= ~(KP_PROCESS_PATH_CUT | KP_PROCESS_PATH_UNREADABLE | KP_PROCESS_KERNEL);
	begin_path(path);
	if (file)
		file_path(path, file);
	else if (task->flags & PF_KTHREAD)
		entry->flags |= KP_PROCESS_KERNEL;
	copy_path(entry->path, path);
	entry->base = path->base - path->at;
	if (path->cut)
		entry->flags |= KP_PROCESS_PATH_CUT;
	if (path->base >= KP_PATH_LEN - 1 && !(entry->flags & KP_PROCESS_KERNEL))
		entry->flags |= KP_PROCESS_PATH_UNREADABLE;
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
	if (from && from->id.start_ns && from->seen == state.living) { /* it runs what its parent runs */
		entry->legacy = from->legacy;
		entry->base = from->base;
		entry->flags |= from->flags & (KP_PROCESS_PATH_CUT | KP_PROCESS_PATH_UNREADABLE | KP_PROCESS_KERNEL);
		bpf_probe_read_kernel(entry->path, KP_PATH_LEN, from->path); /* it can't fail: it reads a map */
	} else {
		set_path(entry, &scratch->path, child);
	}
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
	kept->length = length;
	if (length > KP_PATH_LEN)
		length = KP_PATH_LEN;
	kept->unreadable = bpf_probe_read_user(kept->text, length, (void *)start) != 0;
	BARRIER();
	kept->start_ns = id->start_ns;
	kept->start_again_ns = id->start_ns;
}

SEC("tp_btf/sched_process_exec")
int table_exec(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct kp_process_id id;
	struct kp_process_entry *entry;
	struct scratch *scratch;
	struct kp_image *image;
	__u64 now;
	__u32 slot, *counter;

	if (silent())
		return 0;
	scratch = scratch_of(USER_EXEC);
	if (!scratch)
		return 0;
	id = id_of(task);
	now = bpf_ktime_get_boot_ns();
	entry = bpf_map_lookup_elem(&processes, &id);
	if (!entry) {
		if (insert(&id, &blank_process, KP_TABLE_FOUND))
			return 0;
		entry = bpf_map_lookup_elem(&processes, &id);
		if (!entry)
			return 0;
		entry->flags = KP_PROCESS_FOUND;
		describe(entry, task);
		set_path(entry, &scratch->path, task);
		entry->exec_ns = now;
		entry->execs = 1;
		entry->earlier[0].until_ns = now;
		publish(entry, &id);
	} else {
		begin_change(entry);
		slot = entry->execs % KP_EARLIER;
		image = &entry->earlier[slot];
		image->until_ns = now;
		bpf_probe_read_kernel(image->base, KP_BASE_LEN, &entry->path[entry->base % KP_PATH_LEN]); /* it can't fail: it reads a map */
		set_path(entry, &scratch->path, task);
		describe_owner(entry, task);
		entry->exec_ns = now;
		entry->execs++;
		end_change(entry);
	}
	if (state.with_arguments)
		keep_arguments(&id, task);
	slot = id.tgid % KP_EXECS;
	counter = bpf_map_lookup_elem(&execs, &slot);
	if (counter)
		__sync_fetch_and_add(counter, 1);
	__sync_fetch_and_add(&state.execs, 1);
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

	if (silent() || task->signal->live.counter != 0) /* other threads live on */
		return 0;
	id = id_of(task);
	entry = bpf_map_lookup_elem(&processes, &id);
	if (entry)
		end(entry, &id, task);
	return 0;
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

#define CONTAINER_ID_LEN 64

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
	if (!scratch || put_cgroup(scratch, &id, (const char *)ctx[1]) <= CONTAINER_ID_LEN)
		return 0;
	process = id_of(task);
	entry = bpf_map_lookup_elem(&processes, &process);
	if (entry)
		entry->legacy = id;
	return 0;
}

/* Puts a cgroup in that was there before, with the path made of its names. Returns the length of the path. */
static __always_inline __u32 find_cgroup(struct scratch *scratch, struct cgroup *cgroup, const struct kp_cgroup_id *id)
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
	return KP_PATH_LEN - 1 - scratch->path.at;
}

#define MAX_HIERARCHIES 32

/*
 * Looks at the next cgroup of a process that was there before, and says whether there is one. A function of its own, with
 * what it goes on from in memory, so that the verifier reads it once and not for each step.
 */
__noinline int find_next_cgroup(__u32 user)
{
	struct scratch *scratch = scratch_of(user);
	struct cgrp_cset_link *link;
	struct kp_cgroup_id id;
	struct cgroup *cgroup;
	void *at;

	if (!scratch)
		return 0;
	at = (void *)scratch->next;
	if (!at || at == (void *)scratch->last)
		return 0;
	link = at - bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
	cgroup = BPF_CORE_READ(link, cgrp);
	id = cgroup_id_of(cgroup);
	if (find_cgroup(scratch, cgroup, &id) > CONTAINER_ID_LEN && id.hierarchy)
		scratch->entry.legacy = id;
	scratch->next = (__u64)BPF_CORE_READ(link, cgrp_link.next);
	return 1;
}

static __always_inline void find_cgroups(struct scratch *scratch, struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);

	scratch->next = (__u64)BPF_CORE_READ(set, cgrp_links.next);
	scratch->last = (__u64)set + bpf_core_field_offset(struct css_set, cgrp_links);
	for (int i = 0; i < MAX_HIERARCHIES; i++)
		if (!find_next_cgroup(USER_FILL))
			return;
}

/* Whether two paths are the same. A function of its own, so that the verifier reads its loop once for each caller. */
static __noinline bool same_path(const char *path, const char *other)
{
	for (int i = 0; i < KP_PATH_LEN; i++) {
		if (path[i] != other[i])
			return false;
		if (!path[i])
			return true;
	}
	return true;
}

/* What is to be seen of a process that was there before, in scratch->entry. */
static __always_inline void find(struct scratch *scratch, struct task_struct *task)
{
	struct kp_process_entry *entry = &scratch->entry;

	__builtin_memset(entry, 0, sizeof(*entry));
	entry->flags = KP_PROCESS_FOUND;
	describe(entry, task);
	set_path(entry, &scratch->path, task);
	find_cgroups(scratch, task);
}

/*
 * Takes over what is to be seen now of a process whose entry nobody has kept for a while. If it has executed another program,
 * it is not known when, nor with what arguments, nor what it ran between the two.
 */
static __always_inline void renew(struct kp_process_entry *entry, const struct kp_process_id *id,
				  const struct kp_process_entry *found, struct mm_struct *mm)
{
	struct kp_arguments *kept = bpf_map_lookup_elem(&arguments, id);
	bool same = found->flags & KP_PROCESS_PATH_UNREADABLE /* such as that of one which is ending */ ||
		    same_path(entry->path, found->path);

	if (kept && (!same || (mm && kept->length != (__u32)(mm->arg_end - mm->arg_start))))
		kept->start_ns = 0;
	begin_change(entry);
	entry->legacy = found->legacy;
	if (!same) {
		bpf_probe_read_kernel(entry->path, KP_PATH_LEN, found->path); /* it can't fail: it reads a map */
		entry->base = found->base;
		entry->flags = found->flags;
		__builtin_memcpy(entry->comm, found->comm, sizeof(entry->comm));
		entry->cgroup_id = found->cgroup_id;
		entry->uid = found->uid;
		entry->exec_ns = bpf_ktime_get_boot_ns();
		entry->execs = 1;
		entry->earlier[0].until_ns = entry->exec_ns;
		entry->earlier[0].base[0] = 0;
	}
	end_change(entry);
}

#define RENEWALS 2 /* an exec takes longer than one */

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
	struct mm_struct *mm;

	if (!task || task->pid != task->tgid)
		return 0;
	scratch = scratch_of(USER_FILL);
	if (!scratch)
		return 0;
	id = id_of(task);
	entry = bpf_map_lookup_elem(&processes, &id);
	if (entry && !entry->id.start_ns) /* another program is about to make it an answer */
		return 0;
	if (!entry) {
		find(scratch, task);
		publish(&scratch->entry, &id);
		if (insert(&id, &scratch->entry, KP_TABLE_FOUND))
			return 0;
		entry = bpf_map_lookup_elem(&processes, &id);
		if (!entry)
			return 0;
	} else if (!state.since_ns && !entry->exit_ns) {
		for (int i = 0; i < RENEWALS; i++) {
			mm = task->mm;
			find(scratch, task);
			renew(entry, &id, &scratch->entry, mm);
			BARRIER();
			if (task->mm == mm) /* else it executes just now, and what is older may have come last */
				break;
		}
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

/* Answers question number index. A function of its own, so that the verifier reads it once and not for each step. */
__noinline int answer(__u32 index)
{
	struct kp_question *question = bpf_map_lookup_elem(&questions, &index);
	struct kp_answer *answer = bpf_map_lookup_elem(&answers, &index);
	struct kp_process_entry *entry;
	struct kp_arguments *kept;
	struct kp_process_id id;
	__u32 version;

	if (!question || !answer)
		return 0;
	id = question->id;
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
	question->answered = KP_ANSWERED_YES;
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
