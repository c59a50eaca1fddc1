package bpfreceiver

import (
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/receiver"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/receiver/bpfreceiver/internal/metadata"
)

// NewFactory returns the factory of the receiver `bpf`.
func NewFactory() receiver.Factory {
	return receiver.NewFactory(metadata.Type, createDefaultConfig, receiver.WithLogs(createLogs, metadata.LogsStability))
}

func createDefaultConfig() component.Config { return newConfig() }

func newConfig() *Config {
	return &Config{
		PinPath: stage.DefaultPinPath,
		Probes: ProbesConfig{
			Syscall:    configoptional.Default(SyscallConfig{Exclude: defaultExclude()}),
			Network:    configoptional.Default(ProbeConfig{}),
			Filesystem: configoptional.Default(ProbeConfig{}),
			Process:    configoptional.Default(ProbeConfig{}),
			Simulate: configoptional.Default(SimulateConfig{
				Events: 1_000_000,
				Seed:   1,
				PID:    SimulatedPIDs{Min: 100, Max: 1099},
				Mix:    SimulatedMix{Syscall: 1, Network: 1, Filesystem: 1, Process: 1},
			}),
		},
		Queue:           configoptional.Default(newQueueConfig()),
		RingBuffer:      RingBufferConfig{Size: 8 * MiB},
		Encoding:        event.EncodingFrames,
		PollInterval:    100 * time.Millisecond,
		Health:          stage.NewHealthConfig(),
		ShutdownTimeout: stage.DefaultShutdownTimeout,
	}
}
