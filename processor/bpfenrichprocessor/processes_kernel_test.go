//go:build linux && kernel

package bpfenrichprocessor

// Events of the kernel's about real processes, in containers that are laid out as the runtimes do it.

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"golang.org/x/sys/unix"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/receiver/bpfreceiver"
)

const (
	containerID = "3f4e8d1b0a9c7e6f5d4c3b2a19081726354453627180a9b8c7d6e5f4031221ab"
	podUID      = "8dbc5577-d0e2-4706-8787-57d52c03ddf2"
)

// trace has the process events of a command go to next.
func trace(t *testing.T, command string, next consumer.Logs) {
	t.Helper()
	traceBy(t, next, map[string]any{"probes": map[string]any{"process": map[string]any{"command": []any{command}}}})
}

// traceBy has the events go to next that the receiver's configuration asks for.
func traceBy(t *testing.T, next consumer.Logs, settings map[string]any) {
	t.Helper()
	factory := bpfreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	settings["pin_path"], settings["poll_interval"] = "", "1ms"
	require.NoError(t, confmap.NewFromStringMap(settings).Unmarshal(config))
	receiver, err := factory.CreateLogs(t.Context(), receivertest.NewNopSettings(factory.Type()), config, next)
	require.NoError(t, err)
	require.NoError(t, receiver.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, receiver.Shutdown(context.Background())) })
}

// mountCgroups mounts a hierarchy of cgroups for the test and makes the cgroup at path in it.
func mountCgroups(t *testing.T, fileSystem, options, path string) (cgroup string) {
	t.Helper()
	mount := t.TempDir()
	require.NoError(t, unix.Mount("none", mount, fileSystem, 0, options), "this test needs root, and %s", fileSystem)
	t.Cleanup(func() {
		for at := filepath.Join(mount, path); at != mount; at = filepath.Dir(at) {
			require.Eventually(t, func() bool { err := unix.Rmdir(at); return err == nil || err == unix.ENOENT }, 10*time.Second, time.Millisecond, at)
		}
		require.NoError(t, unix.Unmount(mount, 0))
	})
	cgroup = filepath.Join(mount, path)
	require.NoError(t, os.MkdirAll(cgroup, 0o700))
	return cgroup
}

func waitFor(t *testing.T, next *sink, operation uint16) event.Enriched {
	t.Helper()
	var got event.Enriched
	require.Eventually(t, func() bool {
		for _, e := range next.all() {
			if e.Event.Operation == operation {
				got = e
				return true
			}
		}
		return false
	}, 20*time.Second, time.Millisecond)
	return got
}

func TestProcessesOfTheKernel(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	pod := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(podUID, "-", "_") + ".slice"
	for _, test := range []struct {
		name, fileSystem, options, cgroup, container, pod string
	}{
		{"none", "", "", "", "", ""},
		{"docker_v1", "cgroup", "none,name=kernelpipe-test", "/docker/" + containerID, containerID, ""},
		{"podman_v2", "cgroup2", "", "/machine.slice/libpod-" + containerID + ".scope/container", containerID, ""},
		{"containerd_v2", "cgroup2", "", pod + "/cri-containerd-" + containerID + ".scope", containerID, podUID},
		{"crio_v1", "cgroup", "none,name=kernelpipe-test", pod + "/crio-" + containerID + ".scope", containerID, podUID},
	} {
		t.Run(test.name, func(t *testing.T) {
			setup := ""
			if test.fileSystem != "" {
				setup = "echo $$ > " + mountCgroups(t, test.fileSystem, test.options, test.cgroup) + "/cgroup.procs"
			}
			next := &sink{}
			trace(t, "kp-enrich-test", start(t, newConfig(), next))
			cmd := program(t, "kp-enrich-test", setup, 0)
			check := func(e event.Enriched) {
				assert.EqualValues(t, cmd.Process.Pid, e.Event.Process.TGID)
				assert.Equal(t, "kp-enrich-test", event.Text(e.Context.Executable[:]))
				assert.Equal(t, strings.TrimSuffix(string(comm), "\n"), event.Text(e.Context.Parent[:]))
				assert.EqualValues(t, os.Getpid(), e.Context.ParentTGID)
				assert.Equal(t, "root", event.Text(e.Context.User[:]))
				assert.Equal(t, test.container, e.Context.ContainerIDText())
				assert.Equal(t, test.pod, e.Context.PodUIDText())
				assert.Equal(t, event.MissingNothing, e.Context.Reason)
			}
			check(waitFor(t, next, event.ProcessExec))
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			check(waitFor(t, next, event.ProcessExit)) // it is gone, and remembered
		})
	}
}

// A process that is gone before anybody looks, and its container too: the table still knows both. Without the table its
// cgroup, if it is still there, tells the container, and its exec event the executable.
func TestProcessThatIsGone(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	for _, test := range []struct {
		name, fileSystem, options string
		table                     bool
	}{
		{"table_v2", "cgroup2", "", true},
		{"table_v1", "cgroup", "none,name=kernelpipe-test", true},
		{"proc_v2", "cgroup2", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			next, config := &sink{}, newConfig()
			config.ProcessTable.Enabled = test.table
			p := start(t, config, next)
			cgroup := mountCgroups(t, test.fileSystem, test.options, "/docker/"+containerID)
			held := &holding{next: p, release: make(chan struct{})}
			trace(t, "kp-enrich-gone", held)
			cmd := program(t, "kp-enrich-gone", "echo 0 > "+cgroup+"/cgroup.procs", unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC)
			require.Eventually(t, func() bool {
				target, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "exe"))
				return err == nil && filepath.Base(target) == "kp-enrich-gone"
			}, 20*time.Second, time.Millisecond)
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			if test.table {
				require.Eventually(t, func() bool { return unix.Rmdir(cgroup) == nil }, 10*time.Second, time.Millisecond)
			}
			close(held.release)
			for _, operation := range []uint16{event.ProcessExec, event.ProcessExit} {
				e := waitFor(t, next, operation)
				assert.Equal(t, "kp-enrich-gone", event.Text(e.Context.Executable[:]))
				assert.Equal(t, containerID, e.Context.ContainerIDText())
				if test.table {
					assert.Equal(t, strings.TrimSuffix(string(comm), "\n"), event.Text(e.Context.Parent[:]))
					assert.EqualValues(t, os.Getpid(), e.Context.ParentTGID)
					assert.Equal(t, event.MissingNothing, e.Context.Reason)
				} else {
					assert.Empty(t, event.Text(e.Context.Parent[:]))
					assert.Equal(t, event.MissingNotFound, e.Context.Reason)
				}
			}
		})
	}
}
