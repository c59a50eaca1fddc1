//go:build !linux

package bpfqueueexporter

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/exporter"
)

func createLogs(context.Context, exporter.Settings, component.Config) (exporter.Logs, error) {
	return nil, errors.New("exporter bpf_queue needs Linux")
}
