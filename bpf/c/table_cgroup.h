/* SPDX-License-Identifier: Apache-2.0 */
/* The cgroups: their paths, and which of them a process is in. */
#ifndef KERNELPIPE_TABLE_CGROUP_H
#define KERNELPIPE_TABLE_CGROUP_H

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

#endif
