package bpfenrichprocessor

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadata"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/users"
)

// enrichProcessor is a stage whose work is an enricher's.
type enrichProcessor struct {
	*stage.Stage
	config *Config
	set    processor.Settings

	enricher  *enricher
	details   *details // nil: no next component gets any
	table     *bpf.ProcessTable
	tableDir  *bpf.Directory
	mount     *mountSource
	telemetry *metadata.TelemetryBuilder
}

func newProcessor(set processor.Settings, config *Config, next consumer.Logs) *enrichProcessor {
	p := &enrichProcessor{config: config, set: set}
	if config.ProcessTable.Enabled && config.Encoding == event.EncodingRecords {
		p.details = newDetails(config, set.Logger, next)
		next = p.details
	}
	p.Stage = stage.New(stage.Settings{
		Name:            "processor/" + set.ID.String(),
		Telemetry:       set.TelemetrySettings,
		PinPath:         config.PinPath,
		ElementSize:     event.EnrichedSize,
		Queue:           config.Queue,
		DeadLetter:      config.DeadLetter,
		Health:          config.Health,
		Retry:           config.Retry,
		ShutdownTimeout: config.ShutdownTimeout,
		Encoding:        config.Encoding,
		Next:            next,
		Prepare:         func(batch event.Batch) error { return p.enricher.prepare(batch) },
		CheckPins:       p.checkTable,
		Work:            func(batch event.Batch, i int, out []byte) bool { return p.enricher.work(batch, i, out) },
	})
	return p
}

// Capabilities implements consumer.Logs.
func (*enrichProcessor) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: false}
}

// Start implements component.Component. The stage begins with what an earlier process has left in its queue, so that all
// it needs is there before.
func (p *enrichProcessor) Start(ctx context.Context, host component.Host) error {
	err := p.openTable()
	if err == nil {
		p.Watch(p.losses()...)
		err = p.Stage.Start(ctx, host)
	}
	if err == nil {
		if err = p.startEnricher(); err != nil {
			err = fmt.Errorf("processor/%s: %w", p.set.ID, err)
		}
	}
	if err != nil {
		return errors.Join(err, p.close(ctx, (*bpf.ProcessTable).Abandon))
	}
	return nil
}

func (p *enrichProcessor) openTable() (err error) {
	if !p.config.ProcessTable.Enabled {
		return nil
	}
	if err := bpf.CheckRequirements(); err != nil {
		return fmt.Errorf("processor/%s: %w", p.set.ID, err)
	}
	if p.tableDir, err = bpf.OpenDirectory(p.config.PinPath, "processor/"+p.set.ID.String()+"/process_table"); err != nil {
		return fmt.Errorf("processor/%s: %w", p.set.ID, err)
	}
	if p.table, err = bpf.OpenProcessTable(p.tableDir, bpf.ProcessTableConfig{
		Processes: p.config.ProcessTable.Processes, Cgroups: p.config.ProcessTable.Cgroups, Arguments: p.config.CommandLine.Enabled,
	}); err != nil {
		return fmt.Errorf("processor/%s: %w; with process_table: { enabled: false } processes are looked up in /proc, and those that live shortly are missed", p.set.ID, err)
	}
	if p.details != nil {
		p.details.table = p.table
	}
	return nil
}

func (p *enrichProcessor) checkTable() error {
	if p.table == nil {
		return nil
	}
	if err := p.tableDir.CheckPins(); err != nil {
		return err
	}
	return p.table.CheckPins()
}

// leaveTable says what becomes of the table when the processor is stopped. One that is not kept, and that no event has ever asked,
// is removed: so it is where another component has kept the Collector from starting.
func (p *enrichProcessor) leaveTable(unused bool) func(*bpf.ProcessTable) error {
	return func(table *bpf.ProcessTable) error {
		switch {
		case p.config.ProcessTable.KeepOnShutdown:
			return nil
		case unused:
			return errors.Join(table.Detach(), table.Abandon())
		default:
			return table.Detach()
		}
	}
}

func (p *enrichProcessor) closeTable(leave func(*bpf.ProcessTable) error) error {
	var err error
	if p.table != nil {
		err = leave(p.table)
		p.table.Close()
		p.table = nil
	}
	err = errors.Join(err, p.tableDir.Close())
	p.tableDir = nil
	return err
}

func (p *enrichProcessor) startEnricher() error {
	warnOfMissingCapabilities(p.set.Logger)
	var directory *users.Directory
	if p.config.PasswdFile != "" {
		directory = users.NewDirectory(p.config.PasswdFile)
	}
	p.mount = openMountSource(p.set.Logger)
	var cgroups cgroupSource
	if p.mount != nil {
		cgroups = p.mount
	}
	resolver := newResolver(p.set.Logger, func() []processSource { return []processSource{newProcSource()} }, cgroups, directory)
	var table processTable
	if p.table != nil {
		table = kernelTable{p.table}
	}
	enricher := newEnricher(p.config, resolver, table)
	var err error
	if p.telemetry, err = enricher.counts.observe(p.set.TelemetrySettings); err != nil {
		return err
	}
	if p.table != nil {
		if err := observeTable(p.telemetry, p.table, p.set.Logger); err != nil {
			return err
		}
	}
	resolver.start()
	p.enricher = enricher
	return nil
}

// Shutdown implements component.Component. Upstream has stopped, so nothing is being enriched.
func (p *enrichProcessor) Shutdown(ctx context.Context) error {
	return p.close(ctx, p.leaveTable(p.Unused()))
}

func (p *enrichProcessor) close(ctx context.Context, leave func(*bpf.ProcessTable) error) error {
	err := p.Stage.Shutdown(ctx)
	if p.telemetry != nil {
		p.telemetry.Shutdown()
		p.telemetry = nil
	}
	if p.enricher != nil {
		ctx, cancel := stage.WithShutdownTimeout(ctx, p.config.ShutdownTimeout) // one of its own, however long the stage took
		defer cancel()
		if hangs := p.enricher.resolver.stop(ctx); hangs != nil {
			return errors.Join(err, hangs) // and it needs what would be closed below
		}
		p.enricher = nil
	}
	p.mount.close()
	p.mount = nil
	return errors.Join(err, p.closeTable(leave))
}

// warnOfMissingCapabilities: without them much can still be found, so it is no reason not to start.
func warnOfMissingCapabilities(logger *zap.Logger) {
	set, err := effectiveCapabilities()
	if err != nil {
		logger.Warn("capabilities of this process are not known", zap.Error(err))
		return
	}
	for _, missing := range missingCapabilities(set) {
		logger.Warn("some events can't be enriched", zap.String("missing_capability", missing.name), zap.String("needed", missing.use))
	}
}
