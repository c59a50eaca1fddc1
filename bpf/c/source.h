/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* How far each source has been settled: what is delivered twice is recognised by its number. */
#ifndef KERNELPIPE_SOURCE_H
#define KERNELPIPE_SOURCE_H

#define KP_SOURCES 1024 /* a power of two: 64 stages of 16 lanes each */

/*
 * The ring buffer or queue lane before this stage. Its id names the map that its books are in: from the highest bit on,
 * 24 bits of the boot's id, 32 bits of the map's id and 8 bits for the lane. A source whose map is gone delivers nothing
 * any more, so its slot may be another's.
 */
struct kp_source {
	__u64 id;
	__u64 next; /* the number of its first element that is not settled here */
};

/*
 * Notes that source number slot (KP_SOURCES: none) is settled up to next. Only ever forward: what is redelivered
 * may lie before what is settled.
 */
static __always_inline void settle_source(struct kp_source *sources, __u64 slot, __u64 next)
{
	struct kp_source *source;

	if (slot >= KP_SOURCES)
		return;
	/* Masked here and nowhere earlier: kernels before 6.8 forget the bounds of what the compiler puts on the stack. */
	barrier_var(slot);
	source = &sources[slot & (KP_SOURCES - 1)];
	if (next > source->next)
		source->next = next;
}

#endif
