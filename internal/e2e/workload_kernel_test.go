//go:build linux && kernel

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// workloadVariable turns the test binary into the workload; its value is the directory to work in.
const workloadVariable = "KERNELPIPE_E2E_WORKLOAD"

// The workload and its counts, under process names of its own. They have no more than 15 bytes: the
// kernel keeps no more.
const (
	workName    = "kp-e2e-work"
	idleName    = "kp-e2e-idle" // the same program with nothing to do
	execName    = "kp-e2e-exec"
	execs       = 1000
	connections = 500
	writes      = 2000
	writeSize   = 100
	failedOpens = 300
)

// workload prepares programs in a directory of their own: each is a file, so that its executable has the name too.
type workload struct {
	t   testing.TB
	dir string
}

func newWorkload(t testing.TB) workload {
	t.Helper()
	w := workload{t: t, dir: t.TempDir()}
	self, err := os.Executable()
	require.NoError(t, err)
	copyFile(t, self, filepath.Join(w.dir, workName))
	copyFile(t, self, filepath.Join(w.dir, idleName))
	program, err := exec.LookPath("true")
	require.NoError(t, err)
	copyFile(t, program, filepath.Join(w.dir, execName))
	return w
}

// run runs one of the programs to its end.
func (w workload) run(name string) {
	w.t.Helper()
	cmd := exec.Command(filepath.Join(w.dir, name))
	cmd.Env = append(os.Environ(), workloadVariable+"="+w.dir)
	output, err := cmd.CombinedOutput()
	require.NoError(w.t, err, "%s: %s", name, output)
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	source, err := os.Open(from)
	require.NoError(t, err)
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(target, source)
	require.NoError(t, err)
	require.NoError(t, target.Close())
}

// work is what the workload does.
func work(dir string) int {
	if filepath.Base(os.Args[0]) == idleName {
		return 0
	}
	for _, step := range []func(string) error{runPrograms, connect, write, openMissing} {
		if err := step(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func runPrograms(dir string) error {
	for range execs {
		if err := exec.Command(filepath.Join(dir, execName)).Run(); err != nil {
			return err
		}
	}
	return nil
}

func connect(string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	for range connections {
		client, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return err
		}
		server, err := listener.Accept()
		if err != nil {
			return err
		}
		if err := client.Close(); err != nil {
			return err
		}
		if err := server.Close(); err != nil {
			return err
		}
	}
	return nil
}

func write(dir string) error {
	file, err := os.Create(filepath.Join(dir, "written"))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	for range writes {
		if _, err := file.Write(make([]byte, writeSize)); err != nil {
			return err
		}
	}
	return nil
}

func openMissing(dir string) error {
	for i := range failedOpens {
		// With the system call itself: os.Open may try again.
		if _, err := unix.Open(filepath.Join(dir, fmt.Sprintf("missing-%d", i)), unix.O_RDONLY, 0); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("open of a file that is missing: %w", err)
		}
	}
	return nil
}
