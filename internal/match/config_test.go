package match

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ptr(n int64) *int64 { return &n }

func TestConfigStruct(t *testing.T) {
	require.NoError(t, componenttest.CheckConfigStruct(&Config{}))
}

func TestUnmarshal(t *testing.T) {
	conf := confmap.NewFromStringMap(map[string]any{
		"category":     []any{"syscall"},
		"operation":    []any{"openat", "connect"},
		"priority":     []any{"low"},
		"pid":          map[string]any{"max": 99},
		"uid":          map[string]any{"min": 0, "max": 0},
		"command":      []any{"cron"},
		"errors_only":  true,
		"min_duration": "1ms",
	})
	var config Config
	require.NoError(t, conf.Unmarshal(&config))
	assert.Equal(t, Config{
		Category:    []string{"syscall"},
		Operation:   []string{"openat", "connect"},
		Priority:    []string{"low"},
		PID:         Range{Max: ptr(99)},
		UID:         Range{Min: ptr(0), Max: ptr(0)},
		Command:     []string{"cron"},
		ErrorsOnly:  true,
		MinDuration: time.Millisecond,
	}, config)
	assert.NoError(t, config.Validate())

	for _, bad := range []map[string]any{
		{"pid": map[string]any{"max": "many"}},
		{"pids": map[string]any{"max": 1}},
	} {
		assert.Error(t, confmap.NewFromStringMap(bad).Unmarshal(&Config{}), bad)
	}
}

func TestRange(t *testing.T) {
	for _, test := range []struct {
		name            string
		value           Range
		set             bool
		lowest, highest uint32
	}{
		{"none", Range{}, false, 0, math.MaxUint32},
		{"max", Range{Max: ptr(99)}, true, 0, 99},
		{"min", Range{Min: ptr(100)}, true, 100, math.MaxUint32},
		{"zero", Range{Max: ptr(0)}, true, 0, 0},
		{"both", Range{Min: ptr(1), Max: ptr(2)}, true, 1, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			lowest, highest := test.value.Bounds()
			assert.Equal(t, test.set, test.value.IsSet())
			assert.Equal(t, test.lowest, lowest)
			assert.Equal(t, test.highest, highest)
		})
	}
}

func TestIsEmpty(t *testing.T) {
	assert.True(t, (&Config{}).IsEmpty())
	for _, config := range []Config{
		{Category: []string{"syscall"}},
		{Operation: []string{"open"}},
		{Priority: []string{"low"}},
		{PID: Range{Max: ptr(0)}},
		{UID: Range{Min: ptr(0)}},
		{Command: []string{"sh"}},
		{ErrorsOnly: true},
		{MinDuration: 1},
	} {
		assert.False(t, config.IsEmpty(), "%+v", config)
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		config Config
		errs   []string // what the error must say; none: valid
	}{
		{"empty", Config{}, nil},
		{"errors only with what cannot fail", Config{Operation: []string{"fork"}, ErrorsOnly: true}, nil},
		{"operation in one of two categories", Config{Category: []string{"network", "process"}, Operation: []string{"connect"}}, nil},
		{"number of a system call", Config{Operation: []string{"syscall_511"}}, nil},
		{"longest command", Config{Command: []string{strings.Repeat("x", 15)}}, nil},
		{"category", Config{Category: []string{"disk"}}, []string{`category`, `"disk"`, "syscall, network, filesystem, process"}},
		{"category unset", Config{Category: []string{"unset"}}, []string{`category`, `"unset"`}},
		{"priority", Config{Priority: []string{"urgent"}}, []string{`priority`, `"urgent"`, "high, medium, low"}},
		{
			"operation", Config{Operation: []string{"opne"}},
			[]string{`operation`, `"opne"`, "for network connect, accept, close, retransmit, send, receive", "fork, exec, exit", "the name of a system call"},
		},
		{"empty operation", Config{Operation: []string{""}}, []string{"operation", `""`}},
		{
			"operation of another category", Config{Category: []string{"process"}, Operation: []string{"connect"}},
			[]string{`operation: "connect" is one of category`, "not listed", "for process fork, exec, exit"},
		},
		{"system call beyond the table", Config{Operation: []string{"syscall_512"}}, []string{"operation", "syscall_512"}},
		{"pid", Config{PID: Range{Min: ptr(2), Max: ptr(1)}}, []string{"pid: min 2 is greater than max 1"}},
		{"pid below", Config{PID: Range{Min: ptr(-1)}}, []string{"pid: min -1 is not between 0 and 4294967295"}},
		{"uid beyond", Config{UID: Range{Max: ptr(1 << 32)}}, []string{"uid: max 4294967296 is not between 0 and 4294967295"}},
		{"uid", Config{UID: Range{Min: ptr(2), Max: ptr(1)}}, []string{"uid: min 2 is greater than max 1"}},
		{"long command", Config{Command: []string{"0123456789abcdef"}}, []string{`command: "0123456789abcdef" has 16 bytes`, `use "0123456789abcde"`}},
		{"empty command", Config{Command: []string{""}}, []string{"command: a name is empty"}},
		{"NUL in command", Config{Command: []string{"a\x00b"}}, []string{"command:", "NUL"}},
		{"many commands", Config{Command: strings.Split(strings.Repeat("x,", 16)+"x", ",")}, []string{"command: 17 names", "16"}},
		{"duration", Config{MinDuration: -time.Second}, []string{"min_duration: -1s is negative"}},
		{
			"all at once", Config{Category: []string{"a"}, Priority: []string{"b"}, Command: []string{""}, MinDuration: -1},
			[]string{"category", "priority", "command", "min_duration"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.config.Validate()
			_, compileErr := test.config.Compile()
			assert.Equal(t, err, compileErr)
			if len(test.errs) == 0 {
				require.NoError(t, err)
				return
			}
			for _, part := range test.errs {
				assert.ErrorContains(t, err, part)
			}
		})
	}
}
