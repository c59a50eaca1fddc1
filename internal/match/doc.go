// Package match is the `match` settings: which events someone means. The receiver translates a Config for
// the kernel, the filter processor compiles it to a Matcher; both mean the same (bpf/c/identity.h, and the
// conditions of the programs that emit events).
package match
