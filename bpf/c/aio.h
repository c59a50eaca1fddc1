/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asynchronous input and output by io_submit(2), as libaio does it: an operation is submitted by one call, and its result is
 * fetched by another, io_getevents(2). What a program fetches itself, from memory that it shares with the kernel, no
 * tracepoint shows; it is counted when the control block is used again.
 */
#ifndef KERNELPIPE_AIO_H
#define KERNELPIPE_AIO_H

#define MAX_AIO 256 /* operations that one call submits or fetches */

/* struct iocb and struct io_event, include/uapi/linux/aio_abi.h */
#define IOCB_OPCODE_OFFSET 16
#define IOCB_FD_OFFSET 20
#define IO_EVENT_SIZE 32
#define IO_EVENT_OBJ_OFFSET 8
#define IO_EVENT_RES_OFFSET 16

enum iocb_cmd {
	IOCB_CMD_PREAD = 0,
	IOCB_CMD_PWRITE = 1,
	IOCB_CMD_FSYNC = 2,
	IOCB_CMD_FDSYNC = 3,
	IOCB_CMD_PREADV = 7,
	IOCB_CMD_PWRITEV = 8,
};

/* An operation by where its control block is, in the memory of its process. */
struct aio_id {
	__u64 block;
	__u32 tgid;
	__u32 reserved;
};

struct aio {
	__u64 start_ns;
	__u32 operation; /* of the filesystem category; 0: none of its */
	__u32 cut;
	char name[KP_NAME_LEN];
};

/* Operations that are under way. Bounded: the one that waits for longest goes, and is counted when it is fetched. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct aio_id);
	__type(value, struct aio);
} operations SEC(".maps");

static __always_inline __u32 aio_operation(__u16 opcode)
{
	switch (opcode) {
	case IOCB_CMD_PREAD:
	case IOCB_CMD_PREADV:
		return KP_FILESYSTEM_READ;
	case IOCB_CMD_PWRITE:
	case IOCB_CMD_PWRITEV:
		return KP_FILESYSTEM_WRITE;
	case IOCB_CMD_FSYNC:
	case IOCB_CMD_FDSYNC:
		return KP_FILESYSTEM_FSYNC;
	default:
		return 0;
	}
}

/* Global functions, which the verifier reads once. They have to return a number, and those of older kernels take no pointers. */

__noinline int forget_aio(__u64 pointer)
{
	struct aio_id id = {.tgid = current_tgid()};

	if (!bpf_probe_read_user(&id.block, sizeof(id.block), (const void *)pointer))
		bpf_map_delete_elem(&operations, &id); /* gone already: evicted meanwhile */
	return 0;
}

/* Notes the operation of the control block whose address is at pointer. */
__noinline int submit_aio(__u64 pointer, __u64 now)
{
	struct aio_id id = {.tgid = current_tgid()};
	struct aio aio = {.start_ns = now};
	const char *name;
	struct file *file;
	__u16 opcode;
	__u32 fd;
	long length;

	if (bpf_probe_read_user(&id.block, sizeof(id.block), (const void *)pointer))
		return 0;
	if (bpf_probe_read_user(&opcode, sizeof(opcode), (const void *)(id.block + IOCB_OPCODE_OFFSET)) ||
	    bpf_probe_read_user(&fd, sizeof(fd), (const void *)(id.block + IOCB_FD_OFFSET)))
		return 0;
	file = file_of(fd);
	if (type_of(file) == S_IFREG) {
		aio.operation = aio_operation(opcode);
		name = (const char *)BPF_CORE_READ(file, f_path.dentry, d_name.name);
		length = bpf_probe_read_kernel_str(aio.name, sizeof(aio.name), name);
		aio.cut = length == sizeof(aio.name) && BPF_CORE_READ(file, f_path.dentry, d_name.len) >= sizeof(aio.name);
	}
	if (bpf_map_lookup_elem(&operations, &id)) /* the result of the one before was not fetched by a call */
		count_missed(MISSED_AIO);
	if (bpf_map_update_elem(&operations, &id, &aio, BPF_ANY))
		count_missed(MISSED_AIO);
	return 0;
}

/* Reports the operation whose result is at event, a struct io_event. */
__noinline int fetch_aio(__u64 event_at, __u64 now)
{
	const struct filter *filter = &settings.filter[KP_CATEGORY_FILESYSTEM];
	struct aio_id id = {.tgid = current_tgid()};
	struct kp_event *event;
	struct aio *aio;
	__u64 duration;
	__s64 result;

	if (bpf_probe_read_user(&id.block, sizeof(id.block), (const void *)(event_at + IO_EVENT_OBJ_OFFSET)) ||
	    bpf_probe_read_user(&result, sizeof(result), (const void *)(event_at + IO_EVENT_RES_OFFSET)))
		return 0;
	aio = bpf_map_lookup_elem(&operations, &id);
	if (!aio) {
		count_missed(MISSED_AIO);
		return 0;
	}
	duration = now - aio->start_ns;
	if (aio->operation && wants_operation(filter, aio->operation) && (failed(result) || !(filter->flags & FILTER_ERRORS_ONLY)) &&
	    duration >= filter->min_duration_ns && wants_current(KP_CATEGORY_FILESYSTEM) && sampled(filter)) {
		event = reserve(KP_CATEGORY_FILESYSTEM, aio->operation, now);
		if (event) {
			event->duration_ns = duration;
			event->result = result;
			if (result > 0)
				event->bytes = result;
			if (aio->cut)
				event->flags = KP_FLAG_NAME_CUT;
			__builtin_memcpy(event->name, aio->name, sizeof(event->name));
			identify(&event->process);
			event->exec_number = current_exec_number();
			submit(event);
		}
	}
	bpf_map_delete_elem(&operations, &id); /* gone already: evicted meanwhile */
	return 0;
}

/* The loops are functions of their own too, so that the verifier reads what follows in their callers once. */

/* io_submit(2) begins. Its operations are noted before it has taken them: another thread may fetch results before it returns. */
__noinline int submits_aio(__u64 pointers, __u64 count)
{
	__u64 now = bpf_ktime_get_boot_ns();

	for (__u32 i = 0; i < MAX_AIO; i++) {
		if (i >= count)
			break;
		submit_aio(pointers + i * sizeof(__u64), now);
	}
	return 0;
}

/* io_submit(2) took only the first so many of its operations. */
__noinline int refuses_aio(__u64 pointers, __u64 count, __u64 taken)
{
	pointers += taken * sizeof(__u64);
	count -= taken;
	for (__u32 i = 0; i < MAX_AIO; i++) {
		if (i >= count)
			break;
		forget_aio(pointers + i * sizeof(__u64));
	}
	return 0;
}

__noinline int fetches_aio(__u64 events, __u64 count)
{
	__u64 now = bpf_ktime_get_boot_ns();

	for (__u32 i = 0; i < MAX_AIO; i++) {
		if (i >= count)
			break;
		fetch_aio(events + i * IO_EVENT_SIZE, now);
	}
	if (count > MAX_AIO)
		count_missed_many(MISSED_AIO, count - MAX_AIO);
	return 0;
}

#endif
