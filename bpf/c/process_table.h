/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of the process table, as user space sees it. A change of it changes the sizes of the maps, and is refused by them. */
#ifndef KERNELPIPE_PROCESS_TABLE_H
#define KERNELPIPE_PROCESS_TABLE_H

#define KP_PATH_LEN 256
#define KP_EARLIER 4       /* a power of two */
#define KP_QUESTIONS 64    /* what one run of look_up answers */
#define KP_MOVES (1 << 16) /* a power of two */

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

/* One of the programs of a process. */
struct kp_program_id {
	__u64 start_ns; /* of the process */
	__u32 tgid;
	__u32 exec_number; /* as in kp_event; 0: the program that it runs, or ran last */
};

enum kp_program_flag {
	KP_PROGRAM_PATH_CUT = 1,   /* the directories above are left out */
	KP_PROGRAM_UNREADABLE = 2, /* the path is not known, though there is one */
	KP_PROGRAM_KERNEL = 4,     /* that of a thread of the kernel's, which has no executable */
	KP_PROGRAM_NAMELESS = 8,   /* its file was made without a name */
	KP_PROGRAM_FORGOTTEN = 16, /* in answers: the table has the process, but no more this program */
};

struct kp_program {
	__u16 exec_number;
	__u16 base; /* where in path the base name begins */
	__u8 flags; /* enum kp_program_flag */
	__u8 reserved[3];
	char path[KP_PATH_LEN]; /* of the executable; NUL-terminated */
};

/* A cgroup v1 that the process was in before it was moved to another. */
struct kp_place {
	__u64 until_ns; /* boot-time clock */
	struct kp_cgroup_id cgroup;
};

enum kp_process_flag {
	KP_PROCESS_FOUND = 1,   /* was there before the table, or its fork was missed */
	KP_PROCESS_IN_EXEC = 2, /* was found in the middle of an exec: the path may be that of the next program */
};

struct kp_process_entry {
	struct kp_process_id id;
	struct kp_process_id parent; /* at the fork */
	struct kp_cgroup_id cgroup_v1; /* the one that may be a container's; all 0: none */
	__u64 cgroup_id;               /* of the cgroup v2, at the fork or the last exec */
	__u64 exec_ns;                 /* when it executed its program; 0: it has run it from the start */
	__u64 exit_ns;                 /* 0: it lives */
	__u32 version;                 /* odd while it is being changed */
	__u32 moves;                   /* changes of cgroup_v1 */
	__u32 uid;                     /* at the fork or the last exec */
	__u16 reserved;
	__u8 flags;           /* enum kp_process_flag */
	__u8 seen;            /* the last count of the living in which it was one; since then nothing of it was missed */
	char comm[16];        /* at the fork, the last exec, or the exit */
	char parent_comm[16]; /* at the fork */
	struct kp_place earlier[KP_EARLIER]; /* number n of its moves, from 0 on, ended earlier[n % KP_EARLIER] */
	struct kp_program program; /* that it runs, or ran last */
	__u64 start_again_ns;      /* as id.start_ns: a copy that was torn has two of them */
};

/* What the program of a process was executed with. */
struct kp_arguments {
	__u64 start_ns;
	__u32 length; /* of all arguments, each with its NUL; more than the text: cut */
	__u16 exec_number;
	__u16 unreadable;
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
	struct kp_program_id id;
	__u64 answered; /* enum kp_answered */
};

enum kp_answered {
	KP_ANSWERED_NO = 0, /* the process is not there, or is about to execute the program that was asked for */
	KP_ANSWERED_YES = 1,
	KP_ANSWERED_CHANGING = 2, /* ask again */
};

struct kp_answer {
	struct kp_process_entry process; /* with the program that was asked for */
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
	KP_TABLE_PROGRAMS,          /* programs put in, as they were replaced */
	KP_TABLE_PROGRAMS_EVICTED,  /* of these, those that made room */
	KP_TABLE_PROGRAMS_MISSED,   /* programs that could not be put in */
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
	__u64 missed_first_ns;  /* when the process was started that was the first to be missed since since_ns; 0: none … */
	__u64 missed_last_ns;   /* … and the last */
	__u64 left_out;         /* processes that found no room when the table was made smaller */
	__u64 cgroups_left_out; /* likewise */
	__u64 programs_left_out;
	__u64 moves;            /* of all processes; counted after those of each */
};

#endif
