package bpfreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/syscalls"
)

func TestSettings(t *testing.T) {
	number := func(name string) int {
		number, ok := syscalls.Number(name)
		require.True(t, ok, name)
		return number
	}
	conf, err := load(t, "valid.yaml").Sub("all")
	require.NoError(t, err)
	config := newConfig()
	require.NoError(t, conf.Unmarshal(config))
	withoutValid := func(config bpf.ProbesConfig) bpf.ProbesConfig {
		require.NotNil(t, config.Valid)
		config.Valid = nil // functions are never equal
		return config
	}
	assert.Equal(t, bpf.ProbesConfig{
		RingSize:    1 << 20,
		ElementSize: event.Size,
		Settings: bpf.Settings{
			Syscall: &bpf.Filter{
				PID: &bpf.Range{Min: 100, Max: 1<<32 - 1}, UID: &bpf.Range{}, Commands: []string{"nginx"}, ErrorsOnly: true, MinDuration: time.Millisecond,
			},
			Syscalls: []int{number("openat"), number("connect")},
			Network:  &bpf.Filter{PID: &bpf.Range{Min: 1, Max: 99}, Operations: 1<<event.NetworkConnect | 1<<event.NetworkRetransmit},
		},
		Simulation: &bpf.Simulation{Events: 5, Seed: 7, PIDs: bpf.Range{Min: 5, Max: 6}, Mix: [4]uint32{0, 2, 1, 1}},
	}, withoutValid(config.probes()))

	conf, err = load(t, "valid.yaml").Sub("one_probe")
	require.NoError(t, err)
	config = newConfig()
	require.NoError(t, conf.Unmarshal(config))
	assert.Equal(t, bpf.ProbesConfig{
		RingSize: 8 << 20, ElementSize: event.Size, Settings: bpf.Settings{Process: &bpf.Filter{}},
	}, withoutValid(config.probes()))
}
