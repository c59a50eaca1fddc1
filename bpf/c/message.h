/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes that calls with messages move. */
#ifndef KERNELPIPE_MESSAGE_H
#define KERNELPIPE_MESSAGE_H

#define MAX_MESSAGES 64

/* struct mmsghdr, struct user_msghdr and struct iovec, include/linux/socket.h and uapi/linux/uio.h, on a 64-bit kernel. */
#define MMSGHDR_SIZE 64
#define MMSGHDR_LEN_OFFSET 56
#define MSGHDR_NAMELEN_OFFSET 8 /* msg_name comes first */
#define MSGHDR_IOV_OFFSET 16
#define MSGHDR_IOVLEN_OFFSET 24
#define IOVEC_SIZE 16
#define IOVEC_LEN_OFFSET 8
#define IOVECS_AT_ONCE 32
#define MAX_IOVECS (IOVECS_AT_ONCE * IOVECS_AT_ONCE) /* UIO_MAXIOV */

/* Does a receive with these flags only look at what is there? A message of the error queue was sent by this socket. */
static __always_inline bool looks(__u64 flags)
{
	return flags & (MSG_PEEK | MSG_ERRQUEUE);
}

/*
 * The room in the first of count buffers: in IOVECS_AT_ONCE at most, or as many as have room for most bytes. What can't be
 * read is taken to have room. Such functions are global ones, so that the verifier reads each once and not for each step.
 */
__noinline __u64 room_of(__u64 vector, __u64 count, __u64 most)
{
	__u64 size, room = 0;

	for (__u32 i = 0; i < IOVECS_AT_ONCE; i++) {
		if (i >= count || room >= most)
			break;
		if (bpf_probe_read_user(&size, sizeof(size), (const void *)(vector + i * IOVEC_SIZE + IOVEC_LEN_OFFSET)))
			return most;
		room += size;
	}
	return room;
}

/*
 * How much of a received message of this length its buffers had room for: with MSG_TRUNC the kernel says how long it was.
 * header is a struct user_msghdr in user memory.
 */
__noinline __u64 kept(__u64 header, __u64 length)
{
	__u64 vector = 0, count = 0, room = 0;

	if (bpf_probe_read_user(&vector, sizeof(vector), (const void *)(header + MSGHDR_IOV_OFFSET)) ||
	    bpf_probe_read_user(&count, sizeof(count), (const void *)(header + MSGHDR_IOVLEN_OFFSET)))
		return length;
	for (__u32 i = 0; i < MAX_IOVECS; i += IOVECS_AT_ONCE) {
		if (i >= count || room >= length)
			break;
		room += room_of(vector + i * IOVEC_SIZE, count - i, length - room);
	}
	return room < length ? room : length;
}

/* Adds up the messages of sendmmsg and recvmmsg. */
__noinline __u64 add_messages(__u64 vector, __u64 count, __u64 truncates)
{
	__u64 bytes = 0;
	__u32 length;

	for (__u32 i = 0; i < MAX_MESSAGES; i++) {
		__u64 message = vector + i * MMSGHDR_SIZE;

		if (i >= count)
			break;
		if (bpf_probe_read_user(&length, sizeof(length), (const void *)(message + MMSGHDR_LEN_OFFSET)))
			break;
		bytes += truncates ? kept(message, length) : length;
	}
	return bytes;
}

#endif
