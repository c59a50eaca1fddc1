/* SPDX-License-Identifier: Apache-2.0 */
/* The other side of a socket as a call names it: the address that it was given, or that it gave. */
#ifndef KERNELPIPE_PEER_H
#define KERNELPIPE_PEER_H

/* The two forms of a struct sockaddr that name a port, as far as they are read. */
struct peer {
	__u16 family; /* AF_UNSPEC: there is none */
	__be16 port;
	__u8 ipv4[4];
	__u8 ipv6[16];
};

#define PEER4_SIZE 16 /* sizeof(struct sockaddr_in) */
#define PEER6_SIZE 24 /* SIN6_LEN_RFC2133: without the scope */

/* Reads a struct sockaddr of size bytes in user memory. */
static __always_inline void read_peer(struct peer *peer, unsigned long from, __u32 size)
{
	__builtin_memset(peer, 0, sizeof(*peer));
	if (!from || size < PEER4_SIZE)
		return;
	if (bpf_probe_read_user(peer, size < PEER6_SIZE ? PEER4_SIZE : PEER6_SIZE, (const void *)from))
		peer->family = AF_UNSPEC;
	else if (peer->family == AF_INET6 && size < PEER6_SIZE)
		peer->family = AF_UNSPEC;
	else if (peer->family == AF_INET6 && is_mapped(peer->ipv6)) {
		peer->family = AF_INET;
		__builtin_memcpy(peer->ipv4, peer->ipv6 + MAPPED_PREFIX_SIZE, sizeof(peer->ipv4));
	} else if (peer->family != AF_INET && peer->family != AF_INET6)
		peer->family = AF_UNSPEC;
}

/* The other side of a network event is this one, and not that of the socket. */
static __always_inline void describe_peer(struct kp_network *network, const struct peer *peer)
{
	network->remote_port = from_network(peer->port);
	__builtin_memset(network->remote_address, 0, sizeof(network->remote_address));
	if (network->family != peer->family) { /* the local address is of the other kind, so it has no part in this */
		network->family = peer->family;
		__builtin_memset(network->local_address, 0, sizeof(network->local_address));
	}
	if (peer->family == AF_INET)
		__builtin_memcpy(network->remote_address, peer->ipv4, sizeof(peer->ipv4));
	else
		__builtin_memcpy(network->remote_address, peer->ipv6, sizeof(peer->ipv6));
}

/* Where a struct user_msghdr in user memory names an address; 0: nowhere. */
static __always_inline unsigned long name_of(unsigned long message, __u32 *size)
{
	unsigned long name = 0;

	if (bpf_probe_read_user(&name, sizeof(name), (const void *)message) ||
	    bpf_probe_read_user(size, sizeof(*size), (const void *)(message + MSGHDR_NAMELEN_OFFSET)))
		return 0;
	return name;
}

/* Do two messages name different addresses? It takes numbers, as global functions of older kernels take no other pointers. */
__noinline int names_differ(__u64 message, __u64 other)
{
	struct peer one, two;
	__u32 size = 0, other_size = 0;
	unsigned long name = name_of(message, &size), other_name = name_of(other, &other_size);

	read_peer(&one, name, size);
	read_peer(&two, other_name, other_size);
	return __builtin_memcmp(&one, &two, sizeof(one)) != 0;
}

/* Do all of so many messages name one address? A function of its own, so that the verifier reads its caller once. */
__noinline int names_agree(__u64 vector, __u64 messages)
{
	for (__u32 i = 1; i < MAX_MESSAGES; i++) {
		if (i >= messages)
			return true;
		if (names_differ(vector, vector + i * MMSGHDR_SIZE))
			return false;
	}
	return messages <= MAX_MESSAGES;
}

/* The address that all of the messages name; family AF_UNSPEC if there is none, or not one only. */
static __always_inline void peer_of_messages(struct peer *peer, __u64 vector, __u32 messages)
{
	__u32 size = 0;
	__u64 name = name_of(vector, &size);

	read_peer(peer, name, size);
	if (messages > 1 && peer->family != AF_UNSPEC && !names_agree(vector, messages))
		peer->family = AF_UNSPEC;
}

#endif
