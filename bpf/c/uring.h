/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of io_uring, from include/trace/events/io_uring.h: one tracepoint when the kernel takes a request, in a task of
 * the process that made it, and another when it has a result, wherever that is. A result that the kernel does not tell of, for
 * the program asked for none or has no room for it, is counted when the memory of its request is used again.
 */
#ifndef KERNELPIPE_URING_H
#define KERNELPIPE_URING_H

/* include/uapi/linux/io_uring.h */
enum uring_opcode {
	IORING_OP_READV = 1,
	IORING_OP_WRITEV = 2,
	IORING_OP_FSYNC = 3,
	IORING_OP_READ_FIXED = 4,
	IORING_OP_WRITE_FIXED = 5,
	IORING_OP_SENDMSG = 9,
	IORING_OP_RECVMSG = 10,
	IORING_OP_ACCEPT = 13,
	IORING_OP_CONNECT = 16,
	IORING_OP_OPENAT = 18,
	IORING_OP_READ = 22,
	IORING_OP_WRITE = 23,
	IORING_OP_SEND = 26,
	IORING_OP_RECV = 27,
	IORING_OP_OPENAT2 = 28,
	IORING_OP_RENAMEAT = 35,
	IORING_OP_UNLINKAT = 36,
	IORING_OP_SEND_ZC = 47,
	IORING_OP_SENDMSG_ZC = 48,
	IORING_OP_READV_FIXED = 60,
	IORING_OP_WRITEV_FIXED = 61,
};

#define MAX_OPCODES 256 /* an opcode is a byte, so that none is out of the table */
#define IORING_CQE_F_BUFFER 1
#define IORING_CQE_F_MORE 2
#define IORING_FILE_INDEX_ALLOC (~0U)
#define MAX_RESULT 0x7fffffff
#define PERCPU_REF_DEAD 2 /* include/linux/percpu-refcount.h */

/* The operations of a request: with a socket that of the network category, else that of the filesystem category; 0: none. */
struct request_rule {
	__u8 network;
	__u8 filesystem;
	__u8 on_path; /* it works with a path, and not with an open file */
};

static const struct request_rule request_rules[MAX_OPCODES] = {
	[IORING_OP_READ] = {KP_NETWORK_RECEIVE, KP_FILESYSTEM_READ},
	[IORING_OP_READV] = {KP_NETWORK_RECEIVE, KP_FILESYSTEM_READ},
	[IORING_OP_READ_FIXED] = {KP_NETWORK_RECEIVE, KP_FILESYSTEM_READ},
	[IORING_OP_READV_FIXED] = {KP_NETWORK_RECEIVE, KP_FILESYSTEM_READ},
	[IORING_OP_WRITE] = {KP_NETWORK_SEND, KP_FILESYSTEM_WRITE},
	[IORING_OP_WRITEV] = {KP_NETWORK_SEND, KP_FILESYSTEM_WRITE},
	[IORING_OP_WRITE_FIXED] = {KP_NETWORK_SEND, KP_FILESYSTEM_WRITE},
	[IORING_OP_WRITEV_FIXED] = {KP_NETWORK_SEND, KP_FILESYSTEM_WRITE},
	[IORING_OP_SEND] = {KP_NETWORK_SEND},
	[IORING_OP_SENDMSG] = {KP_NETWORK_SEND},
	[IORING_OP_SEND_ZC] = {KP_NETWORK_SEND},
	[IORING_OP_SENDMSG_ZC] = {KP_NETWORK_SEND},
	[IORING_OP_RECV] = {KP_NETWORK_RECEIVE},
	[IORING_OP_RECVMSG] = {KP_NETWORK_RECEIVE},
	[IORING_OP_ACCEPT] = {KP_NETWORK_ACCEPT},
	[IORING_OP_CONNECT] = {KP_NETWORK_CONNECT},
	[IORING_OP_FSYNC] = {0, KP_FILESYSTEM_FSYNC},
	[IORING_OP_OPENAT] = {0, KP_FILESYSTEM_OPEN, true},
	[IORING_OP_OPENAT2] = {0, KP_FILESYSTEM_OPEN, true},
	[IORING_OP_UNLINKAT] = {0, KP_FILESYSTEM_UNLINK, true},
	[IORING_OP_RENAMEAT] = {0, KP_FILESYSTEM_RENAME, true},
};

