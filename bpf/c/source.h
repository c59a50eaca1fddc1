/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* How far each source has been settled: what is delivered twice is recognised by its number. */
#ifndef KERNELPIPE_SOURCE_H
#define KERNELPIPE_SOURCE_H

#define KP_SOURCES 64 /* a power of two */

/* The ring buffer or queue lane before this stage. */
struct kp_source {
	__u64 id;
	__u64 next; /* the number of its first element that is not settled here */
};

#endif
