/* SPDX-License-Identifier: Apache-2.0 */
/* What a system call that returns is, by its arguments and the file behind its descriptor: its category and operation. */
#ifndef KERNELPIPE_CLASSIFY_H
#define KERNELPIPE_CLASSIFY_H

/* A transfer through a descriptor: network on a socket, filesystem on a regular file, else just a system call. */
static __always_inline void transfer(struct call *call, struct file *file, bool sends)
{
	__u32 type = type_of(file);

	if (type == S_IFSOCK) {
		call->category = KP_CATEGORY_NETWORK;
		call->operation = sends ? KP_NETWORK_SEND : KP_NETWORK_RECEIVE;
		call->sk = sock_of(file);
	} else if (type == S_IFREG) {
		call->category = KP_CATEGORY_FILESYSTEM;
		call->operation = sends ? KP_FILESYSTEM_WRITE : KP_FILESYSTEM_READ;
		call->file = file;
	}
	call->bytes = call->result > 0 ? call->result : 0;
}

/* As transfer, of a call that may name the other side. What a call that failed was to return is not there. */
static __always_inline void transfer_with(struct call *call, struct file *file, bool sends, unsigned long peer, __u32 size)
{
	transfer(call, file, sends);
	if (!sends && failed(call->result))
		return;
	call->peer = peer;
	call->peer_size = size;
}

static __always_inline void transfer_messages(struct call *call, struct file *file, bool sends, unsigned long message, __u32 messages)
{
	transfer(call, file, sends);
	if (!sends && failed(call->result))
		return;
	call->message = message;
	call->messages = messages;
}

/* Does this connect(2) end what there is, by an address of no family? */
static __always_inline bool disconnects(const struct call *call)
{
	__u16 family;

	return !bpf_probe_read_user(&family, sizeof(family), (const void *)call->peer) && family == AF_UNSPEC;
}

/* A transfer between two descriptors: it counts for where the bytes go, else for where they come from. */
static __always_inline void copy(struct call *call, __u32 to, __u32 from)
{
	transfer(call, file_of(to), true);
	if (call->category == KP_CATEGORY_SYSCALL)
		transfer(call, file_of(from), false);
}

static __always_inline void on_path(struct call *call, __u32 operation, unsigned long path)
{
	call->category = KP_CATEGORY_FILESYSTEM;
	call->operation = operation;
	call->path = (const char *)path;
}

/* Does a connect(2) that returns this tell of an attempt that has, or will have, a change of state? */
static __always_inline bool told_by_state(__s64 result)
{
	switch (result) {
	case -EINPROGRESS: /* goes on */
	case -EALREADY:
	case -EISCONN: /* an earlier one succeeded */
	case -ECONNREFUSED: /* what the network answered */
	case -ECONNRESET:
	case -ECONNABORTED:
	case -ETIMEDOUT:
		return true;
	default:
		return result >= 0;
	}
}

/* The socket in whose changes of state the outcome of a connect(2) on sk shows; NULL if there is none. */
static __always_inline struct sock *tcp_below(struct sock *sk, __u16 protocol)
{
	if (protocol == IPPROTO_TCP)
		return sk;
	/* Without MPTCP in the kernel there is no such socket. */
	if (protocol == IPPROTO_MPTCP && bpf_core_type_exists(struct mptcp_sock))
		return BPF_CORE_READ((struct mptcp_sock *)sk, first);
	return NULL;
}

/* Forgets that a connect goes on on a socket that is none of TCP, and says whether one did. */
static __always_inline bool take_elsewhere(struct sock *sk)
{
	__u64 key = (__u64)(unsigned long)sk;
	struct kp_owner *owner = bpf_map_lookup_elem(&owners, &key);

	if (!owner || owner->connecting != CONNECTING_ELSEWHERE)
		return false;
	bpf_map_delete_elem(&owners, &key); /* gone already: evicted meanwhile */
	return true;
}

/*
 * A connect(2) on a socket that is none of TCP returns: no tracepoint tells of its changes of state. One that goes on
 * behind the call is reported when its outcome is fetched, by another connect(2) or by getsockopt(2).
 */
static __always_inline bool other_connect_returns(struct call *call)
{
	if (call->result == -EINPROGRESS) {
		own_sock(call->sk, CONNECTING_ELSEWHERE);
		return false;
	}
	if (call->result == -EALREADY)
		return false;
	if (take_elsewhere(call->sk) && call->result == -EISCONN)
		call->result = 0;
	return true;
}

