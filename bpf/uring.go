//go:build linux

package bpf

import (
	"github.com/cilium/ebpf/btf"
)

// TracesUring reports whether the requests of io_uring can be traced on the kernel of these types.
func TracesUring(kernel *btf.Spec) bool { return len(uringPrograms(kernel)) > 0 }

// uringPrograms returns the programs on the tracepoints of io_uring that fit the kernel of these types. There are none before
// Linux 6.3: the tracepoints don't tell which result is that of which request, or a request names the file of another.
func uringPrograms(kernel *btf.Spec) []string {
	if tracepointArguments(kernel, "io_uring_submit_req") != 1 {
		return nil
	}
	switch tracepointArguments(kernel, "io_uring_complete") {
	case 3:
		return []string{probesProgIoUringSubmitReq, probesProgIoUringComplete}
	case 7: // in older kernels, with the result itself
		return []string{probesProgIoUringSubmitReq, probesProgIoUringCompleteFields}
	}
	return nil
}

// tracepointArguments returns how many arguments the kernel gives to programs on a tracepoint, -1 if it has none of this name.
func tracepointArguments(kernel *btf.Spec, name string) int {
	var handler *btf.Typedef
	if kernel.TypeByName("btf_trace_"+name, &handler) != nil {
		return -1
	}
	pointer, ok := handler.Type.(*btf.Pointer)
	if !ok {
		return -1
	}
	prototype, ok := pointer.Target.(*btf.FuncProto)
	if !ok {
		return -1
	}
	return len(prototype.Params) - 1 // the first is of the kernel itself
}
