/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Pushing events into the queue of a bpf_queue exporter from a BPF program of yours.
 *
 * Include vmlinux.h (or <linux/bpf.h> and <linux/types.h>) and <bpf/bpf_helpers.h> first. When you load your
 * program, let its maps kp_lanes and kp_books be the ones that the exporter has pinned, for the queue "handoff":
 *
 *	d=/sys/fs/bpf/kernelpipe/queue@handoff/queue-books
 *	bpftool prog loadall yours.o /sys/fs/bpf/yours autoattach \
 *		map name kp_lanes pinned $d/lanes map name kp_books pinned $d/books
 *
 * In programs of any type that is not sleepable; a program that runs in NMI may find the queue locked.
 * An example: examples/push.
 */
#ifndef KERNELPIPE_PUSH_H
#define KERNELPIPE_PUSH_H

#include "event.h"
#include "queue.h"

/* The lanes that are pushed to now: the exporter puts others in when its configuration changes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, KP_MAX_LANES);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_QUEUE);
		__uint(max_entries, 1);
		__uint(value_size, sizeof(struct kp_enriched));
	});
} kp_lanes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, 1024); /* BPF_F_MMAPABLE */
	__type(key, __u32);
	__type(value, struct kp_books);
} kp_books SEC(".maps");

enum kp_pushed {
	KP_PUSHED = 0,
	KP_DROPPED = 1, /* the lane is full, or locked in NMI; counted as dropped_newest */
	KP_REFUSED = 2, /* the queue has another format than this header; nothing is counted */
};

/*
 * Pushes one event and counts it. Events with the same key stay in order: use the tgid, say. The event must have
 * its version and category set, and, where you know it, exec_number: KP_EXEC_NUMBER(task->self_exec_id). An event without context is one whose context is all zero.
 */
static __attribute__((always_inline)) inline enum kp_pushed kp_push(const struct kp_enriched *event, __u32 key)
{
	struct kp_books *books;
	struct kp_lane *lane;
	__u32 zero = 0, number;
	void *queue;

	books = bpf_map_lookup_elem(&kp_books, &zero);
	if (!books || books->format != KP_QUEUE_FORMAT || books->element_size != sizeof(*event) || !books->lanes)
		return KP_REFUSED;
	number = key % books->lanes;
	queue = bpf_map_lookup_elem(&kp_lanes, &number);
	if (!queue) { /* the number of lanes has just changed */
		number = 0;
		queue = bpf_map_lookup_elem(&kp_lanes, &number);
	}
	if (!queue)
		return KP_REFUSED;
	lane = &books->lane[number & (KP_MAX_LANES - 1)];
	if (bpf_map_push_elem(queue, event, 0)) {
		__sync_fetch_and_add(&lane->dropped_newest, 1);
		__sync_fetch_and_add(&books->received, 1);
		return KP_DROPPED;
	}
	__sync_fetch_and_add(&lane->pushed, 1);
	__sync_fetch_and_add(&books->received, 1);
	return KP_PUSHED;
}

#endif
