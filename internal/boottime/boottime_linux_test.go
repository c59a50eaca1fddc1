package boottime

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseOffset(t *testing.T) {
	for content, want := range map[string]int64{
		"monotonic           0         0\nboottime            0         0\n": 0,
		"monotonic           5         6\nboottime      1000000         7\n": 1_000_000_000_000_007,
		"boottime  -10  500000000\n":                                         -9_500_000_000,
	} {
		got, err := parseOffset(content)
		require.NoError(t, err, content)
		assert.Equal(t, want, got, content)
	}
	for content, message := range map[string]string{
		"":                               "no offset of the boot-time clock",
		"monotonic 0 0\n":                "no offset of the boot-time clock",
		"boottime 0\n":                   "no offset of the boot-time clock",
		"boottime x 0\n":                 "offset of the boot-time clock in this time namespace",
		"boottime 0 9999999999999999999": "offset of the boot-time clock in this time namespace",
	} {
		_, err := parseOffset(content)
		assert.ErrorContains(t, err, message, content)
	}
}

func TestReadOffset(t *testing.T) {
	without := t.TempDir()
	got, err := readOffset(without)
	require.NoError(t, err)
	assert.Zero(t, got, "a kernel without time namespaces")

	process := t.TempDir()
	own, children := filepath.Join(process, "ns", "time"), filepath.Join(process, "ns", "time_for_children")
	require.NoError(t, os.Mkdir(filepath.Dir(own), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(process, "timens_offsets"), []byte("boottime 3 4\n"), 0o600))
	require.NoError(t, os.WriteFile(own, nil, 0o600))
	require.NoError(t, os.Link(own, children))
	got, err = readOffset(process)
	require.NoError(t, err)
	assert.EqualValues(t, 3_000_000_004, got)

	require.NoError(t, os.Remove(children))
	require.NoError(t, os.WriteFile(children, nil, 0o600))
	_, err = readOffset(process)
	assert.ErrorContains(t, err, "in another time namespace than its children")
}

func TestNow(t *testing.T) {
	first := Now()
	assert.NotZero(t, first)
	assert.GreaterOrEqual(t, Now(), first)
}
