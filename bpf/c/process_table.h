/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of the process table, as user space sees it. A change of it changes the sizes of the maps, and is refused by them. */
#ifndef KERNELPIPE_PROCESS_TABLE_H
#define KERNELPIPE_PROCESS_TABLE_H

#define KP_PATH_LEN 256
#define KP_BASE_LEN 24
#define KP_EARLIER 4       /* a power of two */
#define KP_QUESTIONS 64    /* what one run of look_up answers */
#define KP_EXECS (1 << 16) /* a power of two */

/* A process: its pid in the initial pid namespace, and when it was started, boot-time clock. */
struct kp_process_id {
	__u64 start_ns;
	__u64 tgid; /* as wide, so that the key has no padding */
};

/* A cgroup: its id is unique within its hierarchy. 0 is the hierarchy of cgroup v2. */
struct kp_cgroup_id {
	__u64 id;
	__u64 hierarchy;
};

/* A program that the process ran before it executed another. */
struct kp_image {
	__u64 until_ns;         /* boot-time clock */
	char base[KP_BASE_LEN]; /* of its executable; all of it in use: cut. What stands behind a NUL means nothing */
};

enum kp_process_flag {
	KP_PROCESS_PATH_CUT = 1,        /* the directories above are left out */
	KP_PROCESS_PATH_UNREADABLE = 2, /* the path is not known, though there is one */
	KP_PROCESS_KERNEL = 4,          /* a thread of the kernel's, which has no executable */
	KP_PROCESS_FOUND = 8,           /* was there before the table, or its fork was missed */
};

struct kp_process_entry {
	struct kp_process_id id;
	struct kp_process_id parent; /* at the fork */
	struct kp_cgroup_id legacy;  /* the last cgroup v1 it was put in that can be a container's; all 0: none */
	__u64 cgroup_id;             /* of the cgroup v2, at the fork or the last exec */
	__u64 exec_ns;               /* when it executed its program; 0: it has run it from the start */
	__u64 exit_ns;               /* 0: it lives */
	__u32 version;               /* odd while it is being changed */
	__u32 execs;
	__u32 uid;                      /* at the fork or the last exec */
	__u16 base;                     /* where in path the base name begins */
	__u8 flags;                     /* enum kp_process_flag */
	__u8 seen;                      /* the last count of the living in which it was one; since then nothing of it was missed */
	char comm[16];                  /* at the fork, the last exec, or the exit */
	char parent_comm[16];           /* at the fork */
	struct kp_image earlier[KP_EARLIER]; /* number n of its execs replaced earlier[n % KP_EARLIER] */
	char path[KP_PATH_LEN];         /* of the executable; NUL-terminated */
	__u64 start_again_ns;           /* as id.start_ns: a copy that was torn has two of them */
};

struct kp_arguments {
	__u64 start_ns;
	__u32 length; /* of all arguments, each with its NUL; more than the text: cut */
	__u32 unreadable;
	char text[KP_PATH_LEN];
	__u64 start_again_ns;
};

struct kp_cgroup_entry {
	struct kp_cgroup_id id;
	__u8 cut;  /* the beginning of the path is left out */
	__u8 seen; /* the last count of the living in which one was in it, or it was made since */
	__u8 gone; /* it is noted as removed */
	__u8 reserved[5];
	char path[KP_PATH_LEN];
	struct kp_cgroup_id again;
};

/* What is asked, and whether there is an answer. */
struct kp_question {
	struct kp_process_id id;
	__u64 answered; /* enum kp_answered */
};

enum kp_answered {
	KP_ANSWERED_NO = 0,
	KP_ANSWERED_YES = 1,
	KP_ANSWERED_CHANGING = 2, /* ask again */
};

struct kp_answer {
	struct kp_process_entry process;
	struct kp_arguments arguments;
};

/* Counted per CPU. */
enum kp_table_count {
	KP_TABLE_STARTED = 0,       /* processes put in as they were forked */
	KP_TABLE_FOUND,             /* processes put in that were there before */
	KP_TABLE_EVICTED,           /* ended processes that made room */
	KP_TABLE_MISSED_FULL,       /* processes for which there was no room: all the others live */
	KP_TABLE_MISSED_ERROR,      /* processes that could not be put in */
	KP_TABLE_CGROUPS,           /* cgroups put in */
	KP_TABLE_CGROUPS_EVICTED,   /* removed cgroups that made room */
	KP_TABLE_CGROUPS_MISSED,    /* cgroups that could not be put in */
	KP_TABLE_COUNTS,
};

struct kp_table_state {
	__u32 generation;       /* the programs of this generation work, all others are silent */
	__u16 with_arguments;
	__u16 living;           /* number of the present count of the living, 1 to 255 */
	__u64 since_ns;         /* boot-time clock: every process that was started later was put in, or counted as missed; 0: the
				 * table has not been kept, and is not up to date yet */
	__u64 evicted_exit_ns;  /* when the process ended that made room last … */
	__u64 evicted_after_ns; /* … and for how long it had been kept since */
	__u64 left_out;         /* processes that found no room when the table was made smaller */
	__u64 cgroups_left_out; /* likewise */
	__u64 execs;            /* of all processes; counted after those of each */
};

#endif
