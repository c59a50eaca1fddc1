package bpfreceiver

import (
	"context"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
)

// reported is the next component. What goes there is in the telemetry that the Collector has for all receivers.
type reported struct {
	consumer.Logs
	report *receiverhelper.ObsReport
	format string
}

func report(next consumer.Logs, config *Config, settings receiver.Settings) (consumer.Logs, error) {
	report, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: settings.ID, LongLivedCtx: true, ReceiverCreateSettings: settings,
	})
	return &reported{Logs: next, report: report, format: string(config.Encoding)}, err
}

// ConsumeLogs hands on.
func (r *reported) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	records := logs.LogRecordCount() // logs belong to the next component afterwards
	ctx = r.report.StartLogsOp(ctx)
	err := r.Logs.ConsumeLogs(ctx, logs)
	r.report.EndLogsOp(ctx, r.format, records, err)
	return err
}
