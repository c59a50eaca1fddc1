package event

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// field ties a field of a C struct to one of a Go struct.
type field struct{ c, goName string }

// TestLayout holds the Go structs against those of bpf/c/event.h, as the BTF of every committed object
// describes them. Each struct must be in one object at least.
func TestLayout(t *testing.T) {
	objects, err := filepath.Glob("../../bpf/*.o")
	require.NoError(t, err)
	require.NotEmpty(t, objects, "no BPF objects in bpf/: run `make generate`")
	structs := map[string]struct {
		value  any
		size   uint32
		fields []field
	}{
		"kp_process": {Process{}, 48, []field{
			{"cgroup_id", "CgroupID"}, {"start_ns", "Start"}, {"tgid", "TGID"}, {"tid", "TID"}, {"uid", "UID"}, {"gid", "GID"}, {"comm", "Comm"},
		}},
		"kp_network": {Network{}, 40, []field{
			{"family", "Family"}, {"protocol", "Protocol"}, {"local_port", "LocalPort"}, {"remote_port", "RemotePort"},
			{"local_address", "LocalAddress"}, {"remote_address", "RemoteAddress"},
		}},
		"kp_lifecycle": {Lifecycle{}, 40, []field{{"child_tgid", "ChildTGID"}, {"signal", "Signal"}, {"reserved", "Reserved"}}},
		"kp_event": {Event{}, Size, []field{
			{"time_ns", "Time"}, {"duration_ns", "Duration"}, {"bytes", "Bytes"}, {"result", "Result"}, {"process", "Process"},
			{"operation", "Operation"}, {"category", "Category"}, {"priority", "Priority"}, {"version", "Version"}, {"flags", "Flags"},
			{"exec_number", "ExecNumber"}, {"", "Payload"},
		}},
		"kp_context": {Context{}, Size, []field{
			{"container_id", "ContainerID"}, {"pod_uid", "PodUID"}, {"executable", "Executable"}, {"parent", "Parent"}, {"ancestor", "Ancestor"},
			{"user", "User"}, {"parent_tgid", "ParentTGID"}, {"known", "Known"}, {"cut", "Cut"}, {"reason", "Reason"}, {"reserved", "Reserved"},
		}},
		"kp_dead_letter": {DeadLetter{}, DeadLetterSize, []field{
			{"event", "Event"}, {"time_ns", "Time"}, {"event_size", "EventSize"}, {"attempts", "Attempts"}, {"stage", "Stage"}, {"reason", "Reason"},
		}},
		"kp_enriched": {Enriched{}, EnrichedSize, []field{{"event", "Event"}, {"context", "Context"}}},
	}
	seen := map[string]bool{}
	for _, object := range objects {
		spec, err := btf.LoadSpec(object)
		require.NoError(t, err, object)
		for name, want := range structs {
			var layout *btf.Struct
			if spec.TypeByName(name, &layout) != nil { // an object has the types that its programs use
				continue
			}
			seen[name] = true
			assert.Equal(t, want.size, layout.Size, "%s: size of %s", object, name)
			compare(t, object+": "+name, layout, reflect.TypeOf(want.value), want.fields)
		}
	}
	for name, want := range structs {
		assert.True(t, seen[name], "no object in bpf/ knows struct %s: let a variable name it", name)
		assert.EqualValues(t, want.size, reflect.TypeOf(want.value).Size(), name)
		assert.Len(t, want.fields, reflect.TypeOf(want.value).NumField(), name)
	}
}

func compare(t *testing.T, where string, layout *btf.Struct, goType reflect.Type, fields []field) {
	require.Len(t, layout.Members, len(fields), where)
	for i, field := range fields {
		member := layout.Members[i]
		goField, ok := goType.FieldByName(field.goName)
		require.True(t, ok, "%s: no field %s in Go", where, field.goName)
		size, err := btf.Sizeof(member.Type)
		require.NoError(t, err)
		assert.Equal(t, field.c, member.Name, where)
		assert.EqualValues(t, goField.Offset, member.Offset.Bytes(), "%s: offset of %s", where, field.c)
		assert.EqualValues(t, goField.Type.Size(), size, "%s: size of %s", where, field.c)
	}
}

