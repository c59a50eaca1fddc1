package bpfreceiver

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
)

// createLogs touches nothing in the kernel: the Collector's validate command creates components too.
func createLogs(_ context.Context, settings receiver.Settings, config component.Config, next consumer.Logs) (receiver.Logs, error) {
	own, ok := config.(*Config)
	if !ok {
		return nil, fmt.Errorf("configuration is a %T, expected a %T", config, own)
	}
	if queue := own.Queue.Get(); queue != nil && queue.DeadLetterOf == pinName(settings) {
		return nil, errOwnDeadLetters
	}
	return &bpfReceiver{config: own, settings: settings, next: next}, nil
}
