/* SPDX-License-Identifier: Apache-2.0 */
/* Files and sockets behind descriptors, and the addresses of a socket. */
#ifndef KERNELPIPE_SOCKET_H
#define KERNELPIPE_SOCKET_H

/* The current task's open file fd, or NULL. */
static __always_inline struct file *file_of(__u32 fd)
{
	struct file *file = NULL;
	struct file **slots;

	/* In this order: the table may be replaced in between, by a bigger one. */
	if (fd >= READ_CURRENT(files, fdt, max_fds))
		return NULL;
	slots = READ_CURRENT(files, fdt, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), slots + fd))
		return NULL;
	return file;
}

/* The type of a file: S_IFREG, S_IFSOCK, …; 0 without one. */
static __always_inline __u32 type_of(struct file *file)
{
	return file ? BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT : 0;
}

static __always_inline struct sock *sock_of(struct file *file)
{
	struct socket *socket = BPF_CORE_READ(file, private_data);

	return BPF_CORE_READ(socket, sk);
}

static __always_inline __u16 from_network(__u16 port)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	port = __builtin_bswap16(port);
#endif
	return port;
}

/*
 * The socket that a program holds where the kernel works with this TCP socket: of a subflow of MPTCP the one above it,
 * else the same.
 */
static __always_inline struct sock *held_sock(struct sock *sk)
{
	struct mptcp_subflow_context *subflow;

	if (!bpf_core_field_exists(struct tcp_sock, is_mptcp) || !BPF_CORE_READ((struct tcp_sock *)sk, is_mptcp))
		return sk;
	subflow = BPF_CORE_READ((struct inet_connection_sock *)sk, icsk_ulp_data);
	return BPF_CORE_READ(subflow, conn);
}

/* Is this TCP socket a subflow that has joined a connection of MPTCP, or is about to? */
static __always_inline bool joins(struct sock *sk)
{
	struct mptcp_subflow_context *subflow;

	if (!bpf_core_field_exists(struct tcp_sock, is_mptcp) || !BPF_CORE_READ((struct tcp_sock *)sk, is_mptcp))
		return false;
	subflow = BPF_CORE_READ((struct inet_connection_sock *)sk, icsk_ulp_data);
	return BPF_CORE_READ_BITFIELD_PROBED(subflow, request_join) || BPF_CORE_READ_BITFIELD_PROBED(subflow, mp_join);
}

/* Is it a socket of TCP, or of MPTCP, which is TCP with options? */
static __always_inline bool is_tcp(__u16 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
}

#define MAPPED_PREFIX_SIZE 12

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MAPPED_PREFIX_END 0xffff0000U
#else
#define MAPPED_PREFIX_END 0x0000ffffU
#endif

/* Is it an IPv4 address mapped into IPv6, ::ffff:a.b.c.d? One condition each, for the verifier's sake. */
static __always_inline bool is_mapped(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !(words[0] | words[1] | (words[2] ^ MAPPED_PREFIX_END));
}

static __always_inline bool is_any(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !(words[0] | words[1] | words[2] | words[3]);
}

/* IPv4 over a socket of IPv6 is IPv4. The any address of such a socket is that of both. */
static __always_inline void unmap_addresses(struct kp_network *network)
{
	__u32 *local = (__u32 *)network->local_address, *remote = (__u32 *)network->remote_address;

	if (!is_mapped(network->remote_address) && !(is_any(network->remote_address) && is_mapped(network->local_address)))
		return;
	/* The last word of the any address is 0 too. */
	network->family = AF_INET;
	local[0] = local[3];
	remote[0] = remote[3];
	local[1] = local[2] = local[3] = 0;
	remote[1] = remote[2] = remote[3] = 0;
}

/* The addresses that a socket, or the request for one, has by now; what it doesn't have is 0. */
static __always_inline void describe_common(struct kp_network *network, struct sock_common *common)
{
	__u16 family = BPF_CORE_READ(common, skc_family);

	network->family = family;
	network->remote_port = from_network(BPF_CORE_READ(common, skc_dport));
	if (family == AF_INET) {
		BPF_CORE_READ_INTO((__u32 *)network->local_address, common, skc_rcv_saddr);
		BPF_CORE_READ_INTO((__u32 *)network->remote_address, common, skc_daddr);
	} else {
		BPF_CORE_READ_INTO(&network->local_address, common, skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&network->remote_address, common, skc_v6_daddr.in6_u.u6_addr8);
		unmap_addresses(network);
	}
}

