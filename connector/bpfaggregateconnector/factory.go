package bpfaggregateconnector

import (
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/connector"

	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadata"
	"github.com/kernelpipe/kernelpipe/internal/health"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// NewFactory returns the factory of bpf_aggregate.
func NewFactory() connector.Factory {
	return connector.NewFactory(metadata.Type, createDefaultConfig,
		connector.WithLogsToMetrics(createLogsToMetrics, metadata.LogsToMetricsStability))
}

func createDefaultConfig() component.Config {
	return &Config{
		PinPath:            stage.DefaultPinPath,
		Interval:           10 * time.Second,
		Temporality:        Cumulative,
		CardinalityLimit:   2000,
		ExpireAfter:        time.Hour,
		ShutdownTimeout:    stage.DefaultShutdownTimeout,
		Health:             health.NewConfig(),
		Metrics:            defaultMetrics(),
		ResourceAttributes: metadata.DefaultResourceAttributesConfig(),
	}
}
