/* SPDX-License-Identifier: Apache-2.0 */
/* TCP connections by their state changes (connect, close) and retransmissions, each with its owner. */
#ifndef KERNELPIPE_CONNECTION_H
#define KERNELPIPE_CONNECTION_H

static __always_inline void emit_connection(struct sock *sk, const struct kp_owner *owner, __u16 operation, __u64 duration, __s64 result)
{
	const struct filter *filter = &settings.filter[KP_CATEGORY_NETWORK];
	struct kp_process nobody = {};
	const struct kp_process *process = owner ? &owner->process : &nobody;
	struct kp_event *event;

	if (owner && owner->ignored)
		return;
	if (!wants_operation(filter, operation) || ((filter->flags & FILTER_ERRORS_ONLY) && !failed(result)))
		return;
	if (duration < filter->min_duration_ns || !wants_process(filter, process) || !sampled(filter))
		return;
	event = reserve(KP_CATEGORY_NETWORK, operation, bpf_ktime_get_boot_ns());
	if (!event)
		return;
	event->process = *process;
	event->exec_number = owner ? owner->exec_number : 0;
	event->duration_ns = duration;
	event->result = result;
	if (!owner && operation != KP_NETWORK_RETRANSMIT)
		event->flags |= KP_FLAG_NO_DURATION;
	describe_sock(&event->network, sk);
	submit(event);
}

/* A socket leaves SYN_SENT: connected, refused, timed out, or given up. */
static __always_inline void connect_ended(struct sock *sk, struct kp_owner *owner, bool established, __u64 duration)
{
	bool in_call = owner && owner->connecting == CONNECTING_IN_CALL;
	int error = 0;

	if (!established) {
		/* Set before the state: tcp_reset() in net/ipv4/tcp_input.c, tcp_write_err() in tcp_timer.c. */
		error = BPF_CORE_READ(sk, sk_err);
		if (!error && in_call) /* no free port, say: only connect(2) returns why, so its exit reports it */
			return;
		if (error && owner)
			owner->connecting = CONNECTING_FAILED;
		if (!error)
			error = ECANCELED; /* the socket was closed while connecting */
	}
	emit_connection(sk, owner, KP_NETWORK_CONNECT, duration, -error);
}

/* include/trace/events/sock.h */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sk, int from, int to)
{
	__u64 key = (__u64)(unsigned long)sk;
	struct kp_owner *owner;
	__u64 now, since;

	if (silent() || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (to == TCP_SYN_SENT) { /* in connect(2), in its task */
		own_sock(sk, CONNECTING_IN_CALL);
		return 0;
	}
	if (to != TCP_ESTABLISHED && to != TCP_CLOSE)
		return 0;
	if (from != TCP_SYN_SENT && to == TCP_ESTABLISHED) /* an accepted one; it is noted at accept(2) */
		return 0;
	if (from == TCP_CLOSE || from == TCP_LISTEN || from == TCP_SYN_RECV || from == TCP_NEW_SYN_RECV)
		return 0;

	owner = owner_of(sk);
	now = bpf_ktime_get_boot_ns();
	since = owner ? owner->since_ns : now;
	if (from == TCP_SYN_SENT) {
		connect_ended(sk, owner, to == TCP_ESTABLISHED, now - since);
		if (owner && to == TCP_ESTABLISHED) {
			owner->since_ns = now;
			owner->connecting = CONNECTING_DONE;
		}
	} else {
		emit_connection(sk, owner, KP_NETWORK_CLOSE, now - since, 0);
	}
	if (to == TCP_CLOSE && owner && owner->connecting != CONNECTING_FAILED)
		bpf_map_delete_elem(&owners, &key); /* gone already: evicted meanwhile */
	return 0;
}

/* include/trace/events/tcp.h */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, struct sock *sk)
{
	if (silent())
		return 0;
	emit_connection(sk, owner_of(sk), KP_NETWORK_RETRANSMIT, 0, 0);
	return 0;
}

#endif