/* A getsockopt(2) for SO_ERROR returns: does it tell the outcome of a connect that went on behind its call? */
static __always_inline bool error_fetched(struct call *call, struct sock *sk, unsigned long value)
{
	__s32 error = 0;

	if (failed(call->result) || is_tcp(BPF_CORE_READ(sk, sk_protocol)))
		return false;
	if (bpf_probe_read_user(&error, sizeof(error), (const void *)value))
		return false;
	if (!error && BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_ESTABLISHED)
		return false; /* it goes on */
	if (!take_elsewhere(sk))
		return false;
	call->category = KP_CATEGORY_NETWORK;
	call->operation = KP_NETWORK_CONNECT;
	call->sk = sk;
	call->result = -error;
	return true;
}

/*
 * A connect(2) returns. For TCP the state change reports the outcome; here only what never became one (no route, no
 * port), and the other kinds of socket. Says whether there is something to report.
 */
static __always_inline bool connect_returns(struct call *call)
{
	struct sock *sk = call->sk;
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);
	__u64 key = (__u64)(unsigned long)sk;
	struct kp_owner *owner;
	bool reported;

	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_SMC || protocol == IPPROTO_SMC)
		return !told_by_state(call->result); /* a TCP socket of the kernel connects for it */
	if (!is_tcp(protocol))
		return other_connect_returns(call);
	owner = bpf_map_lookup_elem(&owners, &key);
	if (owner && owner->connecting == CONNECTING_ELSEWHERE)
		owner = NULL;
	if (owner && owner->connecting == CONNECTING_FAILED) {
		/* The note may be of another socket at this address, before: one that has never sent has no sequence number. */
		reported = BPF_CORE_READ((struct tcp_sock *)tcp_below(sk, protocol), write_seq) != 0;
		bpf_map_delete_elem(&owners, &key); /* gone already: evicted meanwhile */
		return !reported && !told_by_state(call->result);
	}
	if (owner && owner->connecting == CONNECTING_IN_CALL)
		owner->connecting = CONNECTING_BEHIND;
	return !owner && !told_by_state(call->result);
}

/* Whether a fork, clone or exec that returned is a system call's event: a success is a process event. */
static __always_inline bool process_returns(const struct call *call, struct pt_regs *regs)
{
	unsigned long argument = SYSCALL_ARG0(regs);
	__u64 flags = 0;

	if (failed(call->result))
		return true;
	/* The registers of a program that begins are 0, so a flag that is there is that of the call. */
	if (call->kind == SYSCALL_EXECVEAT && (SYSCALL_ARG4(regs) & AT_EXECVE_CHECK))
		return true;
	if (executes(call->kind))
		return !(call->wanted & (1 << KP_CATEGORY_PROCESS));
	if (call->result == 0) /* in the child: the one call returns twice */
		return false;
	if (call->kind == SYSCALL_CLONE)
		flags = argument;
	else if (call->kind == SYSCALL_CLONE3 && bpf_probe_read_user(&flags, sizeof(flags), (const void *)argument))
		flags = 0; /* the memory is gone: most likely no thread of this process */
	return (flags & CLONE_THREAD) || !(call->wanted & (1 << KP_CATEGORY_PROCESS));
}

