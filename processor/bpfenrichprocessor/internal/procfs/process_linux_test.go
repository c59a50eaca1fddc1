package procfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startOf returns a start that fits the process that has this pid now.
func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	reader := NewReader("/proc")
	dir, err := reader.open(uint32(pid))
	require.NoError(t, err)
	defer dir.close()
	stat, err := reader.stat(dir)
	require.NoError(t, err)
	return stat.Start*nanosecondsPerTick + 1234567
}

func TestOwnProcess(t *testing.T) {
	executable, err := os.Executable()
	require.NoError(t, err)
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	comm, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)

	got, err := NewReader("/proc").Process(uint32(os.Getpid()), startOf(t, os.Getpid()))
	require.NoError(t, err)
	assert.Equal(t, filepath.Base(executable), got.Executable)
	assert.Equal(t, strings.TrimSuffix(string(comm), "\n"), got.Comm)
	assert.EqualValues(t, os.Getppid(), got.Parent)
	assert.NotEmpty(t, got.ParentComm)
	assert.Equal(t, string(cgroup), string(got.Cgroup))
	assert.False(t, got.Kernel)
}

// child starts a program that runs until the test ends.
func child(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), name)
	content, err := os.ReadFile(sleep)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o700))
	cmd := exec.Command(path, "60")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func TestChildWithAHostileName(t *testing.T) {
	name := "a (b)\n\x1b[31m\xff"
	cmd := child(t, name)
	pid := cmd.Process.Pid
	got, err := NewReader("/proc").Process(uint32(pid), startOf(t, pid))
	require.NoError(t, err)
	assert.Equal(t, name, got.Executable)
	assert.Equal(t, name[:min(15, len(name))], got.Comm)
	assert.EqualValues(t, os.Getpid(), got.Parent)

	require.NoError(t, os.Remove(cmd.Path))
	got, err = NewReader("/proc").Process(uint32(pid), startOf(t, pid))
	require.NoError(t, err)
	assert.Equal(t, name, got.Executable, "of a deleted file")
}

func TestReusedPidIsAnotherProcess(t *testing.T) {
	pid := child(t, "second").Process.Pid
	for _, start := range []uint64{startOf(t, pid) - nanosecondsPerTick, startOf(t, pid) + nanosecondsPerTick, 0} {
		_, err := NewReader("/proc").Process(uint32(pid), start)
		assert.ErrorIs(t, err, ErrNotFound)
	}
}

func TestProcessThatIsGone(t *testing.T) {
	cmd := child(t, "gone")
	start := startOf(t, cmd.Process.Pid)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	_, err := NewReader("/proc").Process(uint32(cmd.Process.Pid), start)
	assert.ErrorIs(t, err, ErrNotFound)
}

func TestProcessThatIsNotWaitedFor(t *testing.T) {
	cmd := child(t, "zombie")
	start := startOf(t, cmd.Process.Pid)
	require.NoError(t, cmd.Process.Kill())
	require.Eventually(t, func() bool {
		content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "stat"))
		return err == nil && strings.Contains(string(content), ") Z ")
	}, 10*time.Second, time.Millisecond)
	got, err := NewReader("/proc").Process(uint32(cmd.Process.Pid), start)
	require.NoError(t, err)
	assert.Empty(t, got.Executable)
	assert.Equal(t, "zombie", got.Comm)
	assert.EqualValues(t, os.Getpid(), got.Parent)
}

// fakeProc is a /proc of ordinary files, for what the real one does rarely.
func fakeProc(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			require.NoError(t, os.Symlink(target, path))
			continue
		}
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return root
}

func TestThreadOfTheKernel(t *testing.T) {
	root := fakeProc(t, map[string]string{"2/stat": "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0\n", "2/exe": "-> /not/read"})
	got, err := NewReader(root).Process(2, 3*nanosecondsPerTick)
	require.NoError(t, err)
	assert.Equal(t, Process{Stat: Stat{Comm: "kthreadd", Kernel: true, Start: 3}}, got)
}

func TestParentThatIsGone(t *testing.T) {
	root := fakeProc(t, map[string]string{"7/stat": "7 (a) S 5 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 3\n", "7/exe": "-> /bin/a", "7/cgroup": "0::/x\n"})
	got, err := NewReader(root).Process(7, 3*nanosecondsPerTick)
	require.NoError(t, err)
	assert.Equal(t, Process{Stat: Stat{Comm: "a", Start: 3}, Executable: "a", Cgroup: []byte("0::/x\n")}, got)
}

func TestLongCgroupFileIsCutByLines(t *testing.T) {
	line := "1:x:/" + strings.Repeat("y", 999) + "\n"
	root := fakeProc(t, map[string]string{"7/stat": "7 (a) S 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 3\n", "7/cgroup": strings.Repeat(line, 100)})
	got, err := NewReader(root).Process(7, 3*nanosecondsPerTick)
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat(line, cgroupLimit/len(line)), string(got.Cgroup))
}

func TestUnreadableStatIsAnError(t *testing.T) {
	root := fakeProc(t, map[string]string{"7/stat": "what?"})
	_, err := NewReader(root).Process(7, 0)
	assert.ErrorContains(t, err, "no command in parentheses")
	assert.NotErrorIs(t, err, ErrNotFound)
}

func BenchmarkProcess(b *testing.B) {
	reader := NewReader("/proc")
	dir, err := reader.open(uint32(os.Getpid()))
	require.NoError(b, err)
	stat, err := reader.stat(dir)
	dir.close()
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reader.Process(uint32(os.Getpid()), stat.Start*nanosecondsPerTick); err != nil {
			b.Fatal(err)
		}
	}
}
