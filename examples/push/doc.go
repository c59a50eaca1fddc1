//go:build linux

// Package push is an example: a BPF program that is no part of kernelpipe and pushes events into a queue of it. The
// program is c/push.bpf.c; the Go here loads it in a test.
package push

//go:generate bpf2go -tags linux -target bpfel push c/push.bpf.c -- -I/usr/include/x86_64-linux-gnu