// TestConstants holds the Go constants against the enums of event.h; each of them must be in the list.
func TestConstants(t *testing.T) {
	header, err := os.ReadFile("../../bpf/c/event.h")
	require.NoError(t, err)
	got := map[string]int{}
	for _, constant := range regexp.MustCompile(`(?m)^(?:#define|\t)\s*(KP_\w+)\s*=?\s*(\d+)`).FindAllStringSubmatch(string(header), -1) {
		number, err := strconv.Atoi(constant[2])
		require.NoError(t, err)
		got[constant[1]] = number
	}
	assert.Equal(t, map[string]int{
		"KP_EVENT_VERSION": Version, "KP_COMM_LEN": CommLen, "KP_NAME_LEN": NameLen,

		"KP_CATEGORY_UNSET": int(CategoryUnset), "KP_CATEGORY_SYSCALL": int(CategorySyscall), "KP_CATEGORY_NETWORK": int(CategoryNetwork),
		"KP_CATEGORY_FILESYSTEM": int(CategoryFilesystem), "KP_CATEGORY_PROCESS": int(CategoryProcess), "KP_CATEGORIES": CategoryCount,

		"KP_NETWORK_CONNECT": int(NetworkConnect), "KP_NETWORK_ACCEPT": int(NetworkAccept), "KP_NETWORK_CLOSE": int(NetworkClose),
		"KP_NETWORK_RETRANSMIT": int(NetworkRetransmit), "KP_NETWORK_SEND": int(NetworkSend), "KP_NETWORK_RECEIVE": int(NetworkReceive),

		"KP_FILESYSTEM_OPEN": int(FilesystemOpen), "KP_FILESYSTEM_READ": int(FilesystemRead), "KP_FILESYSTEM_WRITE": int(FilesystemWrite),
		"KP_FILESYSTEM_FSYNC": int(FilesystemFsync), "KP_FILESYSTEM_UNLINK": int(FilesystemUnlink), "KP_FILESYSTEM_RENAME": int(FilesystemRename),

		"KP_PROCESS_FORK": int(ProcessFork), "KP_PROCESS_EXEC": int(ProcessExec), "KP_PROCESS_EXIT": int(ProcessExit),

		"KP_PRIORITY_UNSET": int(PriorityUnset), "KP_PRIORITY_HIGH": int(PriorityHigh), "KP_PRIORITY_MEDIUM": int(PriorityMedium),
		"KP_PRIORITY_LOW": int(PriorityLow),

		"KP_FLAG_NAME_CUT": int(FlagNameCut), "KP_FLAG_NAME_UNREADABLE": int(FlagNameUnreadable), "KP_FLAG_NO_DURATION": int(FlagNoDuration),
		"KP_FLAG_BYTES_PARTIAL": int(FlagBytesPartial), "KP_FLAG_SIMULATED": int(FlagSimulated),

		"KP_KNOWN_EXECUTABLE": int(KnownExecutable), "KP_KNOWN_PARENT": int(KnownParent), "KP_KNOWN_ANCESTOR": int(KnownAncestor),
		"KP_KNOWN_USER": int(KnownUser), "KP_KNOWN_CONTAINER": int(KnownContainer), "KP_KNOWN_POD": int(KnownPod),

		"KP_MISSING_NOTHING": int(MissingNothing), "KP_MISSING_NOT_FOUND": int(MissingNotFound), "KP_MISSING_EVICTED": int(MissingEvicted),
		"KP_MISSING_UNKNOWN": int(MissingUnknown), "KP_MISSING_TIMEOUT": int(MissingTimeout), "KP_MISSING_DENIED": int(MissingDenied),
	}, got)
}
