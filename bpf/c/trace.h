/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs that see system calls. sys_enter notes the time, sys_exit makes the event. The event of a call that a signal
 * has interrupted waits: a call that begins again is one call, from its first beginning to its last end.
 */
#ifndef KERNELPIPE_TRACE_H
#define KERNELPIPE_TRACE_H

/* A system call that was interrupted, until it has failed or begun again. */
struct interruption {
	__u64 thread_start_ns; /* of its thread, for tids are given again */
	__u64 stack;           /* where in the program … */
	__u64 place;           /* … it was made */
	__s64 result;          /* -ERESTART…; 0: a handler runs, and when it returns the call begins again */
	__u64 start_ns;        /* of the call; 0: not known */
	__u32 number;
	__u32 wanted;          /* it has an event if it fails, which is … */
	struct kp_event event; /* … this, as what the call named may be gone by then */
};

/* By tid. Bounded: the one that waits for longest goes. They wait for microseconds, or as long as their process is stopped. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__uint(value_size, sizeof(struct interruption)); /* not its type: Go has no use for it */
} interruptions SEC(".maps");

static __always_inline struct interruption *interruption_of_current(void)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct interruption *found = bpf_map_lookup_elem(&interruptions, &tid);

	return found && found->thread_start_ns == READ_CURRENT(start_boottime) ? found : NULL;
}

static __always_inline void forget_interruption(void)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();

	bpf_map_delete_elem(&interruptions, &tid); /* gone already: evicted meanwhile */
}

/* Where the start of the current thread's system calls is noted; NULL without room. */
static __always_inline struct start *own_start(bool by_tid)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct start *start, none = {};

	if (!by_tid)
		return bpf_task_storage_get(&starts, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	start = bpf_map_lookup_elem(&starts_by_tid, &tid);
	if (start || bpf_map_update_elem(&starts_by_tid, &tid, &none, BPF_ANY))
		return start;
	return bpf_map_lookup_elem(&starts_by_tid, &tid);
}

/*
 * Is this call one that was interrupted, and begins again? It is made from the same place, with the same stack, as no call of
 * a signal's handler is. A handler that leaves by siglongjmp(3) and then makes the call anew looks the same.
 */
static __always_inline bool begins_again(struct start *start, struct pt_regs *regs, __u32 number)
{
	struct interruption *before = interruption_of_current();

	if (!before) {
		start->interrupted = 0;
		return false;
	}
	if (before->stack != regs->sp || before->place != SYSCALL_PLACE(regs) || (number != before->number && number != RESTART_SYSCALL))
		return false;
	start->time_ns = before->start_ns;
	start->number = before->number;
	start->interrupted = 0;
	forget_interruption();
	return true;
}

/* Is the system call wanted as such? */
static __always_inline bool is_itself_wanted(const struct syscall_rule *rule)
{
	return rule->wanted & (1 << KP_CATEGORY_SYSCALL);
}

static __always_inline int enters(struct pt_regs *regs, __u32 number, bool by_tid)
{
	const struct syscall_rule *rule;
	struct start *start;

	if (silent())
		return 0;
	if (of_other_table(number)) {
		count_other_table();
		return 0;
	}
	rule = rule_of(number);
	if (rule && rule->kind == SYSCALL_CLOSE) {
		if (rule->wanted & (1 << KP_CATEGORY_NETWORK))
			close_begins(SYSCALL_ARG0(regs));
		if (!is_itself_wanted(rule))
			return 0;
	}
	if (number != RESTART_SYSCALL && (!rule || is_self() || !anyone_wants_current(rule->wanted)))
		return 0;
	start = own_start(by_tid);
	if (!start) {
		count_missed(MISSED_START);
		return 0;
	}
	if (start->interrupted && begins_again(start, regs, number))
		return 0;
	start->time_ns = bpf_ktime_get_boot_ns();
	start->number = number;
	if (rule && rule->kind == SYSCALL_AIO_SUBMIT && (rule->wanted & (1 << KP_CATEGORY_FILESYSTEM)))
		submits_aio(SYSCALL_ARG2(regs), SYSCALL_ARG1(regs));
	return 0;
}

/* Notes that a call was interrupted. False: there is no room. */
static __always_inline bool interrupt(struct pt_regs *regs, long result, const struct call *call, bool wanted, bool by_tid)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct interruption interruption = {
		.thread_start_ns = READ_CURRENT(start_boottime),
		.stack = regs->sp,
		.place = SYSCALL_PLACE(regs),
		.result = result,
		.start_ns = call->start_ns,
		.number = call->number,
		.wanted = wanted,
	}, *noted;
	struct start *start = own_start(by_tid);

	if (!start || bpf_map_update_elem(&interruptions, &tid, &interruption, BPF_ANY))
		return false;
	noted = bpf_map_lookup_elem(&interruptions, &tid);
	if (!noted) /* evicted by now */
		return false;
	if (wanted) {
		begin_event(&noted->event, call->category, call->operation, 0);
		describe_call(&noted->event, call);
	}
	start->interrupted = 1;
	return true;
}

/* An interrupted call has failed. */
static __always_inline void emit_interrupted(const struct interruption *interruption, __u64 now)
{
	const struct kp_event *described = &interruption->event;
	struct kp_event *event;
	__u64 duration;

	event = reserve_call(described->category, described->operation, interruption->start_ns, now, &duration);
	if (!event)
		return;
	*event = *described;
	event->time_ns = now;
	event->duration_ns = duration;
	submit(event);
}