/* Looks at the arguments. False: its event is another one. */
static __always_inline bool classify(struct call *call, struct pt_regs *regs)
{
	__u8 kind = call->kind;
	struct file *file;
	bool receives;
	__u32 size = 0;

	switch (kind) {
	case SYSCALL_READ:
		transfer(call, file_of(SYSCALL_ARG0(regs)), false);
		break;
	case SYSCALL_WRITE:
		transfer(call, file_of(SYSCALL_ARG0(regs)), true);
		break;
	case SYSCALL_SEND:
		transfer_with(call, file_of(SYSCALL_ARG0(regs)), true, SYSCALL_ARG4(regs), SYSCALL_ARG5(regs));
		break;
	case SYSCALL_SEND_MESSAGE:
		transfer_messages(call, file_of(SYSCALL_ARG0(regs)), true, SYSCALL_ARG1(regs), 1);
		break;
	case SYSCALL_RECEIVE:
		if (looks(SYSCALL_ARG3(regs)))
			break;
		if (SYSCALL_ARG4(regs) && bpf_probe_read_user(&size, sizeof(size), (const void *)SYSCALL_ARG5(regs)))
			size = 0;
		transfer_with(call, file_of(SYSCALL_ARG0(regs)), false, SYSCALL_ARG4(regs), size);
		if ((SYSCALL_ARG3(regs) & MSG_TRUNC) && call->bytes > SYSCALL_ARG2(regs))
			call->bytes = SYSCALL_ARG2(regs);
		break;
	case SYSCALL_RECEIVE_MESSAGE:
		if (looks(SYSCALL_ARG2(regs)))
			break;
		transfer_messages(call, file_of(SYSCALL_ARG0(regs)), false, SYSCALL_ARG1(regs), 1);
		if (SYSCALL_ARG2(regs) & MSG_TRUNC)
			call->bytes = kept(SYSCALL_ARG1(regs), call->bytes);
		break;
	case SYSCALL_COPY:
		copy(call, SYSCALL_ARG2(regs), SYSCALL_ARG0(regs));
		break;
	case SYSCALL_SENDFILE:
		copy(call, SYSCALL_ARG0(regs), SYSCALL_ARG1(regs));
		break;
	case SYSCALL_SEND_MANY:
	case SYSCALL_RECEIVE_MANY:
		receives = kind == SYSCALL_RECEIVE_MANY;
		if (receives && looks(SYSCALL_ARG3(regs)))
			break;
		transfer_messages(call, file_of(SYSCALL_ARG0(regs)), !receives, SYSCALL_ARG1(regs), call->result > 0 ? call->result : 1);
		call->bytes = add_messages(SYSCALL_ARG1(regs), call->result > 0 ? call->result : 0,
					   receives && (SYSCALL_ARG3(regs) & MSG_TRUNC));
		call->partial = call->result > MAX_MESSAGES;
		break;
	case SYSCALL_CONNECT:
	case SYSCALL_ACCEPT:
		/* The descriptor of the listening socket may be closed by now; the accepted one is not. */
		file = file_of(kind == SYSCALL_ACCEPT && !failed(call->result) ? call->result : SYSCALL_ARG0(regs));
		if (!(call->wanted & (1 << KP_CATEGORY_NETWORK)) || type_of(file) != S_IFSOCK)
			break;
		if (kind == SYSCALL_CONNECT) {
			call->peer = SYSCALL_ARG1(regs);
			call->peer_size = SYSCALL_ARG2(regs);
			if (disconnects(call)) {
				forget_failure(sock_of(file));
				break;
			}
		}
		call->category = KP_CATEGORY_NETWORK;
		call->sk = sock_of(file);
		call->operation = kind == SYSCALL_ACCEPT ? KP_NETWORK_ACCEPT : KP_NETWORK_CONNECT;
		if (kind == SYSCALL_CONNECT)
			return connect_returns(call);
		break;
	case SYSCALL_GETSOCKOPT:
		if (SYSCALL_ARG1(regs) != SOL_SOCKET || SYSCALL_ARG2(regs) != SO_ERROR)
			break;
		file = file_of(SYSCALL_ARG0(regs));
		if (type_of(file) == S_IFSOCK)
			error_fetched(call, sock_of(file), SYSCALL_ARG3(regs));
		break;
	case SYSCALL_FSYNC:
		file = file_of(SYSCALL_ARG0(regs));
		if (type_of(file) != S_IFREG)
			break;
		call->category = KP_CATEGORY_FILESYSTEM;
		call->operation = KP_FILESYSTEM_FSYNC;
		call->file = file;
		break;
	case SYSCALL_OPEN:
		on_path(call, KP_FILESYSTEM_OPEN, SYSCALL_ARG0(regs));
		break;
	case SYSCALL_OPENAT:
		on_path(call, KP_FILESYSTEM_OPEN, SYSCALL_ARG1(regs));
		break;
	case SYSCALL_UNLINK:
		on_path(call, KP_FILESYSTEM_UNLINK, SYSCALL_ARG0(regs));
		break;
	case SYSCALL_UNLINKAT:
		on_path(call, KP_FILESYSTEM_UNLINK, SYSCALL_ARG1(regs));
		break;
	case SYSCALL_RENAME:
		on_path(call, KP_FILESYSTEM_RENAME, SYSCALL_ARG0(regs));
		break;
	case SYSCALL_RENAMEAT:
		on_path(call, KP_FILESYSTEM_RENAME, SYSCALL_ARG1(regs));
		break;
	case SYSCALL_EXEC:
	case SYSCALL_EXECVEAT:
	case SYSCALL_FORK:
	case SYSCALL_CLONE:
	case SYSCALL_CLONE3:
		return process_returns(call, regs);
	}
	return true;
}

/*
 * Did nothing happen in the network, as it would take a while? A send that starts a handshake (TCP Fast Open) and does not
 * wait for it has sent nothing yet either. A connect that can't wait, for there is no room, has failed.
 */
static __always_inline bool would_block(const struct call *call)
{
	if (call->operation == KP_NETWORK_CONNECT)
		return false;
	return call->result == -EAGAIN || call->result == -EINPROGRESS || call->result == -EALREADY;
}

/*
 * Does the call belong to the category that classify found? If not it is still a system call: where that
 * category is off or leaves out the operation, and where nothing happened in it, as with a socket that
 * would block.
 */
static __always_inline bool belongs(const struct call *call)
{
	const struct filter *filter = &settings.filter[call->category & 7];

	if (!(call->wanted & (1 << (call->category & 7))))
		return false;
	if (call->category == KP_CATEGORY_SYSCALL)
		return true;
	return wants_operation(filter, call->operation) && !(call->category == KP_CATEGORY_NETWORK && would_block(call));
}

#endif
