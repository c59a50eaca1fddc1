package users

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// Limits of what is kept of a passwd file, so that memory is bounded.
const (
	maxFileSize = 16 << 20 // bytes
	maxUsers    = 1 << 17
	maxName     = 256 // bytes; useradd(8) allows 32
)

// Table holds the names by user ID. It does not change.
type Table struct {
	names map[uint32]string
	file  stamp
}

// stamp tells one content of a file from the next.
type stamp struct {
	modified time.Time
	size     int64
	inode    fs.FileInfo
}

// Load reads a passwd file, passwd(5). Lines that are none of a user are passed over, as the C library does;
// of several users with one ID the first counts. Users of a directory service are not in the file.
func Load(path string) (*Table, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFileSize {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFileSize)
	}
	names, err := parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Table{names: names, file: stampOf(info)}, nil
}

// Name returns the name of a user.
func (t *Table) Name(uid uint32) (string, bool) {
	if t == nil {
		return "", false
	}
	name, ok := t.names[uid]
	return name, ok
}

// Len returns the number of users.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.names)
}

// Outdated reports whether the file at path is not the one that was loaded any more.
func (t *Table) Outdated(path string) bool {
	info, err := os.Stat(path)
	if err != nil || t == nil {
		return err == nil
	}
	now := stampOf(info)
	return !now.modified.Equal(t.file.modified) || now.size != t.file.size || !os.SameFile(now.inode, t.file.inode)
}

func stampOf(info fs.FileInfo) stamp {
	return stamp{modified: info.ModTime(), size: info.Size(), inode: info}
}

func parse(content []byte) (map[uint32]string, error) {
	names := map[uint32]string{}
	for line := range bytes.Lines(content) {
		fields := bytes.SplitN(line, []byte(":"), 4) // name, password, uid, …
		if len(fields) < 4 || len(fields[0]) == 0 || len(fields[0]) > maxName || fields[0][0] == '#' {
			continue
		}
		uid, err := strconv.ParseUint(string(fields[2]), 10, 32)
		if err != nil {
			continue
		}
		if _, ok := names[uint32(uid)]; ok {
			continue
		}
		if len(names) == maxUsers {
			return nil, fmt.Errorf("more than %d users", maxUsers)
		}
		names[uint32(uid)] = string(fields[0])
	}
	return names, nil
}