/* What is noted of a request that the kernel has taken. */
struct request {
	struct kp_process process;
	__u64 start_ns;
	__u32 room;        /* a receive: of the message that it returns the length of; 0: it returns what it moved */
	__u16 exec_number; /* as in kp_event */
	__u8 flags;        /* likewise */
	bool disconnects;  /* a connect to an address of no family */
	union {
		struct peer peer;       /* a send or connect: the other side as it was named */
		char name[KP_NAME_LEN]; /* with a path: that */
	};
};

/* Requests that are under way, by their address. Bounded: the one that waits for longest goes, and its result is counted. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__uint(value_size, sizeof(struct request)); /* not its type: Go has no use for it */
} requests SEC(".maps");

/* The task that makes requests for the process, or for a thread of it that polls (IORING_SETUP_SQPOLL), goes by its name. */
static __always_inline void identify_requester(struct kp_process *process)
{
	identify(process);
	if (!(READ_CURRENT(flags) & PF_IO_WORKER))
		return;
	process->tid = process->tgid;
	BPF_CORE_READ_INTO(&process->comm, (struct task_struct *)bpf_get_current_task(), group_leader, comm);
	clean_comm((__u64 *)process->comm);
}

/* Does any category want such requests of this process? What they do to connections is looked at for their owners. */
static __always_inline bool wants_request(const struct request_rule *rule, const struct kp_process *process)
{
	const struct filter *network = &settings.filter[KP_CATEGORY_NETWORK];
	const struct filter *filesystem = &settings.filter[KP_CATEGORY_FILESYSTEM];

	if (rule->network == KP_NETWORK_ACCEPT || rule->network == KP_NETWORK_CONNECT)
		return network->flags & FILTER_ENABLED;
	return (rule->network && wants_operation(network, rule->network) && wants_process(KP_CATEGORY_NETWORK, process)) ||
	       (rule->filesystem && wants_operation(filesystem, rule->filesystem) && wants_process(KP_CATEGORY_FILESYSTEM, process));
}

/* Notes what the program has named in its memory, and the kernel in its own: neither may be there when there is a result. */
static __always_inline void note_names(struct request *request, struct io_kiocb *req, __u8 opcode)
{
	struct io_sr_msg *message = (struct io_sr_msg *)req;
	struct io_connect *connect = (struct io_connect *)req;
	unsigned long at;
	__u16 family;
	__u32 size = 0;

	switch (opcode) {
	case IORING_OP_SENDMSG:
	case IORING_OP_SENDMSG_ZC:
		at = name_of((unsigned long)BPF_CORE_READ(message, umsg), &size);
		read_peer(&request->peer, at, size);
		break;
	case IORING_OP_RECV:
		if (BPF_CORE_READ(message, msg_flags) & MSG_TRUNC)
			request->room = BPF_CORE_READ(message, len);
		break;
	case IORING_OP_RECVMSG:
		if (BPF_CORE_READ(message, msg_flags) & MSG_TRUNC)
			request->room = kept((unsigned long)BPF_CORE_READ(message, umsg), MAX_RESULT);
		break;
	case IORING_OP_CONNECT:
		at = (unsigned long)BPF_CORE_READ(connect, addr);
		request->disconnects = !bpf_probe_read_user(&family, sizeof(family), (const void *)at) && family == AF_UNSPEC;
		read_peer(&request->peer, at, BPF_CORE_READ(connect, addr_len));
		break;
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
		COPY_NAME(request, bpf_probe_read_kernel_str, bpf_probe_read_kernel, BPF_CORE_READ((struct io_open *)req, filename, name));
		break;
	case IORING_OP_UNLINKAT:
		COPY_NAME(request, bpf_probe_read_kernel_str, bpf_probe_read_kernel, BPF_CORE_READ((struct io_unlink *)req, filename, name));
		break;
	case IORING_OP_RENAMEAT:
		COPY_NAME(request, bpf_probe_read_kernel_str, bpf_probe_read_kernel, BPF_CORE_READ((struct io_rename *)req, oldpath, name));
		break;
	}
}

static __always_inline int request_begins(struct io_kiocb *req)
{
	__u64 key = (__u64)(unsigned long)req;
	const struct request_rule *rule;
	struct request request = {};
	__u8 opcode;

	if (silent())
		return 0;
	if (bpf_map_lookup_elem(&requests, &key)) { /* of the request before, which has ended unseen */
		count_missed(MISSED_URING);
		bpf_map_delete_elem(&requests, &key); /* gone already: evicted meanwhile */
	}
	opcode = BPF_CORE_READ(req, opcode);
	rule = &request_rules[opcode];
	if ((!rule->network && !rule->filesystem) || is_self())
		return 0;
	identify_requester(&request.process);
	if (!wants_request(rule, &request.process))
		return 0;
	request.exec_number = current_exec_number();
	note_names(&request, req, opcode);
	request.start_ns = bpf_ktime_get_boot_ns();
	if (bpf_map_update_elem(&requests, &key, &request, BPF_ANY))
		count_missed(MISSED_URING);
	return 0;
}

