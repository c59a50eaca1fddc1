// SPDX-License-Identifier: Apache-2.0
/*
 * The stats map, and the program that adds a batch to it: all deltas, and the note of how far the source
 * has been counted, in one run. Whatever kills the process, a batch is in the totals once or not at all.
 */
#include "kernel.h"
#include "stats.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Preallocated: its size is known from the start, and tracing programs of older kernels want it so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct kp_series);
	__type(value, struct kp_totals);
} stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_DELTAS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_delta);
} deltas SEC(".maps");

/* A value to make a series from: too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kp_totals);
} empty SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_stats_books);
} stats_books SEC(".maps");

#define ADD(counter, n) __sync_fetch_and_add(&(counter), (n))

/* The totals of a series, made when it is new; NULL when the map is full. */
static __always_inline struct kp_totals *totals_of(const struct kp_series *series, __u64 now, struct kp_stats_books *book)
{
	struct kp_totals *totals = bpf_map_lookup_elem(&stats, series);
	__u32 zero = 0;

	if (totals)
		return totals;
	totals = bpf_map_lookup_elem(&empty, &zero);
	if (!totals || bpf_map_update_elem(&stats, series, totals, BPF_NOEXIST))
		return NULL;
	totals = bpf_map_lookup_elem(&stats, series);
	if (!totals)
		return NULL;
	totals->since_ns = now;
	totals->shortest_ns = ~0ULL;
	ADD(book->series, 1);
	return totals;
}

static __always_inline void add_durations(struct kp_totals *totals, const struct kp_delta *delta)
{
	ADD(totals->timed, delta->timed);
	ADD(totals->duration_ns, delta->duration_ns);
	if (delta->timed && delta->shortest_ns < totals->shortest_ns)
		totals->shortest_ns = delta->shortest_ns;
	if (delta->timed && delta->longest_ns > totals->longest_ns)
		totals->longest_ns = delta->longest_ns;
	for (int i = 0; i < KP_DELTA_BUCKETS; i++) {
		__u32 bucket = delta->bucket[i].bucket;

		if (i >= delta->buckets || bucket >= KP_BUCKETS)
			break;
		ADD(totals->bucket[bucket], delta->bucket[i].count);
	}
}

/*
 * Adds delta number index; 0 when the map is full. One user-space process adds, one run at a time; the adds
 * are atomic for the sake of readers. A function of its own, so that the verifier reads it once and not for
 * each step of the loop below.
 */
__noinline int add_delta(__u32 index, __u64 now)
{
	struct kp_delta *delta = bpf_map_lookup_elem(&deltas, &index);
	struct kp_stats_books *book;
	struct kp_totals *totals;
	__u32 zero = 0;

	book = bpf_map_lookup_elem(&stats_books, &zero);
	if (!delta || !book)
		return 0;
	totals = totals_of(&delta->series, now, book);
	if (!totals)
		return 0;
	totals->last_ns = now;
	ADD(totals->events, delta->events);
	ADD(totals->bytes, delta->bytes);
	add_durations(totals, delta);
	return 1;
}

/*
 * Adds the first args[0] deltas, made of args[3] events up to number args[2] (exclusive) of the source in
 * slot args[1] (KP_SOURCES: of none). Returns how many deltas it added: fewer when the map is full,
 * and then the source is not advanced.
 */
SEC("raw_tp")
int add_deltas(__u64 *args)
{
	__u64 count = args[0], source = args[1], next = args[2], events = args[3];
	__u64 now = bpf_ktime_get_boot_ns();
	struct kp_stats_books *book;
	__u32 zero = 0, i;

	book = bpf_map_lookup_elem(&stats_books, &zero);
	if (!book)
		return 0;
	for (i = 0; i < KP_DELTAS; i++) {
		if (i >= count)
			break;
		if (!add_delta(i, now))
			return i;
	}
	ADD(book->events, events);
	if (source < KP_SOURCES)
		book->source[source & (KP_SOURCES - 1)].next = next;
	return i;
}
