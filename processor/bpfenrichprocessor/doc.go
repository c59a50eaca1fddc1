// Package bpfenrichprocessor is the processor bpf_enrich: it adds to every kernel event what the kernel does
// not say with it (executable, parent, user, container, pod), and puts the result in a queue in the kernel,
// whose workers deliver to the next component.
//
//   - enricher_linux.go: the event path. It asks its caches, and waits for lookups for a bounded time.
//   - entry_linux.go: what the caches hold, and how an event's context is composed of it.
//   - resolver_linux.go: the workers that look up, beside the event path.
//   - source_linux.go: where they look.
//
// What knows the formats of the system is in internal: procfs, cgroupfs, container and users; clock is the cache.
package bpfenrichprocessor

//go:generate mdatagen metadata.yaml
