// Package bpfreceiver is the receiver `bpf`: it attaches BPF programs to tracepoints, reads the events that
// they write into a ring buffer in the kernel, and hands them on in batches. It does the same with the events in a
// pinned queue of another component. An event leaves the ring buffer or the queue only when the next component has
// accepted it.
//
// Where to look: config.go and its kin for settings, settings_linux.go for what they mean to the kernel,
// receiver_linux.go for start and shutdown, drain_linux.go for delivery, simulate_linux.go for the simulator,
// queue_linux.go for the queue, telemetry_linux.go for the books.
package bpfreceiver

//go:generate mdatagen metadata.yaml