/* The file that an accept has made: behind a descriptor, or in the ring's own table. */
static __always_inline struct file *accepted_file(struct io_kiocb *req, __u32 result)
{
	__u32 slot = BPF_CORE_READ((struct io_accept *)req, file_slot);
	struct io_ring_ctx *ring = BPF_CORE_READ(req, ctx);
	struct io_rsrc_node **nodes, *node = NULL;
	unsigned long pointer;

	if (!slot)
		return file_of(result);
	slot = slot == IORING_FILE_INDEX_ALLOC ? result : slot - 1;
	if (bpf_core_field_exists(struct io_file_table, files)) {
		struct io_fixed_file *files = BPF_CORE_READ(ring, file_table.files);

		if (bpf_probe_read_kernel(&pointer, sizeof(pointer), (void *)files + slot * sizeof(pointer)))
			return NULL;
	} else {
		nodes = BPF_CORE_READ(ring, file_table.data.nodes);
		if (bpf_probe_read_kernel(&node, sizeof(node), nodes + slot))
			return NULL;
		pointer = BPF_CORE_READ(node, file_ptr);
	}
	return (struct file *)(pointer & ~7UL); /* the kernel keeps flags there */
}

/* Notes the owner of a TCP connection that was accepted, as own_accepted() does for the current task. */
static __always_inline void own_requested(struct sock *sk, const struct request *request, __u64 now)
{
	struct kp_owner owner = {.process = request->process, .since_ns = now, .exec_number = request->exec_number};
	__u64 key = (__u64)(unsigned long)sk;

	if (!is_tcp(BPF_CORE_READ(sk, sk_protocol)) || BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE)
		return;
	if (bpf_map_update_elem(&owners, &key, &owner, BPF_ANY))
		count_missed(MISSED_OWNER);
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE)
		bpf_map_delete_elem(&owners, &key); /* gone already: closed and deleted in between */
}

/* Is there an event of this in the network category? A success of an accept is one of the socket that it has made. */
static __always_inline bool socket_request_ends(struct call *call, struct io_kiocb *req, __u8 opcode, const struct request *request, __u64 now)
{
	struct file *file;

	if (call->operation == KP_NETWORK_CONNECT) {
		if (request->disconnects) {
			forget_failure(call->sk);
			return false;
		}
		return connect_returns(call);
	}
	if (call->operation == KP_NETWORK_ACCEPT && !failed(call->result)) {
		file = accepted_file(req, call->result);
		if (type_of(file) == S_IFSOCK) {
			call->sk = sock_of(file);
			own_requested(call->sk, request, now);
		}
	}
	if ((opcode == IORING_OP_RECV || opcode == IORING_OP_RECVMSG) && looks(BPF_CORE_READ((struct io_sr_msg *)req, msg_flags)))
		return false;
	return !would_block(call);
}

static __always_inline void describe_request(struct kp_network *network, struct io_kiocb *req, __u8 opcode, const struct call *call, const struct request *request)
{
	struct peer peer = request->peer;
	__u32 size = 0;
	unsigned long at;

	if (!names_peer(network, call))
		return;
	if (opcode == IORING_OP_RECVMSG && !failed(call->result)) {
		at = name_of((unsigned long)BPF_CORE_READ((struct io_sr_msg *)req, umsg), &size);
		read_peer(&peer, at, size);
	}
	if (peer.family != AF_UNSPEC)
		describe_peer(network, &peer);
}

static __always_inline bool moves(const struct call *call)
{
	if (call->category == KP_CATEGORY_NETWORK)
		return call->operation == KP_NETWORK_SEND || call->operation == KP_NETWORK_RECEIVE;
	return call->operation == KP_FILESYSTEM_READ || call->operation == KP_FILESYSTEM_WRITE;
}

