package bpffilterprocessor

import (
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// filterProcessor is a stage whose work is a filter.
type filterProcessor struct {
	*stage.Stage
}

func newProcessor(set processor.Settings, config *Config, next consumer.Logs) (*filterProcessor, error) {
	filter, err := newFilter(config)
	if err != nil {
		return nil, err
	}
	return &filterProcessor{stage.New(stage.Settings{
		Name:            "processor/" + set.ID.String(),
		Telemetry:       set.TelemetrySettings,
		PinPath:         config.PinPath,
		ElementSize:     event.Size,
		Queue:           config.Queue,
		DeadLetter:      config.DeadLetter,
		Health:          config.Health,
		Retry:           config.Retry,
		ShutdownTimeout: config.ShutdownTimeout,
		Encoding:        config.Encoding,
		Next:            next,
		Prepare:         check,
		Work:            filter.work,
	})}, nil
}

// Capabilities implements consumer.Logs.
func (*filterProcessor) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: false}
}
