//go:build linux && kernel

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stranger is a user that is not the Collector's.
const stranger = 65534

// bpffs mounts a BPF file system for the test, which every user can reach.
func bpffs(t testing.TB, options string) string {
	t.Helper()
	at := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(at), 0o755))
	require.NoError(t, unix.Mount("bpf", at, "bpf", 0, options))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(at, unix.MNT_DETACH)) })
	return at
}

// asStranger runs a shell script as the stranger, in directory at.
func asStranger(t testing.TB, at, script string) (string, error) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = at
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	output, err := cmd.CombinedOutput()
	return string(output), err
}

func mustAsStranger(t testing.TB, at, script string) {
	t.Helper()
	output, err := asStranger(t, at, script)
	require.NoError(t, err, output)
}

// openers is everything that opens a pin path.
var openers = map[string]func(pinPath string) error{
	"owner": func(pinPath string) error {
		dir, err := OpenDirectory(pinPath, "test")
		if err != nil {
			return err
		}
		q, _, err := OpenQueue(dir, "queue", QueueConfig{ElementSize: 128, Capacity: 100, Lanes: 1})
		if err == nil {
			q.Close()
		}
		return errors.Join(err, dir.Close())
	},
	"consumer": func(pinPath string) error {
		c, err := OpenConsumer(pinPath, "test", "queue")
		if err == nil {
			c.Close()
		}
		return err
	},
}

// What another user can change is not used: it is refused by an error that says whose it is, and left as it is.
func TestPinPathOfAnotherUser(t *testing.T) {
	for name, test := range map[string]struct {
		options string // of the mount
		prepare string // what the stranger does in the root of the file system
		root    func(t *testing.T, at string)
		path    string // pin_path, below the root
		want    []string
	}{
		"the directory was made before": {options: "mode=1777", prepare: "mkdir -m 777 pins", path: "pins",
			want: []string{"/pins belongs to user 65534 (nobody), mode 0777", "chown"}},
		"an upper directory was made before": {options: "mode=1777", prepare: "mkdir -p -m 755 upper/pins", path: "upper/pins",
			want: []string{"/upper belongs to user 65534 (nobody), mode 0755"}},
		"the component's directory was made before": {options: "mode=1777", prepare: "mkdir -m 777 test", path: "",
			want: []string{"/test belongs to user 65534 (nobody), mode 0777"}},
		"a link to a directory of ours": {options: "mode=1777", prepare: "ln -s ours pins", path: "pins",
			want: []string{"/pins is a symbolic link to ours, made by user 65534 (nobody)"}},
		"the component's directory is a link": {options: "mode=1777", prepare: "ln -s ours/test test", path: "",
			want: []string{"/test is a symbolic link to ours/test, made by user 65534 (nobody)"}},
		"a root that anyone can change": {options: "mode=777", root: func(t *testing.T, at string) {
			require.NoError(t, os.Chmod(at, 0o777)) // without the sticky bit, which every such root has at first
		}, prepare: "mv ours theirs && mv theirs ours", path: "pins", want: []string{"belongs to user 0 (root), mode 0777", "chmod"}},
		"the root of another user": {options: "mode=755", root: func(t *testing.T, at string) { require.NoError(t, os.Chown(at, stranger, stranger)) },
			prepare: "true", path: "pins", want: []string{"belongs to user 65534 (nobody), mode 1755"}},
		"a component's directory that anyone can change": {options: "mode=755", root: func(t *testing.T, at string) {
			require.NoError(t, os.MkdirAll(at+"/pins/test", 0o700))
			require.NoError(t, os.Chmod(at+"/pins", 0o755))
			require.NoError(t, os.Chmod(at+"/pins/test", 0o777|os.ModeSticky))
		}, prepare: "mkdir pins/test/queue-books", path: "pins", want: []string{"/pins/test belongs to user 0 (root), mode 1777", "chmod"}},
		"the directory of another user's group": {options: "mode=755", root: func(t *testing.T, at string) {
			require.NoError(t, os.MkdirAll(at+"/pins/test/queue-books", 0o700))
			require.NoError(t, os.Chown(at+"/pins/test/queue-books", stranger, stranger))
		}, prepare: "true", path: "pins", want: []string{"/pins/test/queue-books belongs to user 65534 (nobody), mode 0700"}},
	} {
		t.Run(name, func(t *testing.T) {
			at := bpffs(t, test.options)
			require.NoError(t, os.MkdirAll(at+"/ours/test/old-1-unfinished", 0o700)) // what is removed where a directory is ours
			if test.root != nil {
				test.root(t, at)
			}
			mustAsStranger(t, at, test.prepare)
			before := files(t, at)
			for what, open := range openers {
				err := open(filepath.Join(at, test.path))
				for _, want := range test.want {
					require.ErrorContains(t, err, want, what)
				}
				assert.NotContains(t, err.Error(), "rm -r", what)
				assert.NotErrorIs(t, err, ErrNoQueue, what)
			}
			orphans, err := Orphans(filepath.Join(at, test.path))
			if test.path == "" {
				require.NoError(t, err)
				assert.Equal(t, []Orphan{{Path: at + "/ours"}}, orphans, "what is not ours is not searched")
			}
			assert.Empty(t, slices.DeleteFunc(orphans, func(o Orphan) bool { return o.Path == at+"/ours" }))
			assert.Equal(t, before, files(t, at), "nothing is removed, nothing made")
		})
	}
}

