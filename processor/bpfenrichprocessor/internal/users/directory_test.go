package users

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDirectory(t *testing.T) {
	path := write(t, passwd)
	d := NewDirectory(path)
	assert.Zero(t, d.Table().Len())
	require.NoError(t, d.Refresh())
	first := d.Table()
	assert.Equal(t, 4, first.Len())
	require.NoError(t, d.Refresh())
	assert.Same(t, first, d.Table())

	require.NoError(t, os.WriteFile(path, []byte("root:x:0:0::/:/\n"), 0o600))
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)))
	require.NoError(t, d.Refresh())
	assert.Equal(t, 1, d.Table().Len())

	require.NoError(t, os.Remove(path))
	require.NoError(t, d.Refresh())
	assert.Equal(t, 1, d.Table().Len())
	assert.ErrorIs(t, NewDirectory(path).Refresh(), os.ErrNotExist)
}
