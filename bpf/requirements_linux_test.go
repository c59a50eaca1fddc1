package bpf

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestCheckBTF(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vmlinux")
	assert.EqualError(t, checkBTF(path),
		"kernel has no BTF at "+path+": it needs a kernel built with CONFIG_DEBUG_INFO_BTF=y (5.10 or later), and /sys mounted")
}

func TestCheckCapabilities(t *testing.T) {
	const all = ^uint64(0)
	for name, test := range map[string]struct {
		has  uint64
		want []string
	}{
		"all":                    {all, nil},
		"no CAP_SYS_ADMIN":       {all &^ (1 << unix.CAP_SYS_ADMIN), nil},
		"no more than necessary": {1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON, nil},
		"CAP_SYS_ADMIN alone":    {1 << unix.CAP_SYS_ADMIN, nil},
		"CAP_BPF alone":          {1 << unix.CAP_BPF, []string{"missing capability CAP_PERFMON, needed to attach BPF programs to tracepoints"}},
		"none": {0, []string{
			"missing capability CAP_BPF, needed to load BPF programs and make BPF maps", "missing capability CAP_PERFMON, needed to attach",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkCapabilities(func() (uint64, error) { return test.has, nil })
			if test.want == nil {
				assert.NoError(t, err)
			}
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}