// A directory that is ours keeps its state on a file system that everyone may write to, whatever another user does.
func TestSharedFileSystem(t *testing.T) {
	at := bpffs(t, "mode=1777")
	dir := directory(t, at+"/pins")
	q, _ := openTestQueue(t, dir, 100, 1)
	defer q.Close()
	pushNumbers(t, q, 0, 0, 10)
	for _, attack := range []string{
		"mv pins elsewhere", "rmdir pins", "ls pins", "flock -n pins true", "flock -n pins/test true", "mv pins/test/queue-books .", "ln -sfn ours pins/test",
	} {
		output, err := asStranger(t, at, attack)
		assert.Error(t, err, "%s: %s", attack, output)
	}
	q.Close()
	require.NoError(t, dir.Close())
	q, _ = openTestQueue(t, directory(t, at+"/pins"), 100, 1)
	batch, err := q.Pop(0, MaxBatch)
	require.NoError(t, err)
	assert.Len(t, numbersIn(batch.Data), 10)
}

// Who may read a directory may lock it. So one that others may read, as an administrator may have made it, is closed to them.
func TestReadableDirectoryIsClosed(t *testing.T) {
	path := bpffs(t, "mode=755")
	require.NoError(t, os.MkdirAll(path+"/test/queue-books", 0o700))
	for _, dir := range []string{"/test/queue-books", "/test"} {
		require.NoError(t, os.Chmod(path+dir, 0o755))
	}
	orphans, err := Orphans(path)
	require.NoError(t, err)
	assert.Equal(t, []Orphan{{Path: path + "/test"}}, orphans)
	mustAsStranger(t, path, "flock -n test true") // who only looks changes nothing
	directory(t, path)
	output, err := asStranger(t, path, "flock -n test true")
	assert.Error(t, err, output)
	found, err := os.Stat(path + "/test")
	require.NoError(t, err)
	assert.EqualValues(t, 0o700, found.Mode().Perm())
}

// What a killed process left unfinished is removed without a look at what a link leads to.
func TestSweepFollowsNoLink(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	smallGroup(t, dir, "precious")
	require.NoError(t, dir.Close())
	at := filepath.Join(path, "test")
	require.NoError(t, os.Symlink("precious", at+"/link"+unfinished))
	require.NoError(t, os.Mkdir(at+"/group"+unfinished, 0o700))
	require.NoError(t, os.Symlink("../precious", at+"/group"+unfinished+"/inner"))
	directory(t, path)
	assert.Equal(t, []string{"precious"}, entriesOf(t, at))
	assert.Equal(t, []string{"a_map"}, entriesOf(t, at+"/precious"))
}

// Whoever removes and makes a directory at the same time, it has one owner.
func TestOneOwner(t *testing.T) {
	path := pinPath(t)
	var owners atomic.Int32
	const rounds = 20 // that each of them has it
	deadline := time.Now().Add(time.Minute)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for owned := 0; owned < rounds && !t.Failed(); {
				if !assert.True(t, time.Now().Before(deadline), "owned %d times", owned) {
					return
				}
				dir, err := OpenDirectory(path, "test")
				if err != nil {
					assert.ErrorContains(t, err, "is in use by another running process")
					continue
				}
				owned++
				assert.EqualValues(t, 1, owners.Add(1), "owners")
				_, err = os.Stat(dir.Path())
				assert.NoError(t, err, "it is there")
				owners.Add(-1)
				assert.NoError(t, dir.Close())
			}
		})
	}
	all.Wait()
}

