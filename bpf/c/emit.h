/* SPDX-License-Identifier: Apache-2.0 */
/* The way into the ring buffer, and the books about it. */
#ifndef KERNELPIPE_EMIT_H
#define KERNELPIPE_EMIT_H

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

/*
 * What user space notes about the ring buffer and its reader; of this, programs use reader_waits only.
 * Changes of layout: KP_RING_FORMAT.
 */
#define KP_RING_FORMAT 2

/* The account of the ring buffers of other sizes that this one has replaced, and that are removed. */
struct kp_ring_left {
	__u64 replaced;      /* those with a number below this one are in here */
	__u64 delivered;
	__u64 refused;
	__u64 redelivered;
	__u64 foreign;
};

struct kp_ring_books {
	__u64 id;            /* of the map that this is in, see source.h: the source of the events */
	__u64 handed_on;     /* position up to which events were handed on, committed or not */
	__u64 redelivered;   /* events handed on a second time, after a crash or a failure */
	__u64 refused;       /* events that the next component refused for good */
	__u64 foreign;       /* records that are no events */
	__u64 delivered;     /* up to the last refusal */
	__u32 format;        /* KP_RING_FORMAT */
	__u32 element_size;
	__u32 reader_waits;  /* the reader sleeps, and is to be woken when wakeup_bytes wait */
	__u32 left_slot;     /* which entry of left counts: the other is written, then this is stored */
	struct kp_ring_left left[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_ring_books);
} ring_books SEC(".maps");

/* Per CPU and category: produced = submitted + lost. */
struct kp_counts {
	__u64 produced; /* events that passed the filters */
	__u64 lost;     /* of these, the ones the ring buffer had no room for */
	__u64 untimed;  /* system calls whose start was not seen: produced without a duration */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KP_CATEGORIES);
	__type(key, __u32);
	__type(value, struct kp_counts);
} counters SEC(".maps");

/* Every add is atomic: a softirq's program can interrupt a system call's on the same CPU. */
#define ADD(counter, n) __sync_fetch_and_add(&(counter), (n))

/*
 * One wake-up per event costs more than the event. So a reader that sleeps is woken when the mark is passed,
 * once; below the mark its timer serves.
 */
static __always_inline __u64 wakeup_flags(void)
{
	struct kp_ring_books *books;
	__u32 key = 0;

	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < settings.wakeup_bytes)
		return BPF_RB_NO_WAKEUP;
	books = bpf_map_lookup_elem(&ring_books, &key);
	if (!books || !books->reader_waits)
		return BPF_RB_NO_WAKEUP;
	books->reader_waits = 0; /* two CPUs at once wake it twice, which does no harm */
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void begin_event(struct kp_event *event, __u32 category, __u16 operation, __u64 now)
{
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = now;
	event->category = category;
	event->operation = operation;
	event->version = KP_EVENT_VERSION;
}

/*
 * Counts an event and makes room for it; NULL when the ring buffer is full, and then it is counted as
 * lost. The record comes zeroed but for time (now), category, operation and version.
 */
static __always_inline struct kp_event *reserve(__u32 category, __u16 operation, __u64 now)
{
	struct kp_counts *counts = bpf_map_lookup_elem(&counters, &category);
	struct kp_event *event;

	if (!counts)
		return NULL;
	ADD(counts->produced, 1);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		ADD(counts->lost, 1);
		return NULL;
	}
	begin_event(event, category, operation, now);
	return event;
}

/* Counts n events that get no further. */
static __always_inline void count_lost(__u32 category, __u64 n)
{
	struct kp_counts *counts = bpf_map_lookup_elem(&counters, &category);

	if (!counts)
		return;
	ADD(counts->produced, n);
	ADD(counts->lost, n);
}

static __always_inline void submit(struct kp_event *event)
{
	bpf_ringbuf_submit(event, wakeup_flags());
}

/* Errors are -MAX_ERRNO to -1. Other results below 0 are successes, such as an offset of lseek(2) or a group of F_GETOWN. */
static __always_inline bool failed(__s64 result)
{
	return result < 0 && result >= -MAX_ERRNO;
}

/* One in filter->sample passes; at random, so that no pattern of calls is favoured. */
static __always_inline bool sampled(const struct filter *filter)
{
	return filter->sample < 2 || bpf_get_prandom_u32() % filter->sample == 0;
}

static __always_inline bool wants_operation(const struct filter *filter, __u32 operation)
{
	return filter->operations & (1U << (operation & 31));
}

/* Copies a name that str points at, with read as the helper for its memory, and says so when it is cut or unreadable. */
#define COPY_NAME(event, read_str, read, str)                                                             \
	({                                                                                                \
		const char *from = (str);                                                                 \
		long got = read_str((event)->name, KP_NAME_LEN, from);                                    \
		char next = 0;                                                                            \
		if (got < 0)                                                                              \
			(event)->flags |= KP_FLAG_NAME_UNREADABLE;                                        \
		else if (got == KP_NAME_LEN && (read(&next, 1, from + KP_NAME_LEN - 1) || next != 0))     \
			(event)->flags |= KP_FLAG_NAME_CUT;                                               \
	})

#endif
