/* SPDX-License-Identifier: Apache-2.0 */
/* TCP connections by their state changes (connect, close) and retransmissions, each with its owner. */
#ifndef KERNELPIPE_CONNECTION_H
#define KERNELPIPE_CONNECTION_H

/* Is an event of this connection wanted? */
static __always_inline bool wants_connection(const struct kp_owner *owner, __u16 operation, __u64 duration, __s64 result)
{
	const struct filter *filter = &settings.filter[KP_CATEGORY_NETWORK];
	struct kp_process nobody = {};

	if (owner && owner->ignored)
		return false;
	if (!wants_operation(filter, operation) || ((filter->flags & FILTER_ERRORS_ONLY) && !failed(result)))
		return false;
	return duration >= filter->min_duration_ns && wants_process(KP_CATEGORY_NETWORK, owner ? &owner->process : &nobody);
}

/* The event of what began at since and ended now. */
static __always_inline void emit_connection(struct sock *sk, const struct kp_owner *owner, __u16 operation, __u64 since,
					    __u64 now, __s64 result)
{
	__u64 duration = now - since;
	struct kp_event *event;

	if (!wants_connection(owner, operation, duration, result) || !sampled(&settings.filter[KP_CATEGORY_NETWORK]))
		return;
	event = reserve(KP_CATEGORY_NETWORK, operation, now);
	if (!event)
		return;
	if (owner) {
		event->process = owner->process;
		event->exec_number = owner->exec_number;
	} else if (operation != KP_NETWORK_RETRANSMIT) {
		event->flags |= KP_FLAG_NO_DURATION;
	}
	event->duration_ns = duration;
	event->result = result;
	describe_sock(&event->network, sk);
	submit(event);
}

/* A connect that is under way ends without a connection: refused, timed out, or given up. */
static __always_inline void connect_failed(struct sock *sk, struct kp_owner *owner, __u64 since, __u64 now)
{
	/* Set before the state: tcp_reset() in net/ipv4/tcp_input.c, tcp_write_err() in tcp_timer.c. */
	int error = BPF_CORE_READ(sk, sk_err);

	if (!error && owner && owner->connecting == CONNECTING_IN_CALL && !BPF_CORE_READ((struct tcp_sock *)sk, packets_out))
		return; /* nothing was sent, for want of a port, say: only the call returns why, so its exit reports it */
	if (error && owner)
		owner->connecting = CONNECTING_FAILED;
	if (!error)
		error = ECANCELED; /* the socket was closed while connecting */
	emit_connection(sk, owner, KP_NETWORK_CONNECT, since, now, -error);
}

/*
 * A close(2) begins. A connect that goes on on a socket that is none of TCP is reported here, if nobody has asked for its
 * outcome: no tracepoint tells of it.
 */
static __always_inline void close_begins(__u32 fd)
{
	struct file *file = file_of(fd);
	struct kp_owner *owner;
	struct sock *sk;
	int error, state;
	__u64 key;

	if (type_of(file) != S_IFSOCK)
		return;
	sk = sock_of(file);
	if (is_tcp(BPF_CORE_READ(sk, sk_protocol)))
		return;
	key = (__u64)(unsigned long)sk;
	owner = bpf_map_lookup_elem(&owners, &key);
	if (!owner || owner->connecting != CONNECTING_ELSEWHERE || owner->process.tgid != current_tgid())
		return; /* another process that has the socket too may go on with it */
	error = BPF_CORE_READ(sk, sk_err);
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (!error && state == TCP_SYN_SENT)
		error = ECANCELED;
	if (error || state != TCP_CLOSE) /* else the note is of another socket at this address, before */
		emit_connection(sk, owner, KP_NETWORK_CONNECT, owner->since_ns, bpf_ktime_get_boot_ns(), -error);
	bpf_map_delete_elem(&owners, &key); /* gone already: evicted meanwhile */
}

