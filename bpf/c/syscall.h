/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls, and the network and filesystem events that are system calls: all leave at sys_exit, where result,
 * arguments and the file behind the descriptor are known. What a call that returns is, and its event.
 */
#ifndef KERNELPIPE_SYSCALL_H
#define KERNELPIPE_SYSCALL_H

#if defined(__TARGET_ARCH_x86)
#define SYSCALL_NUMBER(regs) ((__u32)(regs)->orig_ax)
#define SYSCALL_ARG0(regs) ((regs)->di)
#define SYSCALL_ARG1(regs) ((regs)->si)
#define SYSCALL_ARG2(regs) ((regs)->dx)
#define SYSCALL_ARG3(regs) ((regs)->r10)
#define SYSCALL_ARG4(regs) ((regs)->r8)
#define SYSCALL_ARG5(regs) ((regs)->r9)
#define ROLLED_BACK(regs) ((long)(regs)->orig_ax) /* syscall_rollback(), arch/x86/include/asm/syscall.h */
#define X32_SYSCALL(number) ((number) >> 30 == 1) /* __X32_SYSCALL_BIT, and not -1 */
#define SYSCALL_PLACE(regs) ((regs)->ip)
#define RESTART_SYSCALL 219
#define EXECVE 59
#define COMPAT_EXECVE 11
#define COMPAT_FIELD status
#define COMPAT_BIT 2 /* TS_COMPAT, arch/x86/include/asm/thread_info.h */
#elif defined(__TARGET_ARCH_arm64)
#define SYSCALL_NUMBER(regs) ((__u32)(regs)->syscallno)
#define SYSCALL_ARG0(regs) ((regs)->orig_x0)
#define SYSCALL_ARG1(regs) ((regs)->regs[1])
#define SYSCALL_ARG2(regs) ((regs)->regs[2])
#define SYSCALL_ARG3(regs) ((regs)->regs[3])
#define SYSCALL_ARG4(regs) ((regs)->regs[4])
#define SYSCALL_ARG5(regs) ((regs)->regs[5])
#define ROLLED_BACK(regs) ((long)(regs)->orig_x0) /* syscall_rollback(), arch/arm64/include/asm/syscall.h */
#define X32_SYSCALL(number) false
#define SYSCALL_PLACE(regs) ((regs)->pc)
#define RESTART_SYSCALL 128
#define COMPAT_FIELD flags
#define COMPAT_BIT (1 << 22) /* TIF_32BIT, arch/arm64/include/asm/thread_info.h */
#endif

/* When a thread entered the system call that it is in. */
struct start {
	__u64 time_ns;
	__u32 number;
	__u32 interrupted; /* the call before may have been, and may begin again: struct interruption */
};

/* Kept in the task where the kernel can: that is three times as fast as a hash. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct start);
} starts SEC(".maps");

/* For kernels without task storage for tracing programs (before 5.12). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct start);
} starts_by_tid SEC(".maps");

/* What the end of a system call is, once its arguments have been looked at. */
struct call {
	__u32 category;
	__u32 operation;
	__s64 result;
	__u64 start_ns; /* 0: not known */
	__u64 bytes;
	struct file *file; /* behind the descriptor, if there is one */
	struct sock *sk;
	const char *path;  /* in user memory */
	/* In user memory, the address that the call was given or has given: 0, or */
	unsigned long peer; /* … where it is, and … */
	__u32 peer_size;
	__u32 messages;        /* … or how many … */
	unsigned long message; /* … struct mmsghdr, or one struct user_msghdr, name it */
	__u32 number;
	bool partial;
};

/* Keeps a number below MAX_SYSCALLS in a way that the compiler can't find needless: the verifiers of older kernels need it. */
#define BOUND_SYSCALL(number) asm volatile("%0 &= 511" : "+r"(number))

