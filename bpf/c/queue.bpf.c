// SPDX-License-Identifier: Apache-2.0
/*
 * The queue of a stage: push and pop move a whole batch in one run, and keep the books in the same run.
 * A process can be killed between two runs but never inside one, so queue and books always agree.
 *
 * The programs are raw_tp, attached to nothing and run by BPF_PROG_TEST_RUN: syscall programs are sleepable
 * and may use queue maps only on newer kernels. Sizes of elements and lanes are set at load time; nothing
 * here knows what an element is.
 */
#include "kernel.h"
#include "queue.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* One queue per lane. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, KP_MAX_LANES);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_QUEUE);
		__uint(max_entries, 1);
		__uint(value_size, 128);
	});
} lanes SEC(".maps");

/* What is to be pushed: KP_BATCH times a verdict and an element. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_BATCH);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(key_size, 4);
	__uint(value_size, 8 + 128);
} outgoing SEC(".maps");

/* What was popped and is not yet delivered: KP_BATCH elements for each lane. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_BATCH);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(key_size, 4);
	__uint(value_size, 128);
} in_flight SEC(".maps");

/* Room for one element that is thrown away. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 128);
} discarded SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_books);
} books SEC(".maps");

#define ADD(counter, n) __sync_fetch_and_add(&(counter), (n))

/* Makes room in a full lane by throwing its oldest element away, counted. */
static __always_inline void drop_oldest(void *queue, struct kp_lane *lane)
{
	__u32 zero = 0;
	void *element = bpf_map_lookup_elem(&discarded, &zero);

	if (element && !bpf_map_pop_elem(queue, element))
		ADD(lane->dropped_oldest, 1);
}

/* Elements that wait in a lane. What others push is in the queue a moment before it is counted: hence the sign. */
static __always_inline __s64 waiting(struct kp_lane *lane)
{
	return lane->pushed - lane->popped - lane->dropped_oldest - lane->lost_queued;
}

/* Says whether the element is settled: in the queue, or dropped and counted. */
static __always_inline bool push_element(struct kp_books *book, struct kp_outgoing *entry, __u32 on_full)
{
	__u32 number = entry->verdict, limit = entry->limit;
	struct kp_lane *lane = &book->lane[number & (KP_MAX_LANES - 1)];
	void *queue = bpf_map_lookup_elem(&lanes, &number);
	void *element = entry->element;
	long error;

	if (!queue)
		return false;
	if (limit && waiting(lane) >= limit) {
		ADD(lane->dropped_over_limit, 1);
		return true;
	}
	error = bpf_map_push_elem(queue, element, BPF_ANY);
	if (error && on_full == KP_DROP_OLDEST) {
		drop_oldest(queue, lane);
		error = bpf_map_push_elem(queue, element, BPF_ANY);
	}
	if (error && on_full == KP_BLOCK)
		return false;
	if (error)
		ADD(lane->dropped_newest, 1);
	else
		ADD(lane->pushed, 1);
	return true;
}

/*
 * Settles entry number index of outgoing; 0 when it has to wait for room. A function of its own, so that
 * the verifier reads it once and not for each step of the loop below.
 */
__noinline int settle(__u32 index, __u32 on_full)
{
	struct kp_outgoing *entry = bpf_map_lookup_elem(&outgoing, &index);
	struct kp_books *book;
	__u32 zero = 0;

	book = bpf_map_lookup_elem(&books, &zero);
	if (!entry || !book)
		return 0;
	switch (entry->verdict) {
	case KP_SKIPPED:
		ADD(book->redelivered, 1);
		return 1;
	case KP_FILTERED:
		ADD(book->filtered, 1);
		break;
	case KP_DEAD_LETTERED:
		ADD(book->dead_lettered, 1);
		break;
	default:
		if (!push_element(book, entry, on_full))
			return 0;
	}
	ADD(book->received, 1);
	return 1;
}

/*
 * Settles the entries of outgoing from args[0] to args[1] (exclusive), in order. Entry 0 is number args[3]
 * of the source in slot args[2] (KP_SOURCES: of none). args[4] is enum kp_on_full. Returns the first entry
 * that is not settled: less than args[1] when a lane is full and on_full is KP_BLOCK.
 */
SEC("raw_tp")
int push(__u64 *args)
{
	__u64 end = args[1], source = args[2], sequence = args[3];
	__u32 first = args[0], on_full = args[4], zero = 0, i;
	struct kp_books *book;

	book = bpf_map_lookup_elem(&books, &zero);
	if (!book)
		return first;
	for (i = 0; i < KP_BATCH; i++)
		if (first + i >= end || !settle(first + i, on_full))
			break;
	settle_source(book->source, source, sequence + first + i);
	return first + i;
}

/*
 * Moves up to args[1] elements of lane args[0] into its part of in_flight, and returns their number. As
 * long as elements are in flight there it moves nothing and returns their number. args[2] is the generation
 * of this queue; what is in flight in another one is none of its business, and it moves nothing then.
 */
SEC("raw_tp")
int pop(__u64 *args)
{
	__u64 max = args[1], generation = args[2];
	__u32 number = args[0], zero = 0, i;
	struct kp_books *book;
	struct kp_lane *lane;
	void *queue;

	book = bpf_map_lookup_elem(&books, &zero);
	if (!book || number >= KP_MAX_LANES)
		return 0;
	lane = &book->lane[number];
	if (lane->in_flight)
		return lane->generation == generation ? lane->in_flight : 0;
	queue = bpf_map_lookup_elem(&lanes, &number);
	if (!queue)
		return 0;
	for (i = 0; i < KP_BATCH; i++) {
		__u32 index = number * KP_BATCH + i;
		void *element;

		if (i >= max)
			break;
		element = bpf_map_lookup_elem(&in_flight, &index);
		if (!element || bpf_map_pop_elem(queue, element))
			break;
	}
	lane->popped += i;
	lane->generation = generation;
	lane->in_flight = i;
	return i;
}
