/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few kernel types that the programs read, by the fields they read. CO-RE relocates each access
 * against the running kernel's BTF, so order and offsets here mean nothing.
 */
#ifndef KERNELPIPE_KERNEL_H
#define KERNELPIPE_KERNEL_H

typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
	BPF_F_NO_PREALLOC = 1,
	BPF_F_MMAPABLE = 1024,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
};

/* The number does not matter: it is asked whether the running kernel has the helper. */
enum bpf_func_id {
	BPF_FUNC_get_current_task_btf = 158,
};

#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFSOCK 0140000

/* include/linux/socket.h */
#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000

#define AT_EXECVE_CHECK 0x10000 /* include/uapi/linux/fcntl.h, since 6.14 */
#define CLONE_THREAD 0x10000 /* include/uapi/linux/sched.h */
#define PF_EXITING 0x4       /* include/linux/sched.h */
#define PF_IO_WORKER 0x10
#define PF_KTHREAD 0x200000
#define SIGNAL_GROUP_EXIT 4  /* include/linux/sched/signal.h */

#define SIGKILL 9
#define SIGSYS 31
#define SIG_IGN 1
#define SA_RESTART 0x10000000 /* include/uapi/asm-generic/signal-defs.h */
#define SIGNAL_BIT(signal) (1UL << ((signal) - 1))

#define SOL_SOCKET 1 /* include/uapi/asm-generic/socket.h, as on x86 and arm64 */
#define SO_ERROR 4

#define AF_UNSPEC 0
#define AF_INET 2
#define AF_INET6 10
#define AF_SMC 43
#define IPPROTO_TCP 6
#define IPPROTO_SMC 256
#define IPPROTO_MPTCP 262

/* include/net/tcp_states.h */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_CLOSE = 7,
	TCP_LISTEN = 10,
	TCP_NEW_SYN_RECV = 12,
};

/* include/uapi/asm-generic/errno*.h */
#define EPERM 1
#define EINTR 4
#define E2BIG 7
#define EAGAIN 11
#define EEXIST 17
#define ECONNABORTED 103
#define ECONNRESET 104
#define EISCONN 106
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EALREADY 114
#define EINPROGRESS 115
#define ECANCELED 125
#define MAX_ERRNO 4095 /* include/linux/err.h */
/* include/linux/errno.h */
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ENOIOCTLCMD 515
#define ERESTART_RESTARTBLOCK 516

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	int sk_err;
};

struct inet_sock {
	__be16 inet_sport;
};

struct inet_connection_sock {
	void *icsk_ulp_data;
};

struct tcp_sock {
	__u32 write_seq;
	__u32 packets_out;
	bool is_mptcp; /* it is a subflow; only in kernels with MPTCP */
};

/* A connection of MPTCP, and what its subflows, which are TCP sockets, know of it; net/mptcp/protocol.h. */
struct mptcp_sock {
	struct sock *first;
};

struct mptcp_subflow_context {
	__u32 request_join : 1;
	__u32 mp_join : 1;
	struct sock *conn;
};

struct request_sock;

struct sk_buff {
	char cb[48];
};

struct tcp_skb_cb {
	__u16 tcp_gso_segs;
};

struct trace_event_raw_tcp_retransmit_skb {
	int err; /* where the tracepoint has it as an argument too */
};

struct socket {
	struct sock *sk;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
};

struct thread_info {
	unsigned long flags;
	__u32 status;
};

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
};

struct kernfs_node {
	struct kernfs_node *__parent; /* before 6.15: parent */
	const char *name;
	__u64 id;
};

struct kernfs_node___before_6_15 {
	struct kernfs_node *parent;
};

struct list_head {
	struct list_head *next;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct cgrp_cset_link {
	struct cgroup *cgrp;
	struct list_head cgrp_link;
};

struct css_set {
	struct cgroup *dfl_cgrp;
	struct list_head cgrp_links;
};

typedef struct {
	unsigned long sig[1];
} sigset_t;

struct sigaction {
	void *sa_handler;
	unsigned long sa_flags;
};

struct k_sigaction {
	struct sigaction sa;
};

struct sigpending {
	sigset_t signal;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	__u64 start_boottime;
	__u64 self_exec_id;
	unsigned int in_execve : 1;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct files_struct *files;
	struct mm_struct *mm;
	struct css_set *cgroups;
	struct signal_struct *signal;
	const struct cred *cred;
	struct sigpending pending;
	sigset_t blocked;
	char comm[16];
};

struct bpf_iter__task {
	struct task_struct *task;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_map {
	__u32 id;
};

struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
};

struct linux_binprm {
	const char *filename;
};

/* A file name that the kernel has copied from user memory. */
struct filename {
	const char *name;
};

/* io_uring: its rings, its requests, and what these are to do, by their opcode. The last are where struct io_kiocb begins. */
struct io_fixed_file {
	unsigned long file_ptr;
};

struct io_rsrc_node {
	unsigned long file_ptr;
};

struct io_rsrc_data {
	struct io_rsrc_node **nodes;
};

struct io_file_table {
	struct io_rsrc_data data;
	struct io_fixed_file *files; /* before 6.13, instead of data */
};

struct percpu_ref {
	unsigned long percpu_count_ptr;
};

struct io_ring_ctx {
	struct percpu_ref refs;
	struct io_file_table file_table;
};

struct io_kiocb {
	struct file *file;
	__u8 opcode;
	struct io_ring_ctx *ctx;
};

struct io_sr_msg {
	struct user_msghdr *umsg;
	int len;
	unsigned int msg_flags;
};

struct io_accept {
	__u32 file_slot;
};

struct io_connect {
	void *addr;
	int addr_len;
};

struct io_open {
	struct filename *filename;
};

struct io_unlink {
	struct filename *filename;
};

struct io_rename {
	struct filename *oldpath;
};

struct io_uring_cqe {
	__s32 res;
	__u32 flags;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di;
	unsigned long si;
	unsigned long dx;
	unsigned long r10;
	unsigned long r8;
	unsigned long r9;
	unsigned long orig_ax;
	unsigned long ip;
	unsigned long sp;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 orig_x0;
	__s32 syscallno;
};
#endif

#pragma clang attribute pop

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/*
 * Kernels from 5.11 on know the type of the pointer to the current task, so that to read it is a load and not
 * the call of a helper. The verifier leaves out the way that is not taken.
 */
#define HAS_TYPED_CURRENT bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)

/* Reads a field of the current task, such as READ_CURRENT(group_leader, start_boottime). */
#define READ_CURRENT(first, ...)                                                                            \
	(HAS_TYPED_CURRENT                                                                                  \
		 ? ___arrow(bpf_get_current_task_btf(), first, ##__VA_ARGS__)                               \
		 : BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), first, ##__VA_ARGS__))

#endif