/* The rule for a system call of this architecture's own table; NULL for one that nobody wants. */
static __always_inline const struct syscall_rule *rule_of(__u32 number)
{
	const struct syscall_rule *rule;

	if (number >= MAX_SYSCALLS)
		return NULL;
	BOUND_SYSCALL(number);
	rule = &settings.rule[number];
	return rule->wanted ? rule : NULL;
}

/* Is this the number of another table, that of 32-bit programs or x32? */
static __always_inline bool of_other_table(__u32 number)
{
	return (READ_CURRENT(thread_info.COMPAT_FIELD) & COMPAT_BIT) || X32_SYSCALL(number);
}

/* Does any category that may want this call want its process? */
static __always_inline bool anyone_wants_current(__u8 wanted)
{
	for (__u32 category = KP_CATEGORY_SYSCALL; category <= KP_CATEGORY_FILESYSTEM; category++) {
		if ((wanted & (1 << category)) && wants_current(&settings.filter[category & 7]))
			return true;
	}
	return false;
}

/* Counts a call by another table, unless no category that is on would want its process. */
static __always_inline void count_other_table(void)
{
	__u8 on = 0;

	for (__u32 category = KP_CATEGORY_SYSCALL; category <= KP_CATEGORY_FILESYSTEM; category++) {
		if (settings.filter[category & 7].flags & FILTER_ENABLED)
			on |= 1 << category;
	}
	if (!is_self() && anyone_wants_current(on))
		count_missed(MISSED_COMPAT);
}

/* Does any category that may want this call want its result? */
static __always_inline bool anyone_wants_result(__u8 wanted, __s64 result)
{
	for (__u32 category = KP_CATEGORY_SYSCALL; category <= KP_CATEGORY_FILESYSTEM; category++) {
		if ((wanted & (1 << category)) && (failed(result) || !(settings.filter[category & 7].flags & FILTER_ERRORS_ONLY)))
			return true;
	}
	return false;
}

static __always_inline bool executes(__u8 kind)
{
	return kind == SYSCALL_EXEC || kind == SYSCALL_EXECVEAT;
}

/* What is noted about the system call that the current thread entered last; NULL: nothing. */
static __always_inline struct start *noted_start(bool by_tid)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();

	if (by_tid)
		return bpf_map_lookup_elem(&starts_by_tid, &tid);
	return bpf_task_storage_get(&starts, bpf_get_current_task_btf(), NULL, 0);
}

/*
 * When the current thread entered system call number, 0 if that was not noted. It is forgotten thereby, for a call that
 * seccomp denies is not entered, and must not come by the start of one before.
 */
static __always_inline __u64 take_start(__u32 number, bool by_tid)
{
	struct start *start = noted_start(by_tid);
	__u64 time_ns;

	if (!start || start->number != number)
		return 0;
	time_ns = start->time_ns;
	start->time_ns = 0;
	return time_ns;
}

/* The number of a call that has begun again by restart_syscall(2). */
static __always_inline __u32 restarted_number(bool by_tid)
{
	struct start *start = noted_start(by_tid);

	return start ? start->number : RESTART_SYSCALL;
}

/*
 * Did a signal interrupt the call before it did anything? Then it fails with EINTR if a handler takes the signal and wants
 * that; else it begins again. Which of them is known when the signal is delivered, after sys_exit.
 */
static __always_inline bool restarts(long result)
{
	return result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK && result != -ENOIOCTLCMD;
}

/*
 * Did seccomp deny this call by a signal (SECCOMP_RET_TRAP, SECCOMP_RET_KILL_PROCESS)? Then it was not entered, its
 * registers are as before it, so that its result is what that register held, and the signal is still to be delivered
 * (__seccomp_filter in kernel/seccomp.c). A process that is about to die gets no other signal than SIGKILL.
 */
static __always_inline bool denied(struct pt_regs *regs, long result, bool by_tid)
{
	struct start *start;
	__u64 signals;

	if (result != ROLLED_BACK(regs))
		return false;
	signals = READ_CURRENT(pending.signal.sig[0]) & ~READ_CURRENT(blocked.sig[0]);
	if (!(signals & (SIGNAL_BIT(SIGSYS) | SIGNAL_BIT(SIGKILL))))
		return false;
	start = noted_start(by_tid);
	return !start || !start->time_ns || start->number != SYSCALL_NUMBER(regs);
}

