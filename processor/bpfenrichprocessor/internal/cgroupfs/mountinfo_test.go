package cgroupfs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMountPoint(t *testing.T) {
	for _, test := range []struct {
		name, content, want string
	}{
		{"v2", "36 35 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n", "/sys/fs/cgroup"},
		{"hybrid", "35 30 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n" +
			"40 35 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n" +
			"36 35 0:27 / /sys/fs/cgroup/unified rw shared:10 master:3 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"v1", "40 35 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n", ""},
		{"escapes", `36 35 0:27 / /a\040b\134c rw - cgroup2 cgroup2 rw` + "\n", `/a b\c`},
		{"bad escapes", `36 35 0:27 / /a\9b\04 rw - cgroup2 cgroup2 rw` + "\n", `/a\9b\04`},
		{"a mount called cgroup2", "36 35 0:27 / /cgroup2 rw - ext4 cgroup2 rw\n", ""},
		{"short", "36 35 0:27 - cgroup2 cgroup2 rw\n", ""},
		{"empty", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := mountPoint([]byte(test.content))
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.want != "", ok)
		})
	}
}

func FuzzMountPoint(f *testing.F) {
	f.Add([]byte("36 35 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"))
	f.Add([]byte(`36 35 0:27 / /a\040b rw - cgroup2 cgroup2 rw`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if got, ok := mountPoint(content); ok {
			assert.NotEmpty(t, got)
			assert.True(t, strings.Contains(string(content), "cgroup2 "))
		}
	})
}