// A claim is on the queue that is there, not on one that was removed while it was waited for.
func TestClaimOfARemovedQueue(t *testing.T) {
	path := pinPath(t)
	dir := directory(t, path)
	q, _ := openTestQueue(t, dir, 100, 1)
	require.NoError(t, os.RemoveAll(path+"/test/queue-books"))
	require.NoError(t, os.RemoveAll(path+"/test/queue-0"))
	other, _ := openTestQueue(t, dir, 100, 1)
	defer other.Close()
	require.ErrorContains(t, q.Claim(), "was removed")
	q.Close()
	require.NoError(t, other.Claim())
}

// childVariable names what a child of the tests is to do, as the stranger.
const childVariable = "KERNELPIPE_TEST_CHILD"

// runAsStranger runs this test again in a child that has the capabilities that a Collector needs, and no more.
func runAsStranger(t *testing.T, argument string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+strings.Split(t.Name(), "/")[0]+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), childVariable+"="+argument)
	cmd.Dir = "/"
	capabilities := []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}
	if ours, err := effectiveCapabilities(); assert.NoError(t, err) && ours&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		capabilities = append(capabilities, unix.CAP_SYS_RESOURCE) // before Linux 5.11
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}, AmbientCaps: capabilities}
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, string(output))
	return string(output)
}

// A Collector with a user of its own keeps its state in a directory of its own.
func TestCollectorOfAnotherUser(t *testing.T) {
	if path := os.Getenv(childVariable); path != "" {
		dir, err := OpenDirectory(path, "test")
		require.NoError(t, err)
		q, _ := openTestQueue(t, dir, 100, 1)
		pushNumbers(t, q, 0, 0, 10)
		q.Close()
		require.NoError(t, dir.Close())
		c := openTestConsumer(t, path)
		assert.EqualValues(t, 10, c.Books().Queued)
		c.Close()
		orphans, err := Orphans(path)
		require.NoError(t, err)
		fmt.Println("orphans:", len(orphans))
		return
	}
	at := bpffs(t, "mode=1777")
	assert.Contains(t, runAsStranger(t, at+"/pins"), "orphans: 1")
	at = bpffs(t, "mode=755")
	require.NoError(t, os.Mkdir(at+"/pins", 0o700))
	require.NoError(t, os.Chown(at+"/pins", stranger, stranger))
	assert.Contains(t, runAsStranger(t, at+"/pins"), "orphans: 1")
}

// What this process may not open names the owner and the mode, and is not to be removed for that.
func TestPermissionDenied(t *testing.T) {
	if path := os.Getenv(childVariable); path != "" {
		for _, open := range openers {
			fmt.Println("error:", open(path))
		}
		return
	}
	const us = "this process has user 65534 (nobody)"
	for name, test := range map[string]struct {
		options string
		prepare func(t *testing.T, at string)
		want    []string
	}{
		"pin path": {"mode=755", func(t *testing.T, at string) { require.NoError(t, os.Mkdir(at+"/pins", 0o700)) },
			[]string{"/pins belongs to user 0 (root), mode 0700", us}},
		"root": {"mode=700", func(*testing.T, string) {}, []string{" belongs to user 0 (root), mode 1700", us}},
		"pins": {"mode=755", func(t *testing.T, at string) {
			require.NoError(t, openers["owner"](at+"/pins"))
			for _, dir := range []string{"/pins", "/pins/test", "/pins/test/queue-books", "/pins/test/queue-0"} {
				require.NoError(t, os.Chown(at+dir, stranger, stranger))
			}
		}, []string{"/pins/test/queue-books/", " belongs to user 0 (root), mode 0600", us}},
	} {
		t.Run(name, func(t *testing.T) {
			at := bpffs(t, test.options)
			test.prepare(t, at)
			output := runAsStranger(t, at+"/pins")
			lines := slices.DeleteFunc(strings.Split(output, "\n"), func(line string) bool { return !strings.HasPrefix(line, "error:") })
			require.Len(t, lines, len(openers))
			for _, line := range lines {
				for _, want := range test.want {
					assert.Contains(t, line, want)
				}
				assert.NotContains(t, line, "rm -r")
			}
		})
	}
}
