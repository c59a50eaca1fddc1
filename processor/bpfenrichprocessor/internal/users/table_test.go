package users

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const passwd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
# a comment:x:7:7::/:/

toor:x:0:0:second of root:/root:/bin/bash
:x:3:3:no name:/:/
short:x
negative:x:-1:1::/:/
huge:x:4294967296:1::/:/
nobody:x:4294967294:65534:nobody:/nonexistent:/usr/sbin/nologin
Müller:x:1000:1000::/home/m:/bin/sh`

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passwd")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestLoad(t *testing.T) {
	table, err := Load(write(t, passwd))
	require.NoError(t, err)
	assert.Equal(t, map[uint32]string{0: "root", 1: "daemon", 4294967294: "nobody", 1000: "Müller"}, table.names)
	assert.Equal(t, 4, table.Len())
	name, ok := table.Name(1000)
	assert.True(t, ok)
	assert.Equal(t, "Müller", name)
	_, ok = table.Name(7)
	assert.False(t, ok)
}

func TestNoTable(t *testing.T) {
	var table *Table
	_, ok := table.Name(0)
	assert.False(t, ok)
	assert.Zero(t, table.Len())
	assert.True(t, table.Outdated(write(t, "")))
	assert.False(t, table.Outdated(filepath.Join(t.TempDir(), "none")))
	_, err := Load(filepath.Join(t.TempDir(), "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestOutdated(t *testing.T) {
	path := write(t, passwd)
	table, err := Load(path)
	require.NoError(t, err)
	assert.False(t, table.Outdated(path))

	require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)))
	assert.True(t, table.Outdated(path), "another time")

	table, err = Load(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	replacement := write(t, strings.Replace(passwd, "toor", "root", 1))
	require.NoError(t, os.Chtimes(replacement, time.Time{}, info.ModTime()))
	require.NoError(t, os.Rename(replacement, path))
	assert.True(t, table.Outdated(path), "another file, as useradd makes it")

	require.NoError(t, os.Remove(path))
	assert.False(t, table.Outdated(path), "a missing file is no reason to forget")
}

func TestBounds(t *testing.T) {
	var many strings.Builder
	for uid := range maxUsers + 1 {
		fmt.Fprintf(&many, "u%d:x:%d:0::/:/\n", uid, uid)
	}
	_, err := Load(write(t, many.String()))
	assert.ErrorContains(t, err, "more than 131072 users")

	_, err = Load(write(t, strings.Repeat("#", maxFileSize+1)))
	assert.ErrorContains(t, err, "more than 16777216 bytes")

	table, err := Load(write(t, strings.Repeat("n", maxName+1)+":x:1:1::/:/\n"+strings.Repeat("n", maxName)+":x:2:2::/:/\n"))
	require.NoError(t, err)
	assert.Equal(t, 1, table.Len())
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(passwd))
	f.Fuzz(func(t *testing.T, content []byte) {
		names, err := parse(content)
		require.NoError(t, err)
		for _, name := range names {
			assert.NotEmpty(t, name)
			assert.LessOrEqual(t, len(name), maxName)
			assert.NotContains(t, name, ":")
			assert.Contains(t, string(content), name)
		}
	})
}
