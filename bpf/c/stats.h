/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of the stats map: a series and its totals, and what one run adds to them. */
#ifndef KERNELPIPE_STATS_H
#define KERNELPIPE_STATS_H

#include "event.h"
#include "source.h"

/* Changes with the layout or the meaning of any map here. */
#define KP_STATS_FORMAT 4

#define KP_DELTAS 256 /* series that one run adds to at most */
#define KP_DELTA_BUCKETS 56
#define KP_VIEWS 64 /* a power of two */
#define KP_DESCRIPTION 131072 /* bytes of struct kp_description */

/* The most that a sum can be: a point says it with a sign. A sum that reaches it stays there, and never goes back. */
#define KP_MOST ((1ULL << 63) - 1)

/*
 * Durations, by the base-2 exponential scheme of OpenTelemetry at scale 3, in seconds: bucket i counts
 * durations in (2^((i+KP_BUCKET_OFFSET)/8), 2^((i+1+KP_BUCKET_OFFSET)/8)] seconds, from 0.9 ns to 2 years;
 * what is longer is in the last bucket. A view with boundaries of its own counts by those instead.
 */
#define KP_SCALE 3
#define KP_BUCKET_OFFSET (-240)
#define KP_BUCKETS 448

enum kp_series_flag {
	KP_SERIES_OVERFLOW = 1, /* what the cardinality limit keeps from a series of its own; has only view and generation */
	KP_SERIES_PROCESS = 2,  /* the process is known, so a uid of 0 is root */
	KP_SERIES_EXIT = 4,     /* exit_code is one */
};

enum kp_series_name {
	KP_SERIES_FILE_NAME = 1,
	KP_SERIES_FILE_PATH = 2,
	KP_SERIES_EXECUTABLE_PATH = 3,
};

enum kp_delta_state {
	KP_DELTA_NEW = 0,   /* the series is made if it is not in the map */
	KP_DELTA_KNOWN = 1, /* it is in the map: it is neither looked for before anything is added nor made */
	KP_DELTA_LOST = 2,  /* as add_deltas leaves it: it was not in the map, so nothing was added */
};

/*
 * The key of the stats map. It is not the series itself, as hashing one costs more than all else that adding to it
 * takes. 16 bytes
 */
struct kp_series_id {
	__u64 number;     /* no other series has it: one of kp_stats_books.numbers */
	__u32 generation; /* kp_stats_books.generation when it was made */
	__u32 reserved;
};

/* A series: the values of its dimensions. What its view does not ask for is zero. 264 bytes */
struct kp_series {
	__u16 view;     /* index of kp_stats_books.view */
	__u8 flags;     /* enum kp_series_flag */
	__u8 category;
	__u8 priority;
	__u8 name_kind; /* enum kp_series_name: what name is */
	__u16 operation;
	__s32 error;     /* error number; negative: exit status of a process; 0: no error */
	__s32 exit_code;
	__u32 exit_signal;
	__u32 pid;
	__u32 tid;
	__u32 uid;
	__u32 gid;
	__u32 parent_pid;
	__u64 cgroup_id;
	__u16 local_port;
	__u16 peer_port;
	__u8 network_type; /* 4 or 6 */
	__u8 transport;    /* 6: TCP, 17: UDP, 1: Unix */
	__u8 reserved[2];
	char thread[KP_COMM_LEN];
	char executable[24]; /* name of the executable; the thread's where that is not known */
	char parent[KP_COMM_LEN];
	char ancestor[KP_COMM_LEN];
	char user[16];
	__u8 container_id[32];
	__u8 pod_uid[16];
	__u8 local_address[16]; /* IPv4 mapped into IPv6 */
	__u8 peer_address[16];
	char name[KP_NAME_LEN];
};

struct kp_totals {
	__u64 since_unix_ns; /* wall clock: when the series was made */
	__u64 last_ns;       /* boot-time clock: when it was last added to */
	__u64 events;
	__u64 bytes;
	__u64 timed; /* events with a duration; those in no bucket have one of 0 */
	__u64 duration_ns;
	__u64 shortest_ns;
	__u64 longest_ns;
	__u64 bucket[KP_BUCKETS];
};

/* The value of the stats map. */
struct kp_entry {
	struct kp_series series;
	struct kp_totals totals;
};

struct kp_bucket_delta {
	__u16 bucket;
	__u16 count;
};

/* What a run adds to a series. One whose buckets are more than fit has further ones, KP_DELTA_KNOWN with events = 0, behind it. */
struct kp_delta {
	struct kp_series_id id;
	__u64 events;
	__u64 bytes;
	__u64 timed;
	__u64 duration_ns;
	__u64 shortest_ns;
	__u64 longest_ns;
	__u32 buckets; /* how many of bucket are set */
	__u32 state;   /* enum kp_delta_state */
	struct kp_bucket_delta bucket[KP_DELTA_BUCKETS];
};

/*
 * A view: which events are counted, by which dimensions, and what is measured of them. 128 bytes.
 * events = the sum over the view's series + retired_events, and the same for bytes. What is uncertain is retired too.
 */
struct kp_view {
	__u64 fingerprint; /* of its configuration; 0: none */
	__u64 events;
	__u64 bytes;
	__u64 retired_events; /* of series that are no more */
	__u64 retired_bytes;
	__u64 uncertain_events; /* of series that were refused for good: nobody knows whether the backend has them */
	__u64 uncertain_bytes;
	char name[72]; /* the metrics made from it, may be cut. NUL-terminated */
};

/* How the points of a sealed generation are made of its series, in the words of user space. */
struct kp_description {
	__u32 size; /* of text that is used */
	__u32 reserved;
	char text[KP_DESCRIPTION - 8];
};

struct kp_stats_books {
	__u64 events;        /* settled, ever: each once, in however many views it is */
	__u64 redelivered;   /* recognised as already added, and not added again */
	__u64 start_unix_ns; /* wall clock when these books were opened */
	__u64 series;        /* made, ever */
	__u64 numbers;       /* given to series, ever: the last one that was */
	__u64 saturated;     /* times that something was added to a series with a sum at KP_MOST */
	__u32 format;        /* KP_STATS_FORMAT */
	__u32 generation;    /* new series belong to it */
	__u32 delivered;     /* generations before this one are done with; one at most is not */
	__u32 refused;       /* if the same as generation: the one before it was refused for good, and is uncertain */
	__u64 generation_unix_ns[2]; /* wall clock when a generation began; by its lowest bit */
	struct kp_view view[KP_VIEWS];
	struct kp_source source[KP_SOURCES];
};

#endif
