/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A path, that of a cgroup or of a file (see table_program.h), written from its end. Such names have no length that is known before,
 * and their ends are what matters: where there is no room for all of it, the beginning is left out.
 */
#ifndef KERNELPIPE_PATH_H
#define KERNELPIPE_PATH_H

#define MAX_COMPONENTS 64

/* Room for a path, and behind it for the longest component, so that the verifier sees that each fits. */
struct path_text {
	char text[2 * KP_PATH_LEN];
	__u32 at;   /* where it begins; it ends at KP_PATH_LEN - 1 with a NUL */
	__u32 base; /* where its last component begins */
	__u64 mount, dentry; /* what comes next, above the mount of a file; no dentry: its mount is the next */
	bool cut;
};

/* Keeps at below KP_PATH_LEN in a way that the compiler can't find needless: the verifier needs it. */
#define BOUND(at) asm volatile("%0 &= 255" : "+r"(at))

/* Puts a component in front, and a slash in front of that. Says whether there was room for it. */
static __always_inline bool prepend(struct path_text *to, const void *name, __u64 length)
{
	__u64 at = to->at;
	bool last = at == KP_PATH_LEN - 1;

	if (length >= at && !(last && length == at)) {
		to->cut = true;
		return false;
	}
	at -= length;
	BOUND(at);
	BOUND(length);
	if (bpf_probe_read_kernel(&to->text[at], length, name)) {
		to->cut = true;
		return false;
	}
	to->at = at;
	if (last)
		to->base = at;
	if (!at) { /* a base name without room for the slash */
		to->cut = true;
		return false;
	}
	at--;
	BOUND(at);
	to->text[at] = '/';
	to->at = at;
	return true;
}

static __always_inline void begin_path(struct path_text *to)
{
	to->at = KP_PATH_LEN - 1;
	to->base = KP_PATH_LEN - 1;
	to->cut = false;
	to->text[KP_PATH_LEN - 1] = 0;
}

/* Copies the path with its NUL. */
static __always_inline void copy_path(char *to, struct path_text *from)
{
	__u64 at = from->at;

	BOUND(at);
	bpf_probe_read_kernel(to, KP_PATH_LEN - at, &from->text[at]); /* it can't fail: it reads a map */
}

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	struct kernfs_node___before_6_15 *older = (void *)node;

	if (bpf_core_field_exists(older->parent))
		return BPF_CORE_READ(older, parent);
	return BPF_CORE_READ(node, __parent);
}

/* The path of a cgroup in its hierarchy; component is room for one. */
static __always_inline void cgroup_path(struct path_text *to, char *component, struct kernfs_node *node)
{
	begin_path(to);
	for (int i = 0; i < MAX_COMPONENTS; i++) {
		struct kernfs_node *parent = parent_of(node);
		long length;

		if (!parent) { /* the root */
			if (to->at == KP_PATH_LEN - 1)
				prepend(to, component, 0);
			return;
		}
		length = bpf_probe_read_kernel_str(component, KP_PATH_LEN, BPF_CORE_READ(node, name));
		if (length <= 1 || !prepend(to, component, length - 1)) {
			to->cut = true;
			return;
		}
		node = parent;
	}
	to->cut = true;
}

#endif
