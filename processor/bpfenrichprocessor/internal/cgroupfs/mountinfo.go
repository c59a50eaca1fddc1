package cgroupfs

import (
	"bytes"
	"strconv"
	"strings"
)

// mountPoint returns where the first cgroup2 file system in a mountinfo is mounted. A line is
// "36 35 98:0 /root /mount/point options optional fields - type source options".
func mountPoint(mountinfo []byte) (string, bool) {
	for line := range bytes.Lines(mountinfo) {
		mount, fileSystem, ok := strings.Cut(string(line), " - ")
		fields := strings.Fields(mount)
		if ok && len(fields) >= 5 && strings.HasPrefix(fileSystem, "cgroup2 ") {
			return unescape(fields[4]), true
		}
	}
	return "", false
}

// unescape undoes mangle_path (fs/seq_file.c): a backslash and three octal digits.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		out.WriteByte(text[i])
	}
	return out.String()
}
