// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/*
 * An example of a program that pushes events of its own into the queue of a bpf_queue exporter: one event for
 * each process that executes a program. To try it, with the exporter's name "handoff":
 *
 *	clang -O2 -g -target bpf -I/usr/include/$(uname -m)-linux-gnu -c push.bpf.c -o push.o
 *	d=/sys/fs/bpf/kernelpipe/queue@handoff/queue-books
 *	bpftool prog loadall push.o /sys/fs/bpf/push autoattach \
 *		map name kp_lanes pinned $d/lanes map name kp_books pinned $d/books
 *
 * and to end it: rm -r /sys/fs/bpf/push
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "../../../bpf/c/push.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* An event is too large for the stack beside anything else. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kp_enriched);
} scratch SEC(".maps");

SEC("raw_tp/sched_process_exec")
int executed(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), owner = bpf_get_current_uid_gid();
	struct kp_enriched *enriched;
	struct kp_event *event;
	__u32 zero = 0;

	enriched = bpf_map_lookup_elem(&scratch, &zero);
	if (!enriched)
		return 0;
	__builtin_memset(enriched, 0, sizeof(*enriched));
	event = &enriched->event;
	event->version = KP_EVENT_VERSION;
	event->category = KP_CATEGORY_PROCESS;
	event->operation = KP_PROCESS_EXEC;
	event->priority = KP_PRIORITY_HIGH;
	event->time_ns = bpf_ktime_get_boot_ns();
	event->process.tgid = id >> 32;
	event->process.tid = id;
	event->process.uid = owner;
	event->process.gid = owner >> 32;
	event->process.cgroup_id = bpf_get_current_cgroup_id();
	if (bpf_get_current_comm(event->process.comm, sizeof(event->process.comm)))
		event->process.comm[0] = 0;
	/* What does not fit is counted in the queue's own books. */
	kp_push(enriched, event->process.tgid);
	return 0;
}
