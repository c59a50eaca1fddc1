/* SPDX-License-Identifier: Apache-2.0 */
/* The event of a system call that has returned. */
#ifndef KERNELPIPE_CALL_EVENT_H
#define KERNELPIPE_CALL_EVENT_H

/* Describes the socket of a call. Is the other side the one that the call names, and not that of the socket? */
static __always_inline bool names_peer(struct kp_network *network, const struct call *call)
{
	describe_sock(network, call->sk);
	if (network->family != AF_INET && network->family != AF_INET6)
		return false;
	if (network->protocol == IPPROTO_TCP && network->remote_port)
		return false;
	return call->operation != KP_NETWORK_CONNECT || failed(call->result);
}

/*
 * The socket of a call, and the other side as the call names it: where the socket has none yet, and a datagram may go to
 * another than it has, or come from any.
 */
static __always_inline void describe_socket_call(struct kp_network *network, const struct call *call)
{
	struct peer peer;

	if (!names_peer(network, call))
		return;
	if (call->message)
		peer_of_messages(&peer, call->message, call->messages);
	else
		read_peer(&peer, call->peer, call->peer_size);
	if (peer.family != AF_UNSPEC)
		describe_peer(network, &peer);
}

/* Puts the name of an open file into its event, if it has one. */
static __always_inline void name_file(struct kp_event *event, struct file *file)
{
	COPY_NAME(event, bpf_probe_read_kernel_str, bpf_probe_read_kernel, (const char *)BPF_CORE_READ(file, f_path.dentry, d_name.name));
	if (event->name[0] == '#' && is_nameless((__u64)file))
		__builtin_memset(event->name, 0, KP_NAME_LEN);
}

/* Puts what is known of a call into its event, but for its duration. */
static __always_inline void describe_call(struct kp_event *event, const struct call *call)
{
	struct file *file = call->file; /* on their own, for CO-RE would relocate struct call too */
	const char *path = call->path;

	event->bytes = call->bytes;
	event->result = call->result;
	event->flags = (call->start_ns ? 0 : KP_FLAG_NO_DURATION) | (call->partial ? KP_FLAG_BYTES_PARTIAL : 0);
	identify(&event->process);
	event->exec_number = current_exec_number();
	if (call->sk)
		describe_socket_call(&event->network, call);
	else if (file)
		name_file(event, file);
	else if (path)
		COPY_NAME(event, bpf_probe_read_user_str, bpf_probe_read_user, path);
}

/* Makes room for the event of a call that has ended, if its duration is wanted. start_ns is 0 where it is not known. */
static __always_inline struct kp_event *reserve_call(__u32 category, __u16 operation, __u64 start_ns, __u64 now, __u64 *duration)
{
	const struct filter *filter = &settings.filter[category & 7];
	struct kp_counts *counts;

	*duration = start_ns ? now - start_ns : 0;
	if (*duration < filter->min_duration_ns || !sampled(filter))
		return NULL;
	counts = bpf_map_lookup_elem(&counters, &category);
	if (counts && !start_ns)
		ADD(counts->untimed, 1);
	return reserve(category, operation, now);
}

static __always_inline void emit_call(const struct call *call, __u64 now)
{
	__u64 duration;
	struct kp_event *event = reserve_call(call->category, call->operation, call->start_ns, now, &duration);

	if (!event)
		return;
	describe_call(event, call);
	event->duration_ns = duration;
	submit(event);
}

#endif
