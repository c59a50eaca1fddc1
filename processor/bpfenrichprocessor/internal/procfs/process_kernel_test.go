//go:build linux && kernel

package procfs

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/internal/testprogram"
)

const askedFor = "KERNELPIPE_TEST_PROCESS"

// In a time namespace /proc tells another start of a process than the kernel does.
func TestTimeNamespace(t *testing.T) {
	pid, start := uint32(os.Getpid()), startOf(t, os.Getpid())
	require.NoError(t, testprogram.InTimeNamespace(1_000_000, func() error {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestHelperProcess$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", askedFor, pid, start))
		output, err := cmd.CombinedOutput()
		assert.Contains(t, string(output), "PASS")
		return err
	}))
}

// TestHelperProcess is no test: it is what the other process runs.
func TestHelperProcess(t *testing.T) {
	asked := os.Getenv(askedFor)
	if asked == "" {
		return
	}
	var pid uint32
	var start uint64
	_, err := fmt.Sscan(asked, &pid, &start)
	require.NoError(t, err)
	_, err = NewReader("/proc").Process(pid, start)
	require.NoError(t, err)
}
