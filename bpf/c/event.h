/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The wire format of a kernel event: what the probes write into the ring buffer and what the queues hold.
 *
 * It needs the fixed-width types __u8 … __u64 and __s64, from vmlinux.h or <linux/types.h>. A program of
 * yours that pushes into a kernelpipe queue includes push.h.
 * The Go view of the same structs is internal/event; a test holds the two together through BTF.
 */
#ifndef KERNELPIPE_EVENT_H
#define KERNELPIPE_EVENT_H

#define KP_EVENT_VERSION 2
#define KP_COMM_LEN 16
#define KP_NAME_LEN 40

enum kp_category {
	KP_CATEGORY_UNSET = 0,
	KP_CATEGORY_SYSCALL = 1,
	KP_CATEGORY_NETWORK = 2,
	KP_CATEGORY_FILESYSTEM = 3,
	KP_CATEGORY_PROCESS = 4,
	KP_CATEGORIES = 5,
};

/* kp_event.operation. In the syscall category it is the system call's number on this architecture. */
enum kp_network_operation {
	KP_NETWORK_CONNECT = 1,
	KP_NETWORK_ACCEPT = 2,
	KP_NETWORK_CLOSE = 3,
	KP_NETWORK_RETRANSMIT = 4,
	KP_NETWORK_SEND = 5,
	KP_NETWORK_RECEIVE = 6,
};

enum kp_filesystem_operation {
	KP_FILESYSTEM_OPEN = 1,
	KP_FILESYSTEM_READ = 2,
	KP_FILESYSTEM_WRITE = 3,
	KP_FILESYSTEM_FSYNC = 4,
	KP_FILESYSTEM_UNLINK = 5,
	KP_FILESYSTEM_RENAME = 6,
};

enum kp_process_operation {
	KP_PROCESS_FORK = 1,
	KP_PROCESS_EXEC = 2,
	KP_PROCESS_EXIT = 3,
};

/* kp_event.priority; 0 is "not yet decided", the filter stage sets it. */
enum kp_priority {
	KP_PRIORITY_UNSET = 0,
	KP_PRIORITY_HIGH = 1,
	KP_PRIORITY_MEDIUM = 2,
	KP_PRIORITY_LOW = 3,
};

/* kp_event.flags */
enum kp_flag {
	KP_FLAG_NAME_CUT = 1,        /* the name was longer than the payload */
	KP_FLAG_NAME_UNREADABLE = 2, /* the memory that holds the name could not be read */
	KP_FLAG_NO_DURATION = 4,     /* the start was not seen, so duration_ns is 0 */
	KP_FLAG_BYTES_PARTIAL = 8,   /* more messages in one call than are added up */
	KP_FLAG_SIMULATED = 16,      /* made by the simulator */
};

/* Who did it. 48 bytes. All zero: not known (a connection older than the probes, say). */
struct kp_process {
	__u64 cgroup_id; /* cgroup v2 id */
	__u64 start_ns;  /* boot-time clock, start of the thread group leader: with tgid, a process's identity */
	__u32 tgid;      /* the pid that users see */
	__u32 tid;
	__u32 uid;
	__u32 gid;
	char comm[KP_COMM_LEN]; /* NUL-terminated */
};

/*
 * Numbers the programs that a process runs, from the kernel's count of execs (task->self_exec_id): 1 to 65,535, and then
 * from 1 again. A process begins with the number of its parent, whose program it runs, and each exec adds 1. So pid, start
 * and this number name a program exactly, where a time could not: an exec and its event have no common time.
 */
#define KP_EXEC_NUMBER(self_exec_id) ((__u16)(1 + (__u32)(self_exec_id) % 65535)) /* 32 bits divide faster */

/* 40 bytes; IPv4 addresses stand in the first 4 bytes. Ports are in host order. What is not known is 0. */
struct kp_network {
	__u16 family;   /* AF_INET 2, AF_INET6 10, AF_UNIX 1, … */
	__u16 protocol; /* IPPROTO_TCP 6, IPPROTO_UDP 17, … */
	__u16 local_port;
	__u16 remote_port;
	__u8 local_address[16];
	__u8 remote_address[16];
};

/* fork: the child; exit: the signal that ended the process (0: none). 40 bytes. */
struct kp_lifecycle {
	__u32 child_tgid;
	__u32 signal;
	__u8 reserved[32];
};

/* An event as it leaves the probes and the filter. 128 bytes. */
struct kp_event {
	__u64 time_ns;     /* boot-time clock, at the end of what is reported */
	__u64 duration_ns; /* 0: none; less than 2^60 */
	__u64 bytes;       /* bytes moved; less than 2^48 */
	__s64 result;      /* return value, -errno on failure; exec: 0; exit: the exit status, 128 + signal if killed */
	struct kp_process process;
	__u16 operation;
	__u8 category;
	__u8 priority;
	__u8 version; /* KP_EVENT_VERSION */
	__u8 flags;
	__u16 exec_number; /* of the program that process ran then, KP_EXEC_NUMBER(); 0: not known */
	union {
		struct kp_network network;
		struct kp_lifecycle lifecycle;
		char name[KP_NAME_LEN]; /* filesystem: the file; exec: the path. NUL-terminated */
	};
};

/* What enrichment adds. 128 bytes. Strings are NUL-terminated; kp_context.cut names the cut ones. */
struct kp_context {
	__u8 container_id[32]; /* the 64 hexadecimal digits of a container id, packed */
	__u8 pod_uid[16];      /* the Kubernetes pod UID, packed */
	char executable[24];   /* base name of the executable */
	char parent[16];       /* comm of the parent */
	char ancestor[16];     /* comm of the chosen ancestor */
	char user[16];
	__u32 parent_tgid;
	__u8 known;  /* enum kp_known: what was found */
	__u8 cut;    /* enum kp_known: strings that were longer than their room */
	__u8 reason; /* enum kp_missing: why what was looked up and not found is missing */
	__u8 reserved;
};

enum kp_known {
	KP_KNOWN_EXECUTABLE = 1,
	KP_KNOWN_PARENT = 2,
	KP_KNOWN_ANCESTOR = 4,
	KP_KNOWN_USER = 8,
	KP_KNOWN_CONTAINER = 16,
	KP_KNOWN_POD = 32,
};

enum kp_missing {
	KP_MISSING_NOTHING = 0,
	KP_MISSING_NOT_FOUND = 1, /* gone, or never seen */
	KP_MISSING_EVICTED = 2,   /* was known; made room for another */
	KP_MISSING_UNKNOWN = 3,   /* the event names no process */
	KP_MISSING_TIMEOUT = 4,   /* not found in time; what is found later serves the events that follow */
	KP_MISSING_DENIED = 5,    /* enrichment may not know: it lacks a capability */
};

/* An event as it leaves enrichment. 256 bytes. */
struct kp_enriched {
	struct kp_event event;
	struct kp_context context;
};

/* An event that could not be delivered, in a dead-letter queue. 384 bytes. */
struct kp_dead_letter {
	struct kp_enriched event; /* its first event_size bytes */
	__u64 time_ns;            /* boot-time clock, when it was given up */
	__u32 event_size;         /* 128 or 256 */
	__u32 attempts;
	char stage[32];  /* the component that gave it up. NUL-terminated, may be cut */
	char reason[80]; /* why. NUL-terminated, may be cut */
};

#endif
