package bpfqueueexporter

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/kernelpipe/kernelpipe/exporter/bpfqueueexporter/internal/metadata"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
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
	for name, want := range map[string]*Config{
		"": {Name: "handoff", PinPath: "/sys/fs/bpf/kernelpipe", Queue: stage.NewQueueConfig(), Health: stage.NewHealthConfig()},
		"all": {
			Name: "a_B-9", PinPath: "/sys/fs/bpf/mine",
			Queue: stage.QueueConfig{
				Capacity: 500, Lanes: 2, Distribution: stage.Hash, HashBy: stage.HashByCgroup, OnFull: stage.DropLowPriority,
			},
			Health: stage.HealthConfig{MaxDepthRatio: 0.5, MaxLoss: 10, LossWindow: 5 * time.Minute},
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
	for name, want := range map[string]string{
		"no_name":           `name is "", must be 1 to 64 letters, digits, _ and -, such as handoff`,
		"bad_name":          `name is "../x", must be 1 to 64 letters, digits, _ and -, such as handoff`,
		"no_pin_path":       `pin_path is empty: a queue for another process has to be pinned, use /sys/fs/bpf/kernelpipe`,
		"relative_pin_path": `pin_path is "kernelpipe", must be an absolute path on a BPF file system such as /sys/fs/bpf/kernelpipe, or empty to keep nothing across a restart`,
		"queue": "queue: hash_by is \"inode\", must be one of pid, tid, uid, cgroup, command, remote_address\n" +
			"hash_by is set, but distribution is round_robin: it needs distribution: hash",
		"health": "health: max_depth_ratio is 1.5, must be above 0 and at most 1; with 1 a full queue is healthy\n" +
			"max_loss is -1, must not be negative: use 9223372036854775807 where losses are no reason for concern\n" +
			"loss_window is 1ms, must be at least 1s",
	} {
		t.Run(name, func(t *testing.T) {
			assert.EqualError(t, confmap.Validate(load(t, "invalid.yaml", name)), want)
		})
	}
}

func TestWiden(t *testing.T) {
	events := []event.Event{{Time: 1}, {Time: 2, Version: event.Version}}
	out := make([]byte, elementSize)
	for i := range out {
		out[i] = 0xff
	}
	require.True(t, widen(event.Batch{Size: event.Size, Data: event.Bytes(events)}, 1, out))
	enriched, err := event.ViewEnriched(out)
	require.NoError(t, err)
	assert.Equal(t, event.Enriched{Event: events[1]}, enriched[0])
	whole := []event.Enriched{{Event: events[1], Context: event.Context{ParentTGID: 7}}}
	require.True(t, widen(event.Batch{Size: event.EnrichedSize, Data: event.Bytes(whole)}, 0, out))
	assert.Equal(t, whole[0], enriched[0])
}