static __always_inline void describe_sock(struct kp_network *network, struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);

	network->family = family;
	network->protocol = is_tcp(protocol) ? IPPROTO_TCP : protocol;
	if (family != AF_INET && family != AF_INET6)
		return;
	/* Not skc_num: a socket has given that back when its close is reported. */
	network->local_port = from_network(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	describe_common(network, &sk->__sk_common);
}

/*
 * The process behind a TCP socket. State changes and retransmissions run in whatever context the packet
 * arrived in, so the owner is noted when it is current: at connect and at accept. The key is held_sock().
 */
struct kp_owner {
	struct kp_process process;
	__u64 since_ns;    /* start of connect, then of the connection */
	__u16 exec_number; /* as in kp_event */
	__u16 ignored;     /* the collector's own */
	__u32 connecting;  /* enum connecting */
};

/* How far a connect has come; its outcome is reported once, by whoever learns it. */
enum connecting {
	CONNECTING_DONE = 0,
	CONNECTING_IN_CALL = 1,    /* connect(2) has not returned yet */
	CONNECTING_BEHIND = 2,     /* connect(2) returned, the handshake goes on */
	CONNECTING_FAILED = 3,     /* the failure is reported, a connect(2) may yet return it */
	CONNECTING_ELSEWHERE = 4,  /* connect(2) on a socket that is none of TCP returned, the outcome is not known */
	CONNECTING_GIVEN_UP = 5,   /* closed before it was established, which is reported; its end is not */
};

/* Bounded: where it is full the socket unused for longest loses its owner, and its close comes without one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct kp_owner);
} owners SEC(".maps");

/* Counts what could not be noted, by cause; index: enum missed. */
enum missed {
	MISSED_START = 0,  /* no room to note the start of a system call: its event has no duration */
	MISSED_OWNER = 1,  /* no room to note a socket's owner: its events name no process */
	MISSED_COMPAT = 2, /* system calls by another table of numbers, of 32-bit programs or x32: not decoded */
	MISSED_EXIT = 3,   /* no room to note a process's end: it may be reported twice */
	MISSED_AIO = 4,    /* results of io_submit(2) that no call fetched, or whose beginning was not seen: no event */
	MISSED_URING = 5,  /* results of io_uring whose request, or whose request's beginning, was not seen: no event */
	MISSED_CAUSES = 6,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MISSED_CAUSES);
	__type(key, __u32);
	__type(value, __u64);
} missed SEC(".maps");

static __always_inline void count_missed_many(__u32 cause, __u64 n)
{
	__u64 *count = bpf_map_lookup_elem(&missed, &cause);

	if (count)
		ADD(*count, n);
}

static __always_inline void count_missed(__u32 cause)
{
	count_missed_many(cause, 1);
}

/* Notes the current task as the owner of sk. */
static __always_inline void own_sock(struct sock *sk, __u32 connecting)
{
	struct kp_owner owner = {};
	__u64 key = (__u64)(unsigned long)sk;

	identify(&owner.process);
	owner.exec_number = current_exec_number();
	owner.since_ns = bpf_ktime_get_boot_ns();
	owner.ignored = is_self();
	owner.connecting = connecting;
	if (bpf_map_update_elem(&owners, &key, &owner, BPF_ANY))
		count_missed(MISSED_OWNER);
}

/* The owner of a socket that is connected or connecting; NULL if it is not known. */
static __always_inline struct kp_owner *owner_of(struct sock *sk)
{
	__u64 key = (__u64)(unsigned long)sk;
	struct kp_owner *owner = bpf_map_lookup_elem(&owners, &key);

	/* The note of a failure, or of a socket that is none of TCP, is of another one at this address, before. */
	return owner && owner->connecting != CONNECTING_FAILED && owner->connecting != CONNECTING_ELSEWHERE ? owner : NULL;
}

static __always_inline bool is_connecting(const struct kp_owner *owner)
{
	return owner->connecting == CONNECTING_IN_CALL || owner->connecting == CONNECTING_BEHIND;
}

/* The program gives up what a failed connect has left in sk; the next one begins anew. */
static __always_inline void forget_failure(struct sock *sk)
{
	__u64 key = (__u64)(unsigned long)sk;
	struct kp_owner *owner = bpf_map_lookup_elem(&owners, &key);

	if (owner && owner->connecting == CONNECTING_FAILED)
		bpf_map_delete_elem(&owners, &key); /* gone already: evicted meanwhile */
}

/* Notes the current task as the owner of sk, which it has accepted; unless sk is closed by now. */
static __always_inline void own_accepted(struct sock *sk)
{
	__u64 key = (__u64)(unsigned long)sk;

	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE)
		return;
	own_sock(sk, CONNECTING_DONE);
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE)
		bpf_map_delete_elem(&owners, &key); /* gone already: closed and deleted in between */
}

#endif