/*
 * Is this the return of an exec? On x86 a success has replaced its number by that of execve, in the table of the new
 * program (set_personality_64bit and __set_personality_ia32 in process_64.c): which call it was is known from its start.
 */
static __always_inline bool exec_returns(__u32 *number, long result, bool by_tid)
{
#ifdef EXECVE
	if (result == 0 && (*number == EXECVE || *number == COMPAT_EXECVE)) {
		struct start *start = noted_start(by_tid);

		if (start && start->time_ns && executes(settings.rule[start->number & (MAX_SYSCALLS - 1)].kind)) {
			*number = start->number;
			return true;
		}
	}
#endif
	return false;
}

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
static __always_inline bool process_returns(struct call *call, const struct syscall_rule *rule, struct pt_regs *regs)
{
	unsigned long argument = SYSCALL_ARG0(regs);
	__u64 flags = 0;

	if (failed(call->result))
		return true;
	/* The registers of a program that begins are 0, so a flag that is there is that of the call. */
	if (rule->kind == SYSCALL_EXECVEAT && (SYSCALL_ARG4(regs) & AT_EXECVE_CHECK))
		return true;
	if (executes(rule->kind))
		return !(rule->wanted & (1 << KP_CATEGORY_PROCESS));
	if (call->result == 0) /* in the child: the one call returns twice */
		return false;
	if (rule->kind == SYSCALL_CLONE)
		flags = argument;
	else if (rule->kind == SYSCALL_CLONE3 && bpf_probe_read_user(&flags, sizeof(flags), (const void *)argument))
		flags = 0; /* the memory is gone: most likely no thread of this process */
	return (flags & CLONE_THREAD) || !(rule->wanted & (1 << KP_CATEGORY_PROCESS));
}

