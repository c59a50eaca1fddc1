//go:build linux && kernel

package bpfenrichprocessor

// Which program an event is of, and the path of that.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/testprogram"
)

// late hands on events with a time that is later than theirs.
type late struct {
	next consumer.Logs
	by   time.Duration
}

func (late) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (l late) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	return event.Decode(logs, func(batch event.Batch) error {
		batch.Data = slices.Clone(batch.Data)
		for i := range batch.Len() {
			batch.At(i).Time += uint64(l.by)
		}
		return l.next.ConsumeLogs(ctx, event.Encode(event.EncodingFrames, batch, event.Clock{}))
	}, func(_ plog.LogRecord, err error) { panic(err) })
}

// Which program an event is of its time does not decide: that of an exec is taken by another program than the table's, and
// whatever comes between the two. Here every event is by so much later that the exec which follows it is nearer.
func TestTheTimeOfAnEventDoesNotDecideItsProgram(t *testing.T) {
	paths, names := briefs(t, "kp-time", 5)
	for _, by := range []time.Duration{-time.Second, -time.Millisecond, 0, 100 * time.Microsecond, time.Millisecond, 50 * time.Millisecond, time.Second} {
		t.Run(by.String(), func(t *testing.T) {
			next := &sink{}
			held := &holding{next: late{start(t, newConfig(), next), by}, release: make(chan struct{})}
			commands := []any{}
			for _, name := range names {
				commands = append(commands, name)
			}
			traceBy(t, held, map[string]any{"probes": map[string]any{
				"process":    map[string]any{"command": commands},
				"filesystem": map[string]any{"command": commands, "operation": []any{"unlink"}},
			}})
			const times = 20
			for range times { // env executes the first of them, that the second
				require.NoError(t, exec.Command("/usr/bin/env", paths[0], paths[1]).Run())
			}
			close(held.release)
			require.Eventually(t, func() bool { return len(next.all()) >= 5*times }, 20*time.Second, time.Millisecond)
			for _, e := range next.all() {
				assert.Equal(t, e.Event.Comm(), event.Text(e.Context.Executable[:]), "%+v", e.Event)
				assert.Equal(t, event.MissingNothing, e.Context.Reason)
			}
			assert.Len(t, next.all(), 5*times)
		})
	}
}

// What a process does before it executes another program, as a shell does its redirections, is of the program before: with
// its path too.
func TestEventsBeforeAnExecHaveTheirPath(t *testing.T) {
	const times = 50
	shell, err := os.ReadFile("/bin/sh")
	require.NoError(t, err)
	before := filepath.Join(t.TempDir(), "kp-before-exec")
	require.NoError(t, os.WriteFile(before, shell, 0o700))
	paths, _ := briefs(t, "kp-after-exec", 1)
	next, config := &records{}, newConfig()
	config.Encoding = event.EncodingRecords
	held := &holding{next: start(t, config, next), release: make(chan struct{})}
	traceBy(t, held, map[string]any{"probes": map[string]any{"filesystem": map[string]any{
		"command": []any{"kp-before-exec"}, "operation": []any{"unlink", "open"}, "errors_only": true,
	}}})
	var pids []int
	for range times {
		cmd := exec.Command(before, "-c", "command exec 3< /nonexistent/pre; exec "+paths[0])
		require.NoError(t, cmd.Run())
		pids = append(pids, cmd.Process.Pid)
	}
	close(held.release)
	for _, pid := range pids {
		of := func() (found []map[string]any) {
			for _, record := range next.of(pid) {
				if record["file.path"] == "/nonexistent/pre" {
					found = append(found, record)
				}
			}
			return found
		}
		require.Eventually(t, func() bool { return len(of()) == 1 }, 20*time.Second, time.Millisecond)
		record := of()[0]
		assert.Equal(t, before, record["process.executable.path"])
		assert.Equal(t, "kp-before-exec", record["process.executable.name"])
		assert.NotContains(t, record, "kernel.enrichment.missing")
	}
}

// executeVariable has TestExecutesADescriptor execute the program that it says, as its process.
const executeVariable = "KERNELPIPE_EXECUTE"

