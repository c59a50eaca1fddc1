// SPDX-License-Identifier: Apache-2.0
/*
 * The stats map and the programs that change it. Each does in one run what must not be done by halves:
 *
 *   add_deltas     adds a batch: all its deltas, and the note of how far the source has been counted
 *   move_series    adds series to others and removes them
 *   retire_series  removes series, and keeps the sum of what they had in the view's books: as uncertain, too, if told to
 *
 * Whatever kills the process, a batch is in the totals once or not at all, and the books balance. One
 * user-space process runs the programs, one at a time; readers look on at any time.
 */
#include "kernel.h"
#include "stats.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Preallocated: its size is known from the start, and tracing programs of older kernels want it so. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct kp_series_id);
	__type(value, struct kp_entry);
} stats SEC(".maps");

/* The programs' arguments: deltas, or series in their id field. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_DELTAS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_delta);
} deltas SEC(".maps");

/* What to make of a delta's series if it is new: at the delta's index. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_DELTAS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_series);
} newcomers SEC(".maps");

/* An entry in the making: too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kp_entry);
} draft SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_stats_books);
} stats_books SEC(".maps");

/* No program reads it: it is pinned with what it describes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_description);
} sealed SEC(".maps");

static __always_inline struct kp_stats_books *books(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&stats_books, &zero);
}

/*
 * The functions that the loops below call are global ones, so that the verifier reads each once and not for
 * every step of a loop. They return 0 when they can't do their work.
 */

/* Makes the series of delta number index if it is new. Readers see it whole or not at all. */
__noinline int make_series(__u32 index, __u64 unix_now)
{
	struct kp_delta *delta = bpf_map_lookup_elem(&deltas, &index);
	struct kp_series *series = bpf_map_lookup_elem(&newcomers, &index);
	struct kp_stats_books *book = books();
	struct kp_entry *entry;
	__u32 zero = 0;

	if (!delta || !series || !book)
		return 0;
	if (bpf_map_lookup_elem(&stats, &delta->id))
		return 1;
	entry = bpf_map_lookup_elem(&draft, &zero);
	if (!entry)
		return 0;
	entry->series = *series;
	entry->totals.since_unix_ns = unix_now;
	entry->totals.shortest_ns = ~0ULL; /* the rest is 0 and stays so */
	if (bpf_map_update_elem(&stats, &delta->id, entry, BPF_NOEXIST))
		return 0;
	book->series++;
	return 1;
}

static __always_inline __u64 sum_of(__u64 sum, __u64 more)
{
	return sum > KP_MOST || more > KP_MOST - sum ? KP_MOST : sum + more;
}

static __always_inline void add_durations(struct kp_totals *totals, const struct kp_delta *delta)
{
	totals->timed = sum_of(totals->timed, delta->timed);
	totals->duration_ns = sum_of(totals->duration_ns, delta->duration_ns);
	if (delta->timed && delta->shortest_ns < totals->shortest_ns)
		totals->shortest_ns = delta->shortest_ns;
	if (delta->timed && delta->longest_ns > totals->longest_ns)
		totals->longest_ns = delta->longest_ns;
	for (int i = 0; i < KP_DELTA_BUCKETS; i++) {
		__u32 bucket = delta->bucket[i].bucket;

		if (i >= delta->buckets || bucket >= KP_BUCKETS)
			break;
		totals->bucket[bucket] += delta->bucket[i].count;
	}
}

/* Adds delta number index to its series, which is there: made before, or as user space says. */
__noinline int add_delta(__u32 index, __u64 now)
{
	struct kp_delta *delta = bpf_map_lookup_elem(&deltas, &index);
	struct kp_stats_books *book = books();
	struct kp_totals *totals;
	struct kp_entry *entry;
	struct kp_view *view;

	if (!delta || !book)
		return 0;
	entry = bpf_map_lookup_elem(&stats, &delta->id);
	if (!entry) {
		delta->state = KP_DELTA_LOST;
		return 0;
	}
	totals = &entry->totals;
	totals->last_ns = now;
	totals->events = sum_of(totals->events, delta->events);
	totals->bytes = sum_of(totals->bytes, delta->bytes);
	add_durations(totals, delta);
	if (totals->bytes == KP_MOST || totals->duration_ns == KP_MOST)
		book->saturated++;
	view = &book->view[entry->series.view & (KP_VIEWS - 1)];
	view->events = sum_of(view->events, delta->events);
	view->bytes = sum_of(view->bytes, delta->bytes);
	return 1;
}

/* Sees to it that the series of delta number index is there, unless user space says that it is. */
__noinline int prepare(__u32 index, __u64 unix_now)
{
	struct kp_delta *delta = bpf_map_lookup_elem(&deltas, &index);

	if (!delta)
		return 0;
	return delta->state == KP_DELTA_KNOWN || make_series(index, unix_now);
}

/*
 * As prepare, for the first count deltas. In the caller its loop would have the verifier read what follows anew for each
 * step.
 */
