// Package bpfenrichprocessor is the processor bpf_enrich: it adds to every kernel event what the kernel does
// not say with it (executable, parent, user, container, pod), and puts the result in a queue in the kernel,
// whose workers deliver to the next component.
//
//   - enricher_linux.go: the event path. It asks its caches, then the process table in the kernel, and waits for other
//     lookups for a bounded time.
//   - table_linux.go: what the process table knows of a process. ancestor_linux.go: its chosen ancestor.
//   - entry_linux.go: what the caches hold, and how an event's context is composed of it.
//   - resolver_linux.go: the workers that look up, beside the event path.
//   - source_linux.go: where they look.
//   - details_linux.go: what only records have room for, paths and arguments. redaction*.go: secrets in them.
//
// What knows the formats of the system is in internal: procfs, cgroupfs, container and users; clock is the cache.
package bpfenrichprocessor

//go:generate mdatagen metadata.yaml
