// SPDX-License-Identifier: Apache-2.0
/*
 * The simulator: makes events in the kernel and submits them to the probes' ring buffer. Event i is a
 * function of the seed and i alone, so a run can be repeated; how far it has come is kept here, so a run
 * that is killed goes on to its last event and not beyond.
 */
#include "kernel.h"
#include "event.h"
#include "settings.h"
#include "emit.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Keeps the structs of the wire format in an object's BTF, for the test that holds the Go view against them. */
const struct kp_dead_letter *wire_format SEC(".wire_format") __attribute__((unused));

#define SIMULATE_BATCH 1024

struct kp_simulation {
	__u64 seed;
	__u64 events; /* how many in all */
	__u64 next;   /* the next one's number */
	__u32 pid_min;
	__u32 pids;
	__u32 weights; /* the sum of weight */
	__u32 reserved;
	__u32 weight[8]; /* by category */
};

struct kp_simulation simulation SEC(".data.simulation");

/* splitmix64, by Sebastiano Vigna: a full-period mix of a counter. */
static __always_inline __u64 mix(__u64 x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static __always_inline __u32 pick_category(__u64 random)
{
	__u32 point = random % simulation.weights;

	for (__u32 category = KP_CATEGORY_SYSCALL; category < KP_CATEGORY_PROCESS; category++) {
		if (point < simulation.weight[category])
			return category;
		point -= simulation.weight[category];
	}
	return KP_CATEGORY_PROCESS;
}

/* Operations of a category, counted from 1; of the system calls, numbers 1 to 8 serve. */
static __always_inline __u32 operations_of(__u32 category)
{
	return category == KP_CATEGORY_SYSCALL ? 8 : category == KP_CATEGORY_PROCESS ? KP_PROCESS_EXIT : KP_NETWORK_RECEIVE;
}

static __always_inline bool moves_bytes(__u32 category, __u32 operation)
{
	return (category == KP_CATEGORY_NETWORK && operation >= KP_NETWORK_SEND) ||
	       (category == KP_CATEGORY_FILESYSTEM && (operation == KP_FILESYSTEM_READ || operation == KP_FILESYSTEM_WRITE));
}

static __always_inline void fill(struct kp_event *event, __u64 random)
{
	__u32 pid = simulation.pid_min + (__u32)(random >> 32) % simulation.pids;
	__u32 category = event->category, operation = event->operation;
	__u64 more = mix(random);

	event->flags = KP_FLAG_SIMULATED;
	event->process.tgid = event->process.tid = pid;
	event->process.start_ns = pid; /* any fixed number: a simulated process never ends */
	event->exec_number = 1;        /* nor does it execute another program */
	event->process.uid = pid % 4 ? 1000 + pid % 4 : 0;
	__builtin_memcpy(event->process.comm, "simulated-0", 12);
	event->process.comm[10] += pid % 10;
	event->duration_ns = category == KP_CATEGORY_PROCESS ? 0 : (1ULL << (8 + more % 20)) + (more >> 54);
	if (moves_bytes(category, operation))
		event->bytes = event->result = (more >> 8) & 4095;
	if (category != KP_CATEGORY_PROCESS && !((more >> 24) & 15)) {
		event->bytes = 0;
		event->result = -2; /* ENOENT */
	}
	if (category == KP_CATEGORY_NETWORK) {
		event->network.family = AF_INET;
		event->network.protocol = IPPROTO_TCP;
		event->network.local_port = 32768 + (more >> 32) % 16384;
		event->network.remote_port = 443;
		event->network.local_address[0] = event->network.remote_address[0] = 127;
		event->network.local_address[3] = event->network.remote_address[3] = 1;
	} else if (category == KP_CATEGORY_PROCESS && operation == KP_PROCESS_FORK) {
		event->lifecycle.child_tgid = pid + 1;
	} else if (category == KP_CATEGORY_FILESYSTEM || (category == KP_CATEGORY_PROCESS && operation == KP_PROCESS_EXEC)) {
		__builtin_memcpy(event->name, "/simulated", 11);
	}
}

/*
 * Makes the next event; 0 at the end, and when the ring buffer is full (nothing is lost then). A function
 * of its own, so that the verifier reads it once and not for each step of the loop below.
 */
__noinline int simulate_one(void)
{
	__u64 number = simulation.next, random = mix(simulation.seed ^ mix(number));
	struct kp_counts *counts;
	struct kp_event *event;
	__u32 category;

	if (number >= simulation.events || !simulation.weights || !simulation.pids)
		return 0;
	category = pick_category(random);
	counts = bpf_map_lookup_elem(&counters, &category);
	if (!counts)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = bpf_ktime_get_boot_ns();
	event->category = category;
	event->operation = 1 + (random >> 16) % operations_of(category);
	event->version = KP_EVENT_VERSION;
	fill(event, random);
	ADD(counts->produced, 1);
	simulation.next = number + 1;
	submit(event);
	return 1;
}

/* Makes up to args[0] events and returns how many. */
SEC("raw_tp")
int simulate(__u64 *args)
{
	__u64 count = args[0];
	int i;

	for (i = 0; i < SIMULATE_BATCH; i++)
		if (i >= count || !simulate_one())
			break;
	return i;
}
