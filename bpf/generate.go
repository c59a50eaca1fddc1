//go:build linux

package bpf

// The programs that read system call arguments differ by architecture, the others do not.
//go:generate bpf2go -tags linux -target amd64,arm64 probes c/probes.bpf.c
//go:generate bpf2go -tags linux -target bpfel simulate c/simulate.bpf.c
//go:generate bpf2go -tags linux -target bpfel queue c/queue.bpf.c
//go:generate bpf2go -tags linux -target bpfel stats c/stats.bpf.c
//go:generate bpf2go -tags linux -target bpfel processTable c/process_table.bpf.c
//go:generate bpf2go -tags linux -target bpfel maps c/maps.bpf.c
