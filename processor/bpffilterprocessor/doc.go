// Package bpffilterprocessor is the processor bpf_filter: it gives every kernel event its priority, drops
// those that match a `drop` entry, and puts the rest in a queue in the kernel, whose workers deliver to the
// next component.
package bpffilterprocessor

//go:generate mdatagen metadata.yaml
