//go:build linux

package testprogram

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	brief, endless := filepath.Join(dir, "brief"), filepath.Join(dir, "endless")
	require.NoError(t, Write(brief, Brief))
	require.NoError(t, Write(endless, Endless))
	require.NoError(t, exec.Command(brief).Run())
	require.NoError(t, exec.Command(brief, brief).Run())
	cmd := exec.Command(brief, endless)
	require.NoError(t, cmd.Start())
	require.NoError(t, cmd.Process.Kill())
	assert.EqualError(t, cmd.Wait(), "signal: killed")
	assert.Error(t, Write(endless, Program{}))
}
