package bpfenrichprocessor

import (
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/processor"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadata"
)

// A lookup takes some 50 µs: a batch of nothing but new processes is through in half of the default timeout.
const defaultLookupTimeout = 100 * time.Millisecond

// The default cache sizes.
const (
	defaultProcesses = 1 << 16
	defaultCgroups   = 1 << 12
	defaultTable     = 1 << 15
)

// NewFactory returns the factory of bpf_enrich.
func NewFactory() processor.Factory {
	return processor.NewFactory(metadata.Type, createDefaultConfig, processor.WithLogs(createLogs, metadata.LogsStability))
}

func createDefaultConfig() component.Config {
	return &Config{
		PinPath:         stage.DefaultPinPath,
		Cache:           CacheConfig{Processes: defaultProcesses, Cgroups: defaultCgroups},
		ProcessTable:    ProcessTableConfig{Enabled: true, Processes: defaultTable, Cgroups: defaultCgroups},
		CommandLine:     CommandLineConfig{RedactDefaults: true},
		LookupTimeout:   defaultLookupTimeout,
		PasswdFile:      "/etc/passwd",
		Queue:           stage.NewQueueConfig(),
		DeadLetter:      stage.NewDeadLetterConfig(),
		Health:          stage.NewHealthConfig(),
		Retry:           stage.NewRetryConfig(),
		ShutdownTimeout: stage.DefaultShutdownTimeout,
		Encoding:        event.EncodingFrames,
	}
}