/* Looks at the arguments. False: its event is another one. */
static __always_inline bool classify(struct call *call, const struct syscall_rule *rule, struct pt_regs *regs)
{
	__u8 kind = rule->kind;
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
		if (!(rule->wanted & (1 << KP_CATEGORY_NETWORK)) || type_of(file) != S_IFSOCK)
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
		return process_returns(call, rule, regs);
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
static __always_inline bool belongs(const struct call *call, const struct syscall_rule *rule)
{
	const struct filter *filter = &settings.filter[call->category & 7];

	if (!(rule->wanted & (1 << (call->category & 7))))
		return false;
	if (call->category == KP_CATEGORY_SYSCALL)
		return true;
	return wants_operation(filter, call->operation) && !(call->category == KP_CATEGORY_NETWORK && would_block(call));
}

/*
 * The socket of a call, and the other side as the call names it: where the socket has none yet, and a datagram may go to
 * another than it has, or come from any.
 */
static __always_inline void describe_socket_call(struct kp_network *network, const struct call *call)
{
	struct peer peer;

	describe_sock(network, call->sk);
	if (network->family != AF_INET && network->family != AF_INET6)
		return;
	if (network->protocol == IPPROTO_TCP && network->remote_port)
		return;
	if (call->operation == KP_NETWORK_CONNECT && !failed(call->result))
		return;
	if (call->message)
		peer_of_messages(&peer, call->message, call->messages);
	else
		read_peer(&peer, call->peer, call->peer_size);
	if (peer.family != AF_UNSPEC)
		describe_peer(network, &peer);
}

static __always_inline void emit_call(struct call *call, __u64 now)
{
	const struct filter *filter = &settings.filter[call->category & 7];
	bool timed = call->start_ns;
	__u64 duration = timed ? now - call->start_ns : 0;
	__u32 category = call->category;
	struct file *file = call->file; /* on their own, for CO-RE would relocate struct call too */
	const char *path = call->path;
	struct kp_counts *counts;
	struct kp_event *event;

	if (duration < filter->min_duration_ns || !sampled(filter))
		return;
	counts = bpf_map_lookup_elem(&counters, &category);
	if (counts && !timed)
		ADD(counts->untimed, 1);
	event = reserve(call->category, call->operation, now);
	if (!event)
		return;
	event->duration_ns = duration;
	event->bytes = call->bytes;
	event->result = call->result;
	event->flags = (timed ? 0 : KP_FLAG_NO_DURATION) | (call->partial ? KP_FLAG_BYTES_PARTIAL : 0);
	identify(&event->process);
	event->exec_number = current_exec_number();
	if (call->sk)
		describe_socket_call(&event->network, call);
	else if (file) {
		COPY_NAME(event, bpf_probe_read_kernel_str, bpf_probe_read_kernel,
			  (const char *)BPF_CORE_READ(file, f_path.dentry, d_name.name));
		if (event->name[0] == '#' && is_nameless(file))
			__builtin_memset(event->name, 0, KP_NAME_LEN);
	} else if (path)
		COPY_NAME(event, bpf_probe_read_user_str, bpf_probe_read_user, path);
	submit(event);
}

/* All conditions but the duration. False: no event. */
static __always_inline bool leaves(struct pt_regs *regs, long result, struct call *call, bool by_tid)
{
	__u32 number = SYSCALL_NUMBER(regs);
	const struct syscall_rule *rule;
	const struct filter *filter;
	bool exec, connects;

	if (silent())
		return false;
	if (number == RESTART_SYSCALL)
		number = restarted_number(by_tid);
	exec = exec_returns(&number, result, by_tid);
	rule = rule_of(number);
	if (!rule || (!exec && of_other_table(number)))
		return false;
	if (denied(regs, result, by_tid))
		result = -EPERM;
	if (rule->kind == SYSCALL_ACCEPT && !failed(result) && (rule->wanted & (1 << KP_CATEGORY_NETWORK))) {
		struct file *file = file_of(result);
		struct sock *sk = type_of(file) == S_IFSOCK ? sock_of(file) : NULL;

		if (sk && is_tcp(BPF_CORE_READ(sk, sk_protocol)))
			own_accepted(sk);
	}
	/* What nobody wants is settled here, before the costly look at files. A connect is looked at for its state. */
	connects = rule->kind == SYSCALL_CONNECT || rule->kind == SYSCALL_GETSOCKOPT;
	if (is_self() || (!connects && !anyone_wants_current(rule->wanted)))
		return false;
	call->start_ns = take_start(number, by_tid);
	if (rule->wanted & (1 << KP_CATEGORY_FILESYSTEM)) {
		if (rule->kind == SYSCALL_AIO_SUBMIT && result != (long)SYSCALL_ARG1(regs))
			refuses_aio(SYSCALL_ARG2(regs), SYSCALL_ARG1(regs), failed(result) ? 0 : result);
		else if (rule->kind == SYSCALL_AIO_FETCH && !failed(result))
			fetches_aio(SYSCALL_ARG3(regs), result);
	}
	if (!connects && !anyone_wants_result(rule->wanted, result))
		return false;
	if (restarts(result))
		result = -EINTR;
	call->number = number;
	call->category = KP_CATEGORY_SYSCALL;
	call->operation = number;
	call->result = result;
	if (!classify(call, rule, regs))
		return false;
	if (!belongs(call, rule)) {
		if (!(rule->wanted & (1 << KP_CATEGORY_SYSCALL)))
			return false;
		call->category = KP_CATEGORY_SYSCALL;
		call->operation = number;
		call->result = result;
		call->sk = NULL;
		call->file = NULL;
		call->path = NULL;
	}
	if (!connects && rule->wanted == (1 << (call->category & 7)))
		return true; /* its category is the only one that was asked */
	filter = &settings.filter[call->category & 7];
	if ((filter->flags & FILTER_ERRORS_ONLY) && !failed(call->result))
		return false;
	return wants_current(filter);
}

#endif
