package bpfenrichprocessor

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
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadata"
)

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
			PinPath:       "/sys/fs/bpf/kernelpipe",
			Cache:         CacheConfig{Processes: 65_536, Cgroups: 4_096},
			ProcessTable:  ProcessTableConfig{Enabled: true, Processes: 32_768, Cgroups: 4_096},
			CommandLine:   CommandLineConfig{RedactDefaults: true},
			LookupTimeout: 100 * time.Millisecond,
			PasswdFile:    "/etc/passwd",
			Queue:         stage.QueueConfig{Capacity: 10_000, Lanes: 1, Distribution: stage.RoundRobin, OnFull: stage.Block},
			DeadLetter:    stage.DeadLetterConfig{Capacity: 1_000, OnFull: stage.DropOldest},
			Health:        stage.HealthConfig{MaxDepthRatio: 0.9, LossWindow: time.Minute},
			Retry: configretry.BackOffConfig{
				Enabled: true, InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: 30 * time.Second,
			},
			ShutdownTimeout: 10 * time.Second,
			Encoding:        event.EncodingFrames,
		}
	}
	noUsers := byDefault()
	noUsers.PasswdFile, noUsers.LookupTimeout = "", 0
	noTable := byDefault()
	noTable.ProcessTable.Enabled = false
	all := byDefault()
	all.PinPath, all.Cache, all.LookupTimeout, all.PasswdFile = "", CacheConfig{Processes: 1000, Cgroups: 10}, 5*time.Millisecond, "/hostfs/etc/passwd"
	all.ProcessTable = ProcessTableConfig{Enabled: true, Processes: 100_000, Cgroups: 1000, KeepOnShutdown: true}
	all.Ancestor = AncestorConfig{Command: []string{"sshd", "cron"}, ChildOf: []string{"systemd"}}
	all.CommandLine = CommandLineConfig{Enabled: true, Redact: []string{"secret=(.*)"}, RedactOptions: []string{"--pin"}}
	all.Queue = stage.QueueConfig{Capacity: 20_000, Lanes: 4, Distribution: stage.Hash, OnFull: stage.DropOldest}
	all.DeadLetter = stage.DeadLetterConfig{Capacity: 10, OnFull: stage.DropNewest}
	all.Health = stage.HealthConfig{MaxDepthRatio: 0.5, MaxLoss: 10, LossWindow: 5 * time.Minute}
	all.Retry.Enabled, all.ShutdownTimeout, all.Encoding = false, 0, event.EncodingRecords
	for name, want := range map[string]*Config{"": byDefault(), "all": all, "no_users": noUsers, "no_table": noTable} {
		t.Run(name, func(t *testing.T) {
			got := load(t, "config.yaml", name)
			assert.Equal(t, want, got)
			assert.NoError(t, confmap.Validate(got))
		})
	}
}

func TestInvalidConfig(t *testing.T) {
	errs := map[string]string{
		"relative_pin_path":            `pin_path is "kernelpipe", must be an absolute path on a BPF file system such as /sys/fs/bpf/kernelpipe, or empty to keep nothing across a restart`,
		"cache_of_size_zero":           "cache: processes is 0, must be 1 to 4194304\ncgroups is -1, must be 1 to 1048576",
		"cache_beyond_memory":          "cache: processes is 4194305, must be 1 to 4194304\ncgroups is 1048577, must be 1 to 1048576",
		"negative_timeout":             `lookup_timeout is -1s, must not be negative: use 0s to never wait`,
		"table_of_size_zero":           "process_table: processes is 0, must be 64 to 4194304\ncgroups is 1048577, must be 64 to 1048576",
		"ancestor_with_a_long_name":    "ancestor: command: \"a-name-of-16-byte\" has 17 bytes, must have 1 to 15: the kernel keeps no more of a name\nchild_of: \"\" has 0 bytes, must have 1 to 15: the kernel keeps no more of a name",
		"ancestor_without_a_table":     "ancestor is set, which needs process_table: { enabled: true }",
		"command_line_without_a_table": "command_line is enabled, which needs process_table: { enabled: true }",
		"command_line_in_frames":       "command_line is enabled, which needs encoding: records: the events of frames have no room for it",
		"bad_redaction":                "command_line: redact: error parsing regexp: missing closing ): `(`",
		"bad_redact_option":            `command_line: redact_options: "--pin=1" is no option: use one such as --pin, -k or LICENSE_KEY, without its value`,
		"relative_passwd_file":         `passwd_file is "passwd", must be an absolute path such as /etc/passwd, or empty for no user names`,
		"queue_of_size_zero":           `queue: capacity is 0, must be at least 1 for each lane`,
		"contradictory_block_timeout":  `queue: block_timeout is set, but on_full is drop_newest: it needs on_full: block`,
		"dead_letter_that_blocks":      `dead_letter: on_full is "block", must be drop_newest or drop_oldest`,
		"retry_without_pause":          `retry_on_failure: initial_interval is 0s, which means tries without a pause: use 100ms or more, or enabled: false for no second try`,
		"health":                       "health: max_depth_ratio is 0, must be above 0 and at most 1; with 1 a full queue is healthy",
		"negative_shutdown_timeout":    `shutdown_timeout: -1s is negative: use 0 for no limit`,
		"encoding":                     `encoding: "json" is unknown: use frames or records`,
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
		{"cache": map[string]any{"users": 1}},
		{"ancestor": map[string]any{"comm": "systemd"}},
		{"lookup_timeout": "soon"},
	} {
		assert.Error(t, confmap.NewFromStringMap(bad).Unmarshal(createDefaultConfig().(*Config)), bad)
	}
}
