/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of the stats map: a series and its totals, and what one run adds to them. */
#ifndef KERNELPIPE_STATS_H
#define KERNELPIPE_STATS_H

#include "event.h"
#include "source.h"

/* Changes with the layout of any map here. */
#define KP_STATS_FORMAT 1

#define KP_DELTAS 256      /* series that one run adds to at most */
#define KP_DELTA_BUCKETS 24

/*
 * Durations, by the base-2 exponential scheme of OpenTelemetry at scale 3, in seconds: bucket i counts
 * durations in (2^((i+KP_BUCKET_OFFSET)/8), 2^((i+1+KP_BUCKET_OFFSET)/8)] seconds. From 0.9 ns to 2 years.
 */
#define KP_SCALE 3
#define KP_BUCKET_OFFSET (-240)
#define KP_BUCKETS 448

/* The dimensions of a series. What a metric does not ask for is zero. 168 bytes */
struct kp_series {
	__u16 metric;    /* its number in the connector's configuration */
	__u16 operation;
	__u8 category;   /* 0 in the overflow series, which has nothing but its metric */
	__u8 priority;
	__u16 asked;     /* bit n: dimension n is in use, so that zero can be a value */
	__s32 error;     /* errno; a process's exit status; 0: none */
	__u32 uid;
	__u32 pid;
	__u32 parent_pid;
	__u64 cgroup_id;
	char command[16];
	char executable[24];
	char parent[16];
	char ancestor[16];
	char user[16];
	__u8 container_id[32];
	__u8 pod_uid[16];
};

struct kp_totals {
	__u64 since_ns; /* boot-time clock: when the series was made */
	__u64 last_ns;  /* boot-time clock: when it was added to */
	__u64 events;
	__u64 bytes;
	__u64 timed;    /* events with a duration: the sum of all buckets */
	__u64 duration_ns;
	__u64 shortest_ns;
	__u64 longest_ns;
	__u64 bucket[KP_BUCKETS];
};

struct kp_bucket_delta {
	__u16 bucket;
	__u16 count;
};

struct kp_delta {
	struct kp_series series;
	__u64 events;
	__u64 bytes;
	__u64 timed;
	__u64 duration_ns;
	__u64 shortest_ns;
	__u64 longest_ns;
	__u64 buckets; /* how many of bucket are set */
	struct kp_bucket_delta bucket[KP_DELTA_BUCKETS];
};

struct kp_stats_books {
	__u64 events;     /* added, ever: the sum over all series, expired ones too */
	__u64 redelivered; /* recognised as already added, and not added again */
	__u64 start_unix_ns; /* wall clock when these books were opened */
	__u64 series;     /* made, ever */
	__u32 format;     /* KP_STATS_FORMAT */
	__u32 reserved;
	struct kp_source source[KP_SOURCES];
};

#endif
