// Package bpfqueueexporter is the exporter bpf_queue: it puts kernel events into a pinned queue with a name,
// which another process drains with the receiver `bpf`.
package bpfqueueexporter

//go:generate mdatagen metadata.yaml