/* include/trace/events/sock.h */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sk, int from, int to)
{
	struct kp_owner *owner;
	struct sock *held;
	__u64 key, now, since;
	bool connects;

	if (silent() || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || joins(sk))
		return 0;
	if (to == TCP_SYN_SENT) { /* in connect(2), or in a call that starts a handshake by the way; in its task */
		own_sock(held_sock(sk), CONNECTING_IN_CALL);
		return 0;
	}
	if (from == TCP_SYN_SENT ? to == TCP_SYN_RECV : to != TCP_ESTABLISHED && to != TCP_CLOSE && from != TCP_SYN_RECV)
		return 0;
	if (from == TCP_CLOSE || from == TCP_LISTEN || from == TCP_NEW_SYN_RECV)
		return 0;

	held = held_sock(sk);
	key = (__u64)(unsigned long)held;
	owner = owner_of(held);
	/* Both sides may have sent a SYN, to each other or to themselves. Else SYN_RECV is of a connection to be accepted. */
	connects = from == TCP_SYN_SENT || (from == TCP_SYN_RECV && owner && is_connecting(owner));
	if (!connects && (to != TCP_CLOSE || (from == TCP_SYN_RECV && !owner)))
		return 0; /* an accepted one; it is noted at accept(2) */
	now = bpf_ktime_get_boot_ns();
	since = owner ? owner->since_ns : now;
	if (connects && to == TCP_ESTABLISHED) {
		emit_connection(sk, owner, KP_NETWORK_CONNECT, since, now, 0);
		if (owner) {
			owner->since_ns = now;
			owner->connecting = CONNECTING_DONE;
		}
		return 0;
	}
	if (connects)
		connect_failed(sk, owner, since, now);
	else if (!owner || owner->connecting != CONNECTING_GIVEN_UP)
		emit_connection(sk, owner, KP_NETWORK_CLOSE, since, now, 0);
	if (!owner)
		return 0;
	if (to != TCP_CLOSE)
		owner->connecting = CONNECTING_GIVEN_UP;
	else if (owner->connecting != CONNECTING_FAILED)
		bpf_map_delete_elem(&owners, &key); /* gone already: evicted meanwhile */
	return 0;
}

/*
 * A retransmitted buffer is as many segments as it is cut into, 4,096 at most here. That is enough for 64 KiB in the
 * smallest segments, and for 512 KiB (GSO_MAX_SIZE in include/linux/netdevice.h) in segments of 128 bytes. They are emitted
 * by two loops, one in the other: the time that older verifiers take for a loop grows with the square of its length.
 */
#define SEGMENTS_AT_ONCE 64
#define MAX_SEGMENTS (SEGMENTS_AT_ONCE * SEGMENTS_AT_ONCE)

/* One segment that was sent again. It takes a number, as global functions of older kernels take no other pointers. */
__noinline int emit_segment(__u64 socket)
{
	struct sock *sk = (struct sock *)(unsigned long)socket;
	__u64 now = bpf_ktime_get_boot_ns();

	emit_connection(sk, owner_of(held_sock(sk)), KP_NETWORK_RETRANSMIT, now, now, 0);
	return 0;
}

/* The first of n segments, SEGMENTS_AT_ONCE at most. */
__noinline int emit_segments(__u64 socket, __u32 n)
{
	for (__u32 i = 0; i < SEGMENTS_AT_ONCE; i++) {
		if (i >= n)
			break;
		emit_segment(socket);
	}
	return 0;
}

/*
 * include/trace/events/tcp.h. One event for each segment, so that their number is what TcpRetransSegs counts. Where the
 * tracepoint is for failed attempts too, it says so (Linux 6.15).
 */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, struct sock *sk, struct sk_buff *skb)
{
	struct tcp_skb_cb *control;
	__u64 socket = 0;
	__u32 segments;

	if (silent() || bpf_probe_read_kernel(&socket, sizeof(socket), &ctx[0])) /* sk as a number; it can't fail */
		return 0;
	if (bpf_core_field_exists(struct trace_event_raw_tcp_retransmit_skb, err) && (int)*(volatile __u64 *)&ctx[2])
		return 0; /* not read where it is not there, which the verifier would refuse */
	control = (struct tcp_skb_cb *)__builtin_preserve_access_index(&skb->cb);
	segments = BPF_CORE_READ(control, tcp_gso_segs);
	for (__u32 i = 0; i < MAX_SEGMENTS; i += SEGMENTS_AT_ONCE) {
		if (i >= segments)
			return 0;
		emit_segments(socket, segments - i);
	}
	if (segments > MAX_SEGMENTS && wants_connection(owner_of(held_sock(sk)), KP_NETWORK_RETRANSMIT, 0, 0))
		count_lost(KP_CATEGORY_NETWORK, segments - MAX_SEGMENTS);
	return 0;
}

/* include/trace/events/tcp.h. The answer to a SYN is sent again: there is no socket yet, only a request for one. */
SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(tcp_retransmit_synack, struct sock *listener, struct request_sock *request)
{
	struct sock_common *common = (struct sock_common *)request;
	const struct filter *filter = &settings.filter[KP_CATEGORY_NETWORK];
	struct kp_event *event;

	if (silent() || !wants_connection(NULL, KP_NETWORK_RETRANSMIT, 0, 0) || !sampled(filter))
		return 0;
	event = reserve(KP_CATEGORY_NETWORK, KP_NETWORK_RETRANSMIT, bpf_ktime_get_boot_ns());
	if (!event)
		return 0;
	event->network.protocol = IPPROTO_TCP;
	event->network.local_port = BPF_CORE_READ(common, skc_num);
	describe_common(&event->network, common);
	submit(event);
	return 0;
}

#endif