// TestExecutesADescriptor is no test: it is the process that TestPathsOfExecs has execute a file by a descriptor.
func TestExecutesADescriptor(t *testing.T) {
	how, path, ok := strings.Cut(os.Getenv(executeVariable), ":")
	if !ok {
		return
	}
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	open := map[string]func() (int, error){
		"file":  func() (int, error) { return unix.Open(path, unix.O_RDONLY, 0) },
		"memfd": func() (int, error) { return unix.MemfdCreate("kp-memory", 0) },
		"tmp":   func() (int, error) { return unix.Open(filepath.Dir(path), unix.O_RDWR|unix.O_TMPFILE, 0o700) },
		"gone":  func() (int, error) { return unix.Open(path, unix.O_RDONLY, 0) },
	}
	fd, err := open[how]()
	require.NoError(t, err)
	switch how {
	case "memfd", "tmp":
		_, err := unix.Write(fd, content)
		require.NoError(t, err)
		reopened, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd)) // what is open for writing is not executed
		fd = reopened
	case "gone":
		require.NoError(t, os.Remove(path))
	}
	require.NoError(t, unix.Dup2(fd, 100))
	empty, argument := []byte{0}, []byte("x\x00")
	argv := []*byte{&argument[0], nil}
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, 100, uintptr(unsafe.Pointer(&empty[0])), uintptr(unsafe.Pointer(&argv[0])), 0, unix.AT_EMPTY_PATH, 0)
	require.NoError(t, errno)
}

// The path of an executable is what /proc/<pid>/exe shows, however it was executed; what exec was given, where that is another,
// is the file.path of the exec event.
func TestPathsOfExecs(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "kp") // short, so that the paths fit an exec event
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	program := filepath.Join(dir, "kp-path")
	require.NoError(t, testprogram.Write(program, testprogram.Brief))
	removed := filepath.Join(dir, "kp-lost")
	require.NoError(t, testprogram.Write(removed, testprogram.Brief))
	link, script := filepath.Join(dir, "l"), filepath.Join(dir, "s")
	require.NoError(t, os.Symlink(program, link))
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700))
	shell, err := filepath.EvalSymlinks("/bin/sh")
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	by := func(how, path string) *exec.Cmd {
		cmd := exec.Command(self, "-test.run", "^TestExecutesADescriptor$")
		cmd.Env = append(os.Environ(), executeVariable+"="+how+":"+path)
		return cmd
	}
	next, config := &records{}, newConfig()
	config.Encoding = event.EncodingRecords
	held := &holding{next: start(t, config, next), release: make(chan struct{})}
	release := sync.OnceFunc(func() { close(held.release) })
	defer release() // also on failure: the receiver waits for it
	traceBy(t, held, map[string]any{"probes": map[string]any{"process": map[string]any{"operation": []any{"exec", "exit"}}}})
	relative := exec.Command("./kp-path")
	relative.Dir = dir
	tests := []struct {
		name        string
		cmd         *exec.Cmd
		path, given any // nil: none
	}{
		{"absolute", exec.Command(program), program, nil},
		{"relative", relative, program, "./kp-path"},
		{"symbolic link", exec.Command(link), program, link},
		{"script", exec.Command(script), shell, script},
		{"descriptor", by("file", program), program, "/dev/fd/100"},
		{"removed file", by("gone", removed), removed, "/dev/fd/100"},
		{"memfd", by("memfd", program), "memfd:kp-memory", "/dev/fd/100"},
		{"file without a name", by("tmp", program), nil, "/dev/fd/100"},
	}
	for _, test := range tests {
		output, err := test.cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", test.name, output)
	}
	release()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			last := func() (execution, exit map[string]any) {
				for _, record := range next.of(test.cmd.Process.Pid) {
					switch record["kernel.event.operation"] {
					case "exec":
						execution = record
					case "exit":
						exit = record
					}
				}
				return execution, exit
			}
			require.Eventually(t, func() bool { _, exit := last(); return exit != nil }, 20*time.Second, time.Millisecond)
			execution, exit := last()
			for _, record := range []map[string]any{execution, exit} {
				assert.Equal(t, test.path, record["process.executable.path"])
				if test.path == nil {
					assert.NotContains(t, record, "process.executable.name")
				} else {
					assert.Equal(t, filepath.Base(test.path.(string)), record["process.executable.name"])
				}
				assert.NotContains(t, record, "kernel.enrichment.missing")
			}
			assert.Equal(t, test.given, execution["file.path"])
			assert.NotContains(t, exit, "file.path")
		})
	}
}
