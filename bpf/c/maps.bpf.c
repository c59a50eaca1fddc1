// SPDX-License-Identifier: Apache-2.0
/*
 * Lists the ids of all BPF maps there are. To ask for them by system call needs CAP_SYS_ADMIN, an iterator (5.8) only
 * what the other programs need too.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("iter/bpf_map")
int list_maps(struct bpf_iter__bpf_map *ctx)
{
	struct bpf_map *map = ctx->map;
	__u32 id;

	if (!map) /* the end */
		return 0;
	id = map->id;
	/* When its buffer is full, the kernel calls once more with the same map. */
	bpf_seq_write(ctx->meta->seq, &id, sizeof(id));
	return 0;
}
