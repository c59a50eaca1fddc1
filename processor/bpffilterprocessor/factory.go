package bpffilterprocessor

import (
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/processor"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/processor/bpffilterprocessor/internal/metadata"
)

// The highest pid whose events of low priority are dropped by default: what starts with the system.
const defaultDropMaxPID = 99

// NewFactory returns the factory of bpf_filter.
func NewFactory() processor.Factory {
	return processor.NewFactory(metadata.Type, createDefaultConfig, processor.WithLogs(createLogs, metadata.LogsStability))
}

func createDefaultConfig() component.Config {
	maxPID := int64(defaultDropMaxPID)
	return &Config{
		PinPath:         stage.DefaultPinPath,
		Drop:            []match.Config{{Priority: []string{event.PriorityLow.String()}, PID: match.Range{Max: &maxPID}}},
		Queue:           stage.NewQueueConfig(),
		DeadLetter:      stage.NewDeadLetterConfig(),
		Health:          stage.NewHealthConfig(),
		Retry:           stage.NewRetryConfig(),
		ShutdownTimeout: stage.DefaultShutdownTimeout,
		Encoding:        event.EncodingFrames,
	}
}
