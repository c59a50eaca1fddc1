/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The layout of a queue's maps. */
#ifndef KERNELPIPE_QUEUE_H
#define KERNELPIPE_QUEUE_H

#include "source.h"

/* Changes with the layout of any map of a queue. */
#define KP_QUEUE_FORMAT 2

#define KP_BATCH 1024   /* elements that one run moves at most */
#define KP_MAX_LANES 16 /* a power of two */

/* What becomes of an entry of outgoing; below KP_MAX_LANES: the lane to push it to. */
enum kp_verdict {
	KP_FILTERED = 0x100,
	KP_DEAD_LETTERED = 0x101,
	KP_SKIPPED = 0x102, /* settled by an earlier run: counted nowhere again */
};

enum kp_on_full {
	KP_BLOCK = 0,
	KP_DROP_NEWEST = 1,
	KP_DROP_OLDEST = 2,
};

struct kp_outgoing {
	__u32 verdict;
	__u32 limit; /* dropped where so many elements or more wait in the lane; 0: no limit but the lane's size */
	__u8 element[]; /* of the queue's element size */
};

/* queued = pushed - popped - dropped_oldest - lost_queued; delivered = popped - in_flight - lost_in_flight */
struct kp_lane {
	__u64 pushed;
	__u64 popped;
	__u64 dropped_newest;
	__u64 dropped_oldest;
	__u64 dropped_over_limit;
	__u64 in_flight;  /* user space sets it to 0 when the next component has accepted them */
	__u64 generation; /* of the queue that in_flight came from */
	__u64 lost_queued;    /* elements that waited in a queue whose pins were removed */
	__u64 lost_in_flight; /* likewise, in flight */
};

/* received = filtered + dead_lettered + the lanes' (pushed + dropped_newest + dropped_over_limit) */
struct kp_books {
	__u64 received;
	__u64 filtered;
	__u64 dead_lettered;
	__u64 redelivered; /* recognised as settled by an earlier run, and not settled again */
	__u64 id; /* of the map that this is in, see source.h; lane n is source id + n to the next component */
	__u32 format; /* KP_QUEUE_FORMAT */
	__u32 element_size;
	__u32 lanes; /* that are pushed to now */
	__u32 reserved;
	struct kp_lane lane[KP_MAX_LANES];
	struct kp_source source[KP_SOURCES];
};

#endif
