package event

import (
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCategories(t *testing.T) {
	for _, c := range Categories() {
		parsed, err := ParseCategory(c.String())
		require.NoError(t, err)
		assert.Equal(t, c, parsed)
		assert.True(t, c.Valid())
	}
	for _, name := range []string{"", "unset", "Syscall", "disk"} {
		_, err := ParseCategory(name)
		assert.ErrorContains(t, err, "syscall, network, filesystem, process")
	}
	assert.False(t, CategoryUnset.Valid())
	assert.False(t, Category(5).Valid())
	assert.Equal(t, "unset", CategoryUnset.String())
	assert.Equal(t, "category_200", Category(200).String())
}

func TestPriorities(t *testing.T) {
	want := map[Category]Priority{
		CategorySyscall: PriorityLow, CategoryNetwork: PriorityMedium, CategoryFilesystem: PriorityLow, CategoryProcess: PriorityHigh,
	}
	for c, priority := range want {
		assert.Equal(t, priority, c.Priority(), c)
		parsed, err := ParsePriority(priority.String())
		require.NoError(t, err)
		assert.Equal(t, priority, parsed)
	}
	_, err := ParsePriority("unset")
	assert.ErrorContains(t, err, "high, medium, low")
	assert.Equal(t, "priority_9", Priority(9).String())
}

func TestOperations(t *testing.T) {
	for _, c := range Categories() {
		names := Operations(c)
		for _, name := range names {
			operation, ok := ParseOperation(c, name)
			require.True(t, ok, "%s %s", c, name)
			assert.Equal(t, name, OperationName(c, operation))
		}
		for _, operation := range []uint16{0, 1, 7, 400, 511, 65535} { // named or not
			parsed, ok := ParseOperation(c, OperationName(c, operation))
			require.True(t, ok, "%s %d", c, operation)
			assert.Equal(t, operation, parsed)
		}
		for _, name := range []string{"", "_", c.String() + "_", c.String() + "_0511", c.String() + "_65536", c.String() + "_-1", c.String() + "_1x"} {
			_, ok := ParseOperation(c, name)
			assert.False(t, ok, "%s %q", c, name)
		}
	}
	assert.Equal(t, "retransmit", OperationName(CategoryNetwork, NetworkRetransmit))
	assert.Equal(t, "network_7", OperationName(CategoryNetwork, 7))
	assert.Equal(t, "syscall_511", OperationName(CategorySyscall, 511))
	assert.Equal(t, "category_9_1", OperationName(9, 1))
	_, ok := ParseOperation(CategoryNetwork, "open")
	assert.False(t, ok)
	_, ok = ParseOperation(CategoryUnset, "unset_1")
	assert.False(t, ok)
	assert.Nil(t, Operations(CategoryUnset))
	if runtime.GOOS == "linux" {
		_, ok = ParseOperation(CategorySyscall, "openat")
		assert.True(t, ok)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		name      string
		category  Category
		operation uint16
		result    int64
		code      int32
		errorType string
	}{
		{"success", CategorySyscall, 0, 0, 0, ""},
		{"bytes", CategoryFilesystem, FilesystemRead, 100, 0, ""},
		{"ENOENT", CategoryFilesystem, FilesystemOpen, -2, 2, "ENOENT"},
		{"EOPNOTSUPP", CategorySyscall, 0, -95, 95, "EOPNOTSUPP"},
		{"ECONNREFUSED", CategoryNetwork, NetworkConnect, -111, 111, "ECONNREFUSED"},
		{"the last with a name", CategorySyscall, 0, -133, 133, "EHWPOISON"},
		{"the kernel's own", CategorySyscall, 0, -524, 524, "524"},
		{"the last error", CategorySyscall, 0, -4095, 4095, "4095"},
		{"no error number", CategorySyscall, 0, -4096, 0, ""},
		{"an offset", CategorySyscall, 0, -0xa00000, 0, ""},
		{"least", CategorySyscall, 0, math.MinInt64, 0, ""},
		{"no status, below 0", CategoryProcess, ProcessExit, math.MinInt64, math.MaxInt32, "_OTHER"},
		{"exit 0", CategoryProcess, ProcessExit, 0, 0, ""},
		{"exit 1", CategoryProcess, ProcessExit, 1, 1, "1"},
		{"killed", CategoryProcess, ProcessExit, 137, 137, "137"},
		{"no status", CategoryProcess, ProcessExit, 256, 256, "_OTHER"},
		{"greatest", CategoryProcess, ProcessExit, math.MaxInt64, math.MaxInt32, "_OTHER"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := Event{Category: test.category, Operation: test.operation, Result: test.result}
			assert.Equal(t, test.code, e.ErrorCode())
			assert.Equal(t, test.code != 0, e.Failed())
			if runtime.GOOS != "linux" && strings.HasPrefix(test.errorType, "E") {
				t.Skip("error names are Linux's")
			}
			assert.Equal(t, test.errorType, e.ErrorType())
			assert.Equal(t, test.errorType, ErrorTypeOf(test.category, test.code))
			if test.errorType != "524" && test.errorType != "4095" {
				assert.Zero(t, testing.AllocsPerRun(10, func() { _ = e.ErrorType() }))
			}
		})
	}
	assert.Equal(t, "_OTHER", ErrorTypeOf(CategorySyscall, -1))
}

