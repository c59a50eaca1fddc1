package bpfqueueexporter

import (
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/exporter"

	"github.com/kernelpipe/kernelpipe/exporter/bpfqueueexporter/internal/metadata"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// NewFactory returns the factory of bpf_queue.
func NewFactory() exporter.Factory {
	return exporter.NewFactory(metadata.Type, createDefaultConfig, exporter.WithLogs(createLogs, metadata.LogsStability))
}

func createDefaultConfig() component.Config {
	return &Config{PinPath: stage.DefaultPinPath, Queue: stage.NewQueueConfig(), Health: stage.NewHealthConfig()}
}
