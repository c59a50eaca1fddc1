package container

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id    = "3f4e8d1b0a9c7e6f5d4c3b2a19081726354453627180a9b8c7d6e5f4031221ab"
	other = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	uid   = "8dbc5577-d0e2-4706-8787-57d52c03ddf2"
)

func identity(t testing.TB, id, uid string) (want Identity) {
	t.Helper()
	n, err := hex.Decode(want.ID[:], []byte(id))
	require.NoError(t, err)
	require.Equal(t, len(id), 2*n)
	_, err = hex.Decode(want.PodUID[:], []byte(strings.ReplaceAll(uid, "-", "")))
	require.NoError(t, err)
	return want
}

func TestOfCgroup(t *testing.T) {
	under := strings.ReplaceAll(uid, "-", "_")
	for _, test := range []struct{ name, path, id, uid string }{
		{"docker cgroupfs", "/docker/" + id, id, ""},
		{"docker systemd", "/system.slice/docker-" + id + ".scope", id, ""},
		{"docker rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + id + ".scope", id, ""},
		{"docker in docker", "/docker/" + other + "/docker/" + id, id, ""},
		{"docker with a process in a child", "/system.slice/docker-" + id + ".scope/init", id, ""},
		{"docker init scope inside", "/docker/" + id + "/init.scope", id, ""},
		{"containerd namespace", "/default/" + id, id, ""},
		{"nerdctl systemd", "/system.slice/nerdctl-" + id + ".scope", id, ""},
		{"containerd cgroupfs burstable", "/kubepods/burstable/pod" + uid + "/" + id, id, uid},
		{"containerd cgroupfs guaranteed", "/kubepods/pod" + uid + "/" + id, id, uid},
		{"containerd systemd burstable", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope", id, uid},
		{"containerd systemd guaranteed", "/kubepods.slice/kubepods-pod" + under + ".slice/cri-containerd-" + id + ".scope", id, uid},
		{"containerd under a foreign systemd", "/system.slice/containerd.service/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + id, id, uid},
		{"cri-dockerd systemd", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/docker-" + id + ".scope", id, uid},
		{"kind", "/docker/" + other + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + under + ".slice/cri-containerd-" + id + ".scope", id, uid},
		{"kind, in the pod but no container", "/docker/" + other + "/kubelet/kubepods/besteffort/pod" + uid, "", uid},
		{"static pod", "/kubepods/burstable/pod8dbc5577d0e24706878757d52c03ddf2/" + id, id, uid},
		{"CRI-O systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/crio-" + id + ".scope", id, uid},
		{"CRI-O with crun", "/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + id + ".scope/container", id, uid},
		{"CRI-O cgroupfs", "/kubepods/besteffort/pod" + uid + "/crio-" + id, id, uid},
		{"CRI-O monitor", "/kubepods.slice/kubepods-pod" + under + ".slice/crio-conmon-" + id + ".scope", "", uid},
		{"podman systemd", "/machine.slice/libpod-" + id + ".scope", id, ""},
		{"podman with crun", "/machine.slice/libpod-" + id + ".scope/container", id, ""},
		{"podman pod", "/machine.slice/machine-libpod_pod_" + other + ".slice/libpod-" + id + ".scope", id, ""},
		{"podman cgroupfs", "/libpod_parent/libpod-" + id, id, ""},
		{"podman rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope/container", id, ""},
		{"podman monitor", "/machine.slice/libpod-conmon-" + id + ".scope", "", ""},
		{"ECS", "/ecs/task/" + id, id, ""},
		{"removed", "/system.slice/docker-" + id + ".scope (deleted)", id, ""},
		{"other cgroup namespace", "/../../docker/" + id, id, ""},

		{"root", "/", "", ""},
		{"empty", "", "", ""},
		{"service", "/system.slice/ssh.service", "", ""},
		{"session", "/user.slice/user-1000.slice/session-2.scope", "", ""},
		{"32 digits", "/process/00112233445566778899aabbccddeeff", "", ""},
		{"63 digits", "/docker/" + id[:63], "", ""},
		{"65 digits", "/docker/" + id + "0", "", ""},
		{"upper case", "/docker/" + strings.ToUpper(id), "", ""},
		{"no digits", "/docker/" + strings.Repeat("g", 64), "", ""},
		{"zeros", "/docker/" + strings.Repeat("0", 64), "", ""},
		{"pod without a UID", "/kubepods/pod/", "", ""},
		{"pod with bad dashes", "/kubepods/pod8dbc5577+d0e2-4706-8787-57d52c03ddf2", "", ""},
		{"tripod", "/tripod" + uid, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := OfCgroup(test.path)
			assert.Equal(t, identity(t, test.id, test.uid), got)
			assert.Equal(t, test.id != "", got.HasID())
			assert.Equal(t, test.uid != "", got.HasPod())
		})
	}
}

func TestOfCgroupFile(t *testing.T) {
	for _, test := range []struct{ name, content, id, uid string }{
		{"v2", "0::/system.slice/docker-" + id + ".scope\n", id, ""},
		{"v1", "12:pids:/docker/" + id + "\n11:memory:/docker/" + id + "\n1:name=systemd:/docker/" + id + "\n", id, ""},
		{"v1, some hierarchies only", "9:name=systemd:/\n8:pids:/\n4:memory:/kubepods/pod" + uid + "/" + id + "\n", id, uid},
		{"hybrid", "1:name=systemd:/docker/" + id + "\n0::/\n", id, ""},
		{"pod only", "4:memory:/\n3:cpu:/kubepods/pod" + uid + "\n", "", uid},
		{"colons in a path", "0::/a.slice:cri-containerd:" + id + "\n", id, ""},
		{"none", "0::/\n", "", ""},
		{"empty", "", "", ""},
		{"no lines of a cgroup file", "hello\n:\n::\n", "", ""},
		{"no last newline", "0::/docker/" + id, id, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, identity(t, test.id, test.uid), OfCgroupFile([]byte(test.content)))
		})
	}
}

func FuzzOfCgroupFile(f *testing.F) {
	f.Add([]byte("0::/system.slice/docker-" + id + ".scope\n"))
	f.Add([]byte("4:memory:/kubepods/pod" + uid + "/" + id + "\n"))
	f.Add([]byte("0::/a-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice:cri-containerd:" + id))
	f.Fuzz(func(t *testing.T, content []byte) {
		got := OfCgroupFile(content)
		if got.HasID() {
			assert.Contains(t, string(content), hex.EncodeToString(got.ID[:]))
		}
		if got.HasPod() {
			assert.Contains(t, strings.NewReplacer("-", "", "_", "").Replace(string(content)), hex.EncodeToString(got.PodUID[:]))
		}
	})
}