func TestTexts(t *testing.T) {
	var e Event
	e.SetName("/etc/hosts")
	assert.Equal(t, "/etc/hosts", e.Name())
	e.SetName(strings.Repeat("x", 50))
	assert.Equal(t, strings.Repeat("x", NameLen-1), e.Name())
	assert.Equal(t, FlagNameCut, e.Flags)
	e.SetName("y")
	assert.Equal(t, [NameLen]byte{'y'}, e.Payload, "nothing is left of the longer name")
	assert.Zero(t, e.Flags)
	assert.Equal(t, "no NUL", Text([]byte("no NUL")))
	assert.Empty(t, Text(nil))

	assert.False(t, SetText(e.Process.Comm[:], "bash"))
	assert.Equal(t, "bash", e.Comm())
}

func TestPayloadViews(t *testing.T) {
	var e Event
	e.Network().RemotePort = 443
	assert.Equal(t, uint16(443), e.Network().RemotePort)
	e.Lifecycle().ChildTGID = 7
	assert.Equal(t, uint32(7), e.Lifecycle().ChildTGID)
}

func TestValidateEvent(t *testing.T) {
	e := connect()
	require.NoError(t, e.Validate())
	e.Version = 1
	assert.ErrorContains(t, e.Validate(), "format version 1, expected 2")
	e.Version, e.Category = Version, 5
	assert.ErrorContains(t, e.Validate(), "unknown category 5")
	for _, most := range []struct{ bytes, duration uint64 }{{MaxBytes, 0}, {0, MaxDuration}} {
		e = connect()
		e.Bytes, e.Duration = most.bytes, most.duration
		require.NoError(t, e.Validate())
		for _, more := range []uint64{1, 1 << 62, 1 << 63} {
			if e.Bytes = most.bytes; most.bytes > 0 {
				e.Bytes += more
			}
			if e.Duration = most.duration; most.duration > 0 {
				e.Duration += more
			}
			assert.ErrorContains(t, e.Validate(), " bytes in ", "and not one that makes a sum negative")
		}
	}
}

func TestMissing(t *testing.T) {
	assert.Equal(t, "not_found", MissingNotFound.String())
	assert.Equal(t, "timeout", MissingTimeout.String())
	assert.Equal(t, "denied", MissingDenied.String())
	assert.Equal(t, "missing_6", Missing(6).String())
}

func TestClock(t *testing.T) {
	clock, err := NewClock()
	require.NoError(t, err)
	if runtime.GOOS != "linux" {
		assert.Zero(t, clock)
		return
	}
	before := time.Now()
	now := clock.Unix(clock.Now()).AsTime()
	after := time.Now()
	// The two clocks are slewed alike; a step of the time of day in between would be a second or more.
	assert.WithinRange(t, now, before.Add(-time.Second), after.Add(time.Second))
	assert.EqualValues(t, 15, Clock{offset: 10}.Unix(5))
	assert.EqualValues(t, 5, Clock{}.Unix(5))
}

// A time that can't be is refused, and no timestamp that is made of one is before 1970 or wraps.
func TestTimesThatCantBe(t *testing.T) {
	for _, clock := range []Clock{{}, {offset: 1_800_000_000_000_000_000}, {offset: -5}} {
		last := Clock.Unix(clock, 0)
		for _, boot := range []uint64{1, 1 << 40, MaxTime, MaxTime + 1, math.MaxInt64, 1 << 63, math.MaxUint64} {
			unix := clock.Unix(boot)
			assert.GreaterOrEqual(t, unix, last)
			assert.LessOrEqual(t, uint64(unix), uint64(math.MaxInt64))
			last = unix
			e := Event{Version: Version, Category: CategoryProcess, Time: boot}
			assert.Equal(t, boot <= MaxTime, e.Validate() == nil, boot)
		}
	}
}