__noinline int prepare_all(__u64 count, __u64 unix_now)
{
	for (__u32 i = 0; i < KP_DELTAS; i++) {
		if (i >= count)
			break;
		if (!prepare(i, unix_now))
			return 0;
	}
	return 1;
}

/*
 * Adds the first args[0] deltas, made of args[3] events up to number args[2] (exclusive) of the source in
 * slot args[1] (KP_SOURCES: of none), at args[4] of the wall clock. Returns 0 when a series finds no room, and
 * then nothing has been added; else 1 more than the number of deltas that are lost, as their series was not there
 * though it had to be: somebody else has removed it.
 */
SEC("raw_tp")
int add_deltas(__u64 *args)
{
	__u64 count = args[0], unix_now = args[4];
	__u64 now = bpf_ktime_get_boot_ns();
	struct kp_stats_books *book;
	int lost = 0;

	if (!prepare_all(count, unix_now))
		return 0;
	for (__u32 i = 0; i < KP_DELTAS; i++) {
		if (i >= count)
			break;
		if (!add_delta(i, now))
			lost++;
	}
	book = books(); /* only now: what a loop keeps in memory, older kernels forget */
	if (!book)
		return 0;
	book->events += args[3];
	settle_source(book->source, args[1], args[2]);
	return 1 + lost;
}

/* Moves the series in delta number from into that in delta number to. */
__noinline int move_one(__u32 from, __u32 to, __u64 unix_now)
{
	struct kp_delta *source = bpf_map_lookup_elem(&deltas, &from);
	struct kp_delta *target = bpf_map_lookup_elem(&deltas, &to);
	struct kp_entry *moving, *into;
	struct kp_totals *old, *totals;

	if (!source || !target)
		return 0;
	if (!bpf_map_lookup_elem(&stats, &source->id))
		return 1;
	if (!make_series(to, unix_now))
		return 0;
	moving = bpf_map_lookup_elem(&stats, &source->id);
	into = bpf_map_lookup_elem(&stats, &target->id);
	if (!moving || !into || moving == into)
		return 0;
	old = &moving->totals;
	totals = &into->totals;
	if (old->since_unix_ns < totals->since_unix_ns)
		totals->since_unix_ns = old->since_unix_ns;
	if (old->last_ns > totals->last_ns)
		totals->last_ns = old->last_ns;
	totals->events = sum_of(totals->events, old->events);
	totals->bytes = sum_of(totals->bytes, old->bytes);
	totals->timed = sum_of(totals->timed, old->timed);
	totals->duration_ns = sum_of(totals->duration_ns, old->duration_ns);
	if (old->shortest_ns < totals->shortest_ns)
		totals->shortest_ns = old->shortest_ns;
	if (old->longest_ns > totals->longest_ns)
		totals->longest_ns = old->longest_ns;
	for (int i = 0; i < KP_BUCKETS; i++)
		totals->bucket[i] += old->bucket[i];
	return !bpf_map_delete_elem(&stats, &source->id);
}

/* Moves the series in the deltas 0, 2, 4, …, args[0] of them, into those in the deltas 1, 3, 5, …. Returns how many. */
SEC("raw_tp")
int move_series(__u64 *args)
{
	__u64 count = args[0], unix_now = args[1];
	__u32 i;

	for (i = 0; i < KP_DELTAS / 2; i++) {
		if (i >= count || !move_one(2 * i, 2 * i + 1, unix_now))
			break;
	}
	return i;
}

/* Retires the series in delta number index. */
__noinline int retire_one(__u32 index, __u32 uncertain)
{
	struct kp_delta *delta = bpf_map_lookup_elem(&deltas, &index);
	struct kp_stats_books *book = books();
	struct kp_entry *entry;
	struct kp_view *view;
	__u64 events, bytes;
	__u32 number;

	if (!delta || !book)
		return 0;
	entry = bpf_map_lookup_elem(&stats, &delta->id);
	if (!entry)
		return 1;
	number = entry->series.view & (KP_VIEWS - 1);
	events = entry->totals.events;
	bytes = entry->totals.bytes;
	if (bpf_map_delete_elem(&stats, &delta->id))
		return 0;
	view = &book->view[number];
	view->retired_events = sum_of(view->retired_events, events);
	view->retired_bytes = sum_of(view->retired_bytes, bytes);
	if (uncertain) {
		view->uncertain_events = sum_of(view->uncertain_events, events);
		view->uncertain_bytes = sum_of(view->uncertain_bytes, bytes);
	}
	return 1;
}

/* Retires the series in the first args[0] deltas, as uncertain if args[1] is not 0. Returns how many. */
SEC("raw_tp")
int retire_series(__u64 *args)
{
	__u64 count = args[0];
	__u32 uncertain = !!args[1];
	__u32 i;

	for (i = 0; i < KP_DELTAS; i++) {
		if (i >= count || !retire_one(i, uncertain))
			break;
	}
	return i;
}