/* What a request does, to what. Category KP_CATEGORY_UNSET: nothing that is an event. */
static __always_inline void classify_request(struct call *call, struct io_kiocb *req, const struct request_rule *rule)
{
	struct file *file = BPF_CORE_READ(req, file);
	__u32 type = rule->on_path ? 0 : type_of(file);

	if (type == S_IFSOCK && rule->network) {
		call->category = KP_CATEGORY_NETWORK;
		call->operation = rule->network;
		call->sk = sock_of(file);
	} else if ((type == S_IFREG || rule->on_path) && rule->filesystem) {
		call->category = KP_CATEGORY_FILESYSTEM;
		call->operation = rule->filesystem;
		call->file = rule->on_path ? NULL : file;
	}
}

/* Counts a result whose request is not known, if it could have been an event. */
static __always_inline void miss_request(__u32 category, __u32 operation, __s64 result)
{
	const struct filter *filter = &settings.filter[category & 7];

	if (wants_operation(filter, operation) && (failed(result) || !(filter->flags & FILTER_ERRORS_ONLY)) && !is_self() &&
	    wants_current(category))
		count_missed(MISSED_URING);
}

static __always_inline void emit_request(struct call *call, struct io_kiocb *req, __u8 opcode, const struct request *request)
{
	const struct filter *filter = &settings.filter[call->category & 7];
	__u64 now = bpf_ktime_get_boot_ns();
	__u64 duration = now - request->start_ns;
	struct file *file = call->file;
	struct kp_event *event;

	if (call->category == KP_CATEGORY_NETWORK && !socket_request_ends(call, req, opcode, request, now))
		return;
	if (!wants_operation(filter, call->operation) || ((filter->flags & FILTER_ERRORS_ONLY) && !failed(call->result)))
		return;
	if (duration < filter->min_duration_ns || !wants_process(call->category, &request->process) || !sampled(filter))
		return;
	event = reserve(call->category, call->operation, now);
	if (!event)
		return;
	event->duration_ns = duration;
	event->result = call->result;
	if (moves(call) && call->result > 0)
		event->bytes = request->room && request->room < call->result ? request->room : call->result;
	event->process = request->process;
	event->exec_number = request->exec_number;
	if (call->category == KP_CATEGORY_NETWORK)
		describe_request(&event->network, req, opcode, call, request);
	else if (file)
		name_file(event, file);
	else {
		event->flags = request->flags;
		__builtin_memcpy(event->name, request->name, sizeof(event->name));
	}
	submit(event);
}

/* Was a request given up with its ring or its process? Then its result goes to nobody. */
static __always_inline bool given_up(struct io_kiocb *req, __s32 result)
{
	return result == -ECANCELED &&
	       ((READ_CURRENT(flags) & PF_EXITING) || (BPF_CORE_READ(req, ctx, refs.percpu_count_ptr) & PERCPU_REF_DEAD));
}

static __always_inline int request_ends(struct io_kiocb *req, __s32 result, __u32 flags)
{
	__u64 key = (__u64)(unsigned long)req;
	struct call call = {.result = result};
	struct request *request;
	__u8 opcode;

	if (silent())
		return 0;
	if (!req) { /* one of many results of a request, or a message of another ring */
		if (flags & IORING_CQE_F_MORE)
			miss_request(KP_CATEGORY_NETWORK, flags & IORING_CQE_F_BUFFER ? KP_NETWORK_RECEIVE : KP_NETWORK_ACCEPT, result);
		return 0;
	}
	opcode = BPF_CORE_READ(req, opcode);
	if (!given_up(req, result))
		classify_request(&call, req, &request_rules[opcode]);
	request = bpf_map_lookup_elem(&requests, &key);
	if (!request) {
		if (call.category != KP_CATEGORY_UNSET)
			miss_request(call.category, call.operation, result);
		return 0;
	}
	if (call.category != KP_CATEGORY_UNSET)
		emit_request(&call, req, opcode, request);
	bpf_map_delete_elem(&requests, &key); /* gone already: evicted meanwhile */
	return 0;
}

/* Which of these fit a kernel is uringPrograms() in uring.go. */

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(io_uring_submit_req, struct io_kiocb *req)
{
	return request_begins(req);
}

SEC("tp_btf/io_uring_complete")
int BPF_PROG(io_uring_complete, struct io_ring_ctx *ring, struct io_kiocb *req, struct io_uring_cqe *cqe)
{
	return request_ends(req, BPF_CORE_READ(cqe, res), BPF_CORE_READ(cqe, flags));
}

SEC("tp_btf/io_uring_complete")
int BPF_PROG(io_uring_complete_fields, struct io_ring_ctx *ring, struct io_kiocb *req, __u64 data, __s32 result, __u32 flags)
{
	return request_ends(req, result, flags);
}

#endif
