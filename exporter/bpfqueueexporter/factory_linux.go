package bpfqueueexporter

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// createLogs needs nothing of exporterhelper but its telemetry: the queue is the kernel's, and there is nothing
// to try again.
func createLogs(ctx context.Context, set exporter.Settings, cfg component.Config) (exporter.Logs, error) {
	s := newStage(set.TelemetrySettings, cfg.(*Config))
	return exporterhelper.NewLogs(ctx, set, cfg, s.ConsumeLogs,
		exporterhelper.WithStart(s.Start),
		exporterhelper.WithShutdown(s.Shutdown),
		exporterhelper.WithCapabilities(consumer.Capabilities{MutatesData: false}),
		exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{Timeout: 0})) // on_full: block may wait
}

func newStage(telemetry component.TelemetrySettings, config *Config) *stage.Stage {
	return stage.New(stage.Settings{
		Name:        stage.QueueComponent(config.Name),
		Telemetry:   telemetry,
		PinPath:     config.PinPath,
		ElementSize: elementSize,
		Queue:       config.Queue,
		Health:      config.Health,
		Work:        widen,
	})
}
