package syscalls

import (
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNumbers(t *testing.T) {
	known := map[string]map[string]int{
		"amd64": {"read": 0, "openat": 257, "newfstatat": 262, "io_uring_setup": 425},
		"arm64": {"read": 63, "openat": 56, "newfstatat": 79, "io_uring_setup": 425},
	}[runtime.GOARCH]
	if runtime.GOOS != "linux" || known == nil {
		require.Empty(t, Names())
		return
	}
	for name, number := range known {
		got, ok := Number(name)
		require.True(t, ok, name)
		assert.Equal(t, number, got, name)
	}
}

func TestRoundTrip(t *testing.T) {
	names := Names()
	require.True(t, slices.IsSorted(names))
	for _, name := range names {
		number, ok := Number(name)
		require.True(t, ok, name)
		got, ok := Name(number)
		require.True(t, ok, name)
		assert.Equal(t, name, got)
	}
}

func TestUnknown(t *testing.T) {
	for _, number := range []int{-1, 400, 1 << 20} { // 400 is in the gap before the numbers common to all architectures
		_, ok := Name(number)
		assert.False(t, ok, number)
	}
	for _, name := range []string{"", "OPENAT", "sys_openat", "arch_specific_syscall"} {
		_, ok := Number(name)
		assert.False(t, ok, name)
	}
}
