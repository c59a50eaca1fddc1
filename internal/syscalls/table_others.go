//go:build !linux || (!amd64 && !arm64)

package syscalls

var table []string
