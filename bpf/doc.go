// Package bpf is kernelpipe's side of the kernel: the BPF programs and one Go type for each kernel object
// that they share with user space.
//
//   - Probes: the programs on tracepoints, their settings and their books
//   - Ring: the ring buffer that the probes and the simulator fill
//   - Queue: the queue of a stage, which moves batches
//   - Stats: the totals of all series
//   - Directory: where a component's objects are pinned, so that they outlive the process
//
// Nothing here knows what a collector is, and nothing elsewhere talks to the kernel's BPF. The C is in the
// folder c; the objects made from it are committed, so that a build needs no clang. It needs Linux.
package bpf
