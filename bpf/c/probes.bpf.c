// SPDX-License-Identifier: Apache-2.0
/*
 * The probes: programs on BTF tracepoints that turn what the kernel does into events in the ring buffer.
 * One header each: what is asked for (settings.h), who did it (identity.h), the way into the ring
 * (emit.h), and the four sources.
 */
#include "kernel.h"
#include "event.h"
#include "settings.h"
#include "identity.h"
#include "emit.h"
#include "file.h"
#include "socket.h"
#include "message.h"
#include "peer.h"
#include "aio.h"
#include "registers.h"
#include "syscall.h"
#include "classify.h"
#include "call_event.h"
#include "connection.h"
#include "trace.h"
#include "uring.h"
#include "process.h"

/* The helpers for reading kernel memory are for GPL-compatible programs; Apache-2.0 alone is not listed. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Tells a process its own pid and start as the kernel's initial pid namespace has them, for settings.self_*. */
struct kp_self {
	__u64 start_ns;
	__u32 tgid;
	__u32 reserved;
};

struct kp_self self SEC(".data.self");

SEC("raw_tp")
int find_self(__u64 *args)
{
	self.tgid = bpf_get_current_pid_tgid() >> 32;
	self.start_ns = current_start_ns();
	return 0;
}
