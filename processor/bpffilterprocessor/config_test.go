package bpffilterprocessor

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/processor/bpffilterprocessor/internal/metadata"
)

func ptr(n int64) *int64 { return &n }

func load(t testing.TB, file, name string) *Config {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", file))
	require.NoError(t, err)
	sub, err := conf.Sub(component.NewIDWithName(metadata.Type, name).String())
	require.NoError(t, err)
	config := createDefaultConfig().(*Config)
	require.NoError(t, sub.Unmarshal(config))
	return config
}

func TestLoadConfig(t *testing.T) {
	byDefault := func() *Config {
		return &Config{
			PinPath:    "/sys/fs/bpf/kernelpipe",
			Drop:       []match.Config{{Priority: []string{"low"}, PID: match.Range{Max: ptr(99)}}},
			Queue:      stage.QueueConfig{Capacity: 10_000, Lanes: 1, Distribution: stage.RoundRobin, OnFull: stage.Block},
			DeadLetter: stage.DeadLetterConfig{Capacity: 1_000, OnFull: stage.DropOldest},
			Health:     stage.HealthConfig{MaxDepthRatio: 0.9, LossWindow: time.Minute},
			Retry: configretry.BackOffConfig{
				Enabled: true, InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: 30 * time.Second,
			},
			ShutdownTimeout: 10 * time.Second,
			Encoding:        event.EncodingFrames,
		}
	}
	nothingDropped := byDefault()
	nothingDropped.PinPath, nothingDropped.Drop = "", []match.Config{}
	for name, want := range map[string]*Config{
		"":                byDefault(),
		"nothing_dropped": nothingDropped,
		"all": {
			PinPath: "/sys/fs/bpf/mine",
			Priority: []PriorityRule{
				{Match: match.Config{Category: []string{"network"}, Operation: []string{"connect"}, ErrorsOnly: true}, Set: "high"},
				{Match: match.Config{Command: []string{"postgres"}}, Set: "medium"},
				{Set: "low"},
			},
			Drop: []match.Config{
				{Priority: []string{"low"}, UID: match.Range{Min: ptr(0), Max: ptr(0)}},
				{Command: []string{"cron", "atd"}},
			},
			Queue:      stage.QueueConfig{Capacity: 20_000, Lanes: 4, Distribution: stage.Hash, OnFull: stage.Block, BlockTimeout: time.Second},
			DeadLetter: stage.DeadLetterConfig{Capacity: 10, OnFull: stage.DropNewest},
			Health:     stage.HealthConfig{MaxDepthRatio: 0.5, MaxLoss: 10, LossWindow: 5 * time.Minute},
			Retry: configretry.BackOffConfig{
				Enabled: true, InitialInterval: time.Second, Multiplier: 2, MaxInterval: 10 * time.Second, MaxElapsedTime: time.Minute,
			},
			ShutdownTimeout: time.Minute,
			Encoding:        event.EncodingRecords,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := load(t, "config.yaml", name)
			assert.Equal(t, want, got)
			assert.NoError(t, confmap.Validate(got))
		})
	}
}

func TestInvalidConfig(t *testing.T) {
	errs := map[string]string{
		"relative_pin_path":     `pin_path is "kernelpipe", must be an absolute path on a BPF file system such as /sys/fs/bpf/kernelpipe, or empty to keep nothing across a restart`,
		"empty_drop":            `drop: entry 1 has no condition and would drop every event: give it one, or use drop: [] to drop nothing`,
		"null_drop":             `drop: entry 0 has no condition and would drop every event: give it one, or use drop: [] to drop nothing`,
		"unknown_drop_category": `drop::0: category: unknown category "disk": use one of syscall, network, filesystem, process`,
		"contradictory_drop":    `drop::0: pid: min 10 is greater than max 9: no process has such a pid, swap them`,
		"operation_of_another_category": `drop::0: operation: "connect" is one of category syscall, which is not listed: add syscall to category, ` +
			`or use for process fork, exec, exit`,
		"unreachable_rule":     `priority: entry 1 has no condition and so decides for every event, and the 1 after it never do: move it to the end, or give it a match`,
		"no_priority_set":      `priority::0: set: unknown priority "": use one of high, medium, low`,
		"unknown_priority_set": `priority::0: set: unknown priority "urgent": use one of high, medium, low`,
		"bad_match_of_rule":    `priority::0::match: command: "0123456789abcdef" has 16 bytes, and the kernel keeps 15 of a command's name: use "0123456789abcde"`,
		"queue_of_size_zero":   `queue: capacity is 0, must be at least 1 for each lane`,
		"queue_beyond_memory":  `queue: capacity is 99999999999, must be at most 1073741824: an event takes up to 256 bytes of kernel memory`,
		"queue": "queue: lanes is 17, must be 1 to 16\n" +
			"distribution is \"random\", must be round_robin or hash\n" +
			"on_full is \"explode\", must be one of block, drop_newest, drop_oldest, drop_low_priority\n" +
			"block_timeout is -1s, must not be negative",
		"contradictory_block_timeout": `queue: block_timeout is set, but on_full is drop_oldest: it needs on_full: block`,
		"dead_letter_that_blocks":     "dead_letter: capacity is 0, must be at least 1 for each lane\non_full is \"block\", must be drop_newest or drop_oldest",
		"retry_without_pause": "retry_on_failure: initial_interval is 0s, which means tries without a pause: use 100ms or more, or enabled: false for no second try\n" +
			"retry_on_failure: max_interval is 0s, which means tries without a pause: use 100ms or more, or enabled: false for no second try\n" +
			"retry_on_failure: multiplier is 0, which shortens the pauses to none: use 1 or more",
		"retry":                     `retry_on_failure: 'max_elapsed_time' must not be less than 'max_interval'`,
		"health":                    "health: max_depth_ratio is 0, must be above 0 and at most 1; with 1 a full queue is healthy",
		"negative_shutdown_timeout": `shutdown_timeout: -1s is negative: use 0 for no limit`,
		"encoding":                  `encoding: "json" is unknown: use frames or records`,
	}
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "invalid.yaml"))
	require.NoError(t, err)
	require.Len(t, conf.ToStringMap(), len(errs), "a case is without its error")
	for name, want := range errs {
		t.Run(name, func(t *testing.T) {
			assert.EqualError(t, confmap.Validate(load(t, "invalid.yaml", name)), want)
		})
	}
}

func TestUnknownKeysAreRefused(t *testing.T) {
	for _, bad := range []map[string]any{
		{"drops": []any{}},
		{"drop": []any{map[string]any{"pids": map[string]any{"max": 1}}}},
		{"priority": []any{map[string]any{"category": []any{"network"}, "set": "high"}}},
		{"queue": map[string]any{"capacity": "many"}},
	} {
		assert.Error(t, confmap.NewFromStringMap(bad).Unmarshal(createDefaultConfig().(*Config)), bad)
	}
}
