package container

import (
	"bytes"
	"encoding/hex"
	"strings"
)

// Identity says which container a process is in. The zero Identity: in none.
type Identity struct {
	// ID is the container id's 64 hexadecimal digits, packed; zero if there is none.
	ID [32]byte
	// PodUID is the Kubernetes pod UID, packed; zero if there is none.
	PodUID [16]byte
}

// HasID reports whether there is a container.
func (i *Identity) HasID() bool { return i.ID != [32]byte{} }

// HasPod reports whether there is a pod.
func (i *Identity) HasPod() bool { return i.PodUID != [16]byte{} }

// OfCgroupFile reads the content of a /proc/<pid>/cgroup, cgroups(7). With cgroup v1 it has a line for each
// hierarchy, and some of them may not show the container: the first that does counts.
func OfCgroupFile(content []byte) Identity {
	var pod Identity
	for line := range bytes.Lines(content) {
		fields := strings.SplitN(string(bytes.TrimSuffix(line, []byte("\n"))), ":", 3)
		if len(fields) < 3 {
			continue
		}
		found := OfCgroup(fields[2])
		if found.HasID() {
			return found
		}
		if found.HasPod() {
			pod = found
		}
	}
	return pod
}

// OfCgroup reads the path of a cgroup. Of nested containers it is the innermost.
func OfCgroup(path string) Identity {
	var found Identity
	path = strings.TrimSuffix(path, " (deleted)") // a removed cgroup, cgroups(7)
	// containerd under a systemd that it is no friend of writes slice:runtime:id as one name.
	for name := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == ':' }) {
		if id, ok := containerID(name); ok {
			found.ID = id
		}
		if uid, ok := podUID(name); ok {
			found = Identity{PodUID: uid} // a container above it is the node's, as with kind
		}
	}
	return found
}

// containerID reads <id>, <runtime>-<id> and <runtime>-<id>.scope.
func containerID(name string) (id [32]byte, ok bool) {
	name = strings.TrimSuffix(name, ".scope")
	runtime, digits := "", name
	if dash := strings.LastIndexByte(name, '-'); dash >= 0 {
		runtime, digits = name[:dash], name[dash+1:]
	}
	if strings.HasSuffix(runtime, "conmon") { // the monitor of a container is outside of it
		return id, false
	}
	return id, decode(id[:], digits)
}

// podUID reads pod<uid>, and kubepods-<class>-pod<uid>.slice where systemd wants underscores for dashes. The
// UID of a static pod, a hash, has no dashes at all.
func podUID(name string) (uid [16]byte, ok bool) {
	name = strings.TrimSuffix(name, ".slice")
	start := strings.LastIndex(name, "pod")
	if start < 0 || start > 0 && name[start-1] != '-' {
		return uid, false
	}
	digits := name[start+len("pod"):]
	if len(digits) == 36 {
		for _, dash := range []int{8, 13, 18, 23} {
			if digits[dash] != '-' && digits[dash] != '_' {
				return uid, false
			}
		}
		digits = digits[:8] + digits[9:13] + digits[14:18] + digits[19:23] + digits[24:]
	}
	return uid, decode(uid[:], digits)
}

// decode reads exactly as many lower-case hexadecimal digits as fill to. All zeros are no identity.
func decode(to []byte, digits string) bool {
	if len(digits) != 2*len(to) || digits != strings.ToLower(digits) {
		return false
	}
	if _, err := hex.Decode(to, []byte(digits)); err != nil {
		clear(to)
		return false
	}
	return bytes.Count(to, []byte{0}) < len(to)
}
