//go:build linux && kernel

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const binary = "../../_build/otelcol-kernelpipe"

func TestMain(m *testing.M) {
	if job := os.Getenv(workloadVariable); job != "" {
		os.Exit(work(job))
	}
	goleak.VerifyTestMain(m)
}

// pinPath returns a directory of the test's own in bpffs, which is gone after the test, and with it whatever
// a killed collector left attached.
func pinPath(t testing.TB) string {
	t.Helper()
	require.NoError(t, os.MkdirAll("/sys/fs/bpf", 0o755))
	if exec.Command("mountpoint", "-q", "/sys/fs/bpf").Run() != nil {
		require.NoError(t, syscall.Mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700"))
	}
	path := filepath.Join("/sys/fs/bpf", "kernelpipe-e2e-"+strings.ReplaceAll(t.Name(), "/", "-"))
	require.NoError(t, os.RemoveAll(path))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(path)) })
	return path
}

// collector is a running collector.
type collector struct {
	t      testing.TB
	cmd    *exec.Cmd
	log    *lockedBuffer
	exited chan struct{}
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// configure writes a configuration: a template over values.
func configure(t testing.TB, text string, values map[string]any) string {
	t.Helper()
	parsed, err := template.New("config").Option("missingkey=error").Parse(text)
	require.NoError(t, err)
	file, err := os.Create(filepath.Join(t.TempDir(), "config.yaml"))
	require.NoError(t, err)
	defer func() { assert.NoError(t, file.Close()) }()
	require.NoError(t, parsed.Execute(file, values))
	return file.Name()
}

// launch starts the collector and returns at once. It is killed at the end of the test if it still runs.
func launch(t testing.TB, config string, arguments ...string) *collector {
	t.Helper()
	_, err := os.Stat(binary)
	require.NoError(t, err, "the collector is not built: run `make build`")
	return start(t, exec.Command(binary, append([]string{"--config", config}, arguments...)...))
}

// start runs a command that becomes a collector.
func start(t testing.TB, cmd *exec.Cmd) *collector {
	t.Helper()
	c := &collector{t: t, cmd: cmd, log: &lockedBuffer{}, exited: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	require.NoError(t, c.cmd.Start())
	go func() {
		_ = c.cmd.Wait() // the exit code is read from ProcessState
		close(c.exited)
	}()
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("collector %d:\n%s", c.cmd.Process.Pid, tail(c.log.String(), 60))
		}
	})
	return c
}

// run starts the collector and returns when it is ready.
func run(t testing.TB, config string, arguments ...string) *collector {
	t.Helper()
	c := launch(t, config, arguments...)
	c.waitReady()
	return c
}

func (c *collector) waitReady() {
	c.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !strings.Contains(c.log.String(), "Everything is ready.") {
		select {
		case <-c.exited:
			require.FailNow(c.t, "the collector ended before it was ready", tail(c.log.String(), 30))
		case <-time.After(5 * time.Millisecond):
		}
		require.True(c.t, time.Now().Before(deadline), "the collector does not become ready")
	}
}

// terminate sends SIGTERM and waits for a clean end.
func (c *collector) terminate() {
	c.t.Helper()
	time.Sleep(100 * time.Millisecond) // the Collector says that it is ready, and then begins to listen for signals
	require.NoError(c.t, c.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-c.exited:
	case <-time.After(60 * time.Second):
		require.FailNow(c.t, "the collector does not end after SIGTERM")
	}
	require.Zero(c.t, c.cmd.ProcessState.ExitCode(), "exit code; log:\n%s", tail(c.log.String(), 30))
}

// kill sends SIGKILL and waits for the end.
func (c *collector) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.exited
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