/* Is the current thread about to die by a signal? Then its program does not see the call return. */
static __always_inline bool dies(void)
{
	return READ_CURRENT(pending.signal.sig[0]) & SIGNAL_BIT(SIGKILL);
}

/* Is the state of a socket noted by this call, whether anyone wants the call or not? */
static __always_inline bool connects(__u8 kind)
{
	return kind == SYSCALL_CONNECT || kind == SYSCALL_GETSOCKOPT;
}

/* Notes whose the socket is that was accepted as descriptor fd. */
static __always_inline void accepts(__u32 fd)
{
	struct file *file = file_of(fd);
	struct sock *sk = type_of(file) == S_IFSOCK ? sock_of(file) : NULL;

	if (sk && is_tcp(BPF_CORE_READ(sk, sk_protocol)))
		own_accepted(sk);
}

/* The call that returns, as far as it is known before its arguments are looked at. NULL: nobody wants it. */
static __always_inline struct call *returning(struct pt_regs *regs, long result, bool by_tid)
{
	__u32 number = SYSCALL_NUMBER(regs), zero = 0;
	const struct syscall_rule *rule;
	struct call *call;
	bool exec;

	if (silent())
		return NULL;
	if (number == RESTART_SYSCALL)
		number = restarted_number(by_tid);
	exec = exec_returns(&number, result, by_tid);
	rule = rule_of(number);
	if (!rule || (!exec && of_other_table(number)))
		return NULL;
	if (rule->kind == SYSCALL_CLOSE && !is_itself_wanted(rule))
		return NULL;
	if (denied(regs, result, by_tid))
		result = -EPERM;
	if (rule->kind == SYSCALL_ACCEPT && !failed(result) && (rule->wanted & (1 << KP_CATEGORY_NETWORK)))
		accepts(result);
	if (is_self() || (!connects(rule->kind) && !anyone_wants_current(rule->wanted)))
		return NULL;
	call = bpf_map_lookup_elem(&calls, &zero);
	if (!call)
		return NULL;
	__builtin_memset(call, 0, sizeof(*call));
	call->start_ns = take_start(number, by_tid);
	call->number = number;
	call->kind = rule->kind;
	call->wanted = rule->wanted;
	call->result = result;
	return call;
}

/* All conditions on a call but those of its process, which are met, and the duration. False: no event. */
static __always_inline bool leaves(struct call *call, struct pt_regs *regs)
{
	__s64 result = call->result;

	if (call->wanted & (1 << KP_CATEGORY_FILESYSTEM)) {
		if (call->kind == SYSCALL_AIO_SUBMIT && result != (long)SYSCALL_ARG1(regs))
			refuses_aio(SYSCALL_ARG2(regs), SYSCALL_ARG1(regs), failed(result) ? 0 : result);
		else if (call->kind == SYSCALL_AIO_FETCH && !failed(result))
			fetches_aio(SYSCALL_ARG3(regs), result);
	}
	if (!connects(call->kind) && !anyone_wants_result(call->wanted, result))
		return false;
	if (restarts(result))
		result = -EINTR;
	call->category = KP_CATEGORY_SYSCALL;
	call->operation = call->number;
	call->result = result;
	if (!classify(call, regs))
		return false;
	if (!belongs(call)) {
		if (!(call->wanted & (1 << KP_CATEGORY_SYSCALL)))
			return false;
		call->category = KP_CATEGORY_SYSCALL;
		call->operation = call->number;
		call->result = result;
		call->sk = NULL;
		call->file = NULL;
		call->path = NULL;
	}
	if (!connects(call->kind) && call->wanted == (1 << (call->category & 7)))
		return true; /* its category is the only one that was asked */
	if ((settings.filter[call->category & 7].flags & FILTER_ERRORS_ONLY) && !failed(call->result))
		return false;
	return wants_current(call->category);
}

static __always_inline int exits(struct pt_regs *regs, long result, bool by_tid)
{
	struct call *call = returning(regs, result, by_tid);
	bool wanted;

	if (!call)
		return 0;
	wanted = leaves(call, regs);
	if ((result == -EINTR || restarts(result)) && dies())
		return 0;
	if (restarts(result) && (wanted || call->start_ns) && interrupt(regs, result, call, wanted, by_tid))
		return 0;
	if (wanted)
		emit_call(call, bpf_ktime_get_boot_ns());
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long number)
{
	return enters(regs, number, false);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long result)
{
	return exits(regs, result, false);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter_by_tid, struct pt_regs *regs, long number)
{
	return enters(regs, number, true);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit_by_tid, struct pt_regs *regs, long result)
{
	return exits(regs, result, true);
}

/*
 * A signal is delivered, from include/trace/events/signal.h. One with a handler decides what comes of the call that it has
 * interrupted (handle_signal in arch/x86/kernel/signal.c, do_signal in arch/arm64/kernel/signal.c).
 */
SEC("tp_btf/signal_deliver")
int BPF_PROG(signal_deliver, int signal, void *info, struct k_sigaction *action)
{
	struct interruption *interruption;

	if (silent() || (unsigned long)BPF_CORE_READ(action, sa.sa_handler) <= SIG_IGN)
		return 0;
	interruption = interruption_of_current();
	if (!interruption || !interruption->result)
		return 0;
	if (interruption->result == -ERESTARTNOINTR ||
	    (interruption->result == -ERESTARTSYS && (BPF_CORE_READ(action, sa.sa_flags) & SA_RESTART))) {
		interruption->result = 0;
		return 0;
	}
	if (interruption->wanted)
		emit_interrupted(interruption, bpf_ktime_get_boot_ns());
	forget_interruption();
	return 0;
}

#endif
