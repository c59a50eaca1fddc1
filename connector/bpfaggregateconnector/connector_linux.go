package bpfaggregateconnector

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadata"
	"github.com/kernelpipe/kernelpipe/internal/clamp"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/health"
	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// aggregateConnector is the component: an aggregator for the logs that come in, an exporter for the metrics that
// go out, and the stats that both work on.
type aggregateConnector struct {
	set    connector.Settings
	config *Config
	next   consumer.Metrics
	views  []*view
	now    func() time.Time

	mutex      sync.Mutex // of what follows and the kernel's side of it
	dir        *bpf.Directory
	stats      *bpf.Stats
	aggregator *aggregator // nil: not started, or stopped
	telemetry  *metadata.TelemetryBuilder
	registries []*registry // by view

	refused  health.Recent // batches of sources that there is no room for
	damaged  health.Recent // series whose totals can't be
	dropped  atomic.Uint64 // events
	leftOut  uint64        // as stats.Damaged was at the last look
	exporter *exporter
	stop     chan struct{} // closed: no more exports
	lifetime context.Context
	abandon  context.CancelFunc
	worker   sync.WaitGroup
}

func newConnector(set connector.Settings, config *Config, next consumer.Metrics) (*aggregateConnector, error) {
	views, err := newViews(config)
	if err != nil {
		return nil, err
	}
	return &aggregateConnector{set: set, config: config, next: next, views: views, now: time.Now}, nil
}

// Capabilities implements consumer.Logs.
func (*aggregateConnector) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: false}
}

// Start opens the stats, adopting what an earlier process has left in them, and starts the exports. It fails when
// the kernel or the process lacks what is needed, when another process has the connector, and when what is
// pinned is of another format.
func (c *aggregateConnector) Start(_ context.Context, host component.Host) error {
	if err := c.open(); err != nil {
		return errors.Join(fmt.Errorf("connector %s: %w", c.set.ID, err), c.close())
	}
	c.stop = make(chan struct{})
	c.lifetime, c.abandon = context.WithCancel(context.Background())
	stop := c.stop
	c.worker.Go(func() { c.exportAtIntervals(stop) })
	losses := health.NewLosses(c.config.Health, c.losses()...)
	c.worker.Go(func() {
		health.Watch(stop, host, c.set.Logger, "connector "+c.set.ID.String(), func(now time.Time) error {
			return errors.Join(c.refused.Check(now), losses.Check(now), c.checkState(now))
		})
	})
	return nil
}

func (c *aggregateConnector) open() error {
	if err := bpf.CheckRequirements(); err != nil {
		return err
	}
	var err error
	if c.dir, err = bpf.OpenDirectory(c.config.PinPath, "connector/"+c.set.ID.String()); err != nil {
		return err
	}
	if err := c.openStats(); err != nil {
		return err
	}
	if err := c.configure(); err != nil {
		return err
	}
	if err := c.adopt(); err != nil {
		return err
	}
	if err := c.observe(); err != nil {
		return err
	}
	c.aggregator = newAggregator(c.stats, c.registries, c.now)
	return c.newExporter()
}

func (c *aggregateConnector) openStats() (err error) {
	if c.stats, err = bpf.OpenStats(c.dir, "stats", c.capacity()); err != nil {
		return err
	}
	if damage := c.stats.Damage(); damage != nil {
		c.damaged.Note(c.now(), damage)
		c.set.Logger.Error("pinned state is damaged", zap.Error(damage))
	}
	sealed, err := c.stats.SealedSeries()
	if err != nil || sealed == 0 || c.config.Temporality == Delta {
		return err
	}
	c.set.Logger.Info("an interval of delta temporality that was not delivered is sent as such, and is in no cumulative point",
		zap.Int("series", sealed))
	c.stats.Close()
	c.stats, err = bpf.OpenStats(c.dir, "stats", c.capacity()+sealed)
	return err
}

// capacity returns how many series there can be at once: in delta temporality in two intervals. While series
// are moved there is one more of each view.
func (c *aggregateConnector) capacity() int {
	series := 0
	for _, v := range c.views {
		series += v.limit
	}
	if c.config.Temporality == Delta {
		series *= 2
	}
	return series + 2*bpf.MaxViews
}

// configure numbers the views, and reports what an earlier configuration has left that this one has no use for.
func (c *aggregateConnector) configure() error {
	views := make([]bpf.View, len(c.views))
	for i, v := range c.views {
		views[i] = bpf.View{Fingerprint: v.fingerprint, Name: v.name}
	}
	numbers, dropped, err := c.stats.Configure(views)
	if err != nil {
		return err
	}
	for i, v := range c.views {
		v.number = numbers[i]
		c.registries = append(c.registries, newRegistry(v, c.stats.NewNumber))
	}
	for _, view := range dropped {
		c.set.Logger.Warn("the pinned totals of metrics that are not configured any more, or with other conditions, dimensions or buckets, were dropped",
			zap.String("metrics", view.Name), zap.Int("series", view.Series), zap.Uint64("events", view.Events))
	}
	return nil
}

// adopt fills the registries with the series that are there and brings their number within the limit. Those of a sealed
// interval are no concern of theirs.
func (c *aggregateConnector) adopt() error {
	current := c.stats.Current().Number
	err := c.stats.Each(func(id bpf.SeriesID, entry *bpf.Entry) bool {
		for _, r := range c.registries {
			if id.Generation == current && r.view.number == entry.Series.View {
				r.adopt(id.Number, entry.Series, entry.Totals.Last)
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, r := range c.registries {
		if err := c.limit(r); err != nil {
			return err
		}
	}
	return nil
}

// limit moves the series that are more than there may be, those that were idle for longest, to the overflow
// series: no total is lost to a lower limit.
func (c *aggregateConnector) limit(r *registry) error {
	excess := r.excess()
	if len(excess) == 0 {
		return nil
	}
	c.set.Logger.Warn("there are more pinned series than cardinality_limit allows; those that were idle for longest go to the overflow series",
		zap.String("metrics", r.view.name), zap.Int("series", len(excess)))
	overflow := r.adopt(r.newNumber(), r.overflow(), event.Clock{}.Now())
	generation := c.stats.Current().Number
	var moves []bpf.Move
	for _, id := range r.ids(excess, generation) {
		moves = append(moves, bpf.Move{From: id, To: bpf.SeriesID{Number: overflow, Generation: generation}, Series: r.overflow()})
	}
	if err := c.stats.Move(moves, c.now()); err != nil {
		return err
	}
	r.remove(excess)
	return nil
}

func (c *aggregateConnector) newExporter() error {
	builder := metadata.NewResourceBuilder(c.config.ResourceAttributes)
	if c.config.ResourceAttributes.HostName.Enabled {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("resource attribute host.name: %w", err)
		}
		builder.SetHostName(name)
	}
	own := newOrigin(builder.Emit(), c.set.BuildInfo.Version, c.set.ID, c.views)
	encoded, err := own.encode()
	if err != nil {
		return err
	}
	x := &exporter{
		config: c.config, logger: c.set.Logger, next: c.next, own: own, encoded: encoded,
		mutex: &c.mutex, aggregator: c.aggregator, stats: c.stats, reader: c.stats.Reader(), now: c.now, last: c.now(),
	}
	for _, r := range c.registries {
		x.views[r.view.number] = &viewExport{registry: r, history: newHistory(r.view)}
	}
	c.exporter = x
	return errors.Join(x.adopt(), x.skip())
}

// observe registers the books as telemetry.
func (c *aggregateConnector) observe() (err error) {
	if c.telemetry, err = metadata.NewTelemetryBuilder(c.set.TelemetrySettings); err != nil {
		return err
	}
	one := metric.WithAttributeSet(attribute.NewSet(c.attribute()))
	register := func(with func(metric.Int64Callback) error, value func() uint64) {
		if err == nil {
			err = with(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(clamp.Int64(value()), one)
				return nil
			})
		}
	}
	byView := func(with func(metric.Int64Callback) error, value func(*registry) uint64) {
		if err == nil {
			err = with(func(_ context.Context, o metric.Int64Observer) error {
				for _, r := range c.registries {
					o.Observe(clamp.Int64(value(r)), metric.WithAttributes(c.attribute(), attribute.String("metric", r.view.name)))
				}
				return nil
			})
		}
	}
	t := c.telemetry
	register(t.RegisterKernelpipeAggregateEventsCallback, func() uint64 { return c.stats.Books().Events })
	register(t.RegisterKernelpipeAggregateRedeliveredCallback, func() uint64 { return c.stats.Books().Redelivered })
	register(t.RegisterKernelpipeAggregateMemoryCallback, c.stats.Memory)
	register(t.RegisterKernelpipeAggregateSaturatedCallback, func() uint64 { return c.stats.Books().Saturated })
	register(t.RegisterKernelpipeAggregateDamagedCallback, c.stats.Damaged)
	register(t.RegisterKernelpipeAggregatePinsRemovedCallback, func() uint64 {
		if c.checkPins() != nil {
			return 1
		}
		return 0
	})
	register(t.RegisterKernelpipeAggregateSourcesCallback, func() uint64 { return uint64(c.stats.Sources()) })
	byView(t.RegisterKernelpipeAggregateSeriesCallback, func(r *registry) uint64 { return uint64(r.active.Load()) })
	byView(t.RegisterKernelpipeAggregateExpiredCallback, func(r *registry) uint64 { return r.expired.Load() })
	byView(t.RegisterKernelpipeAggregateOverflowedCallback, func(r *registry) uint64 { return r.overflowed.Load() })
	byView(t.RegisterKernelpipeAggregateLostCallback, func(r *registry) uint64 { return r.lost.Load() })
	uncertain := func(with func(metric.Int64Callback) error, value func(bpf.ViewBooks) uint64) {
		if err == nil {
			err = with(func(_ context.Context, o metric.Int64Observer) error {
				c.observeViews(func(name string, books bpf.ViewBooks, configured bool) {
					if n := value(books); n > 0 || configured {
						o.Observe(clamp.Int64(n), metric.WithAttributes(c.attribute(), attribute.String("metric", name)))
					}
				})
				return nil
			})
		}
	}
	uncertain(t.RegisterKernelpipeAggregateUncertainCallback, func(books bpf.ViewBooks) uint64 { return books.UncertainEvents })
	uncertain(t.RegisterKernelpipeAggregateUncertainBytesCallback, func(books bpf.ViewBooks) uint64 { return books.UncertainBytes })
	return err
}

// observeViews visits the books of all views: those that are configured, and those that a sealed interval has beside them.
func (c *aggregateConnector) observeViews(visit func(name string, books bpf.ViewBooks, configured bool)) {
	names := c.stats.ViewNames()
	for _, r := range c.registries {
		visit(r.view.name, c.stats.ViewBooks(r.view.number), true)
		names[r.view.number] = ""
	}
	for number, name := range names {
		if name != "" {
			visit(name, c.stats.ViewBooks(uint16(number)), false)
		}
	}
}

func (c *aggregateConnector) attribute() attribute.KeyValue {
	return attribute.String("connector", c.set.ID.String())
}

// ConsumeLogs adds the events in logs to the totals. Log records that hold no events are counted and left out. On an
// error some events may have been added; handed in again as redelivered frames they are recognised.
func (c *aggregateConnector) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	if !c.running() { // also records that hold no events are not for a connector that does not run
		return c.notRunning()
	}
	return event.Decode(logs, c.add, func(_ plog.LogRecord, err error) { c.refuse(ctx, err) })
}

func (c *aggregateConnector) running() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.aggregator != nil
}

func (c *aggregateConnector) notRunning() error {
	return fmt.Errorf("connector %s is not running", c.set.ID)
}

func (c *aggregateConnector) add(batch event.Batch) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.aggregator == nil {
		return c.notRunning()
	}
	err := c.aggregator.add(batch)
	if errors.Is(err, bpf.ErrSources) {
		c.refused.Note(time.Now(), err)
		c.telemetry.KernelpipeAggregateSourcesRefused.Add(context.Background(), 1, metric.WithAttributes(c.attribute()))
	}
	return err
}

func (c *aggregateConnector) refuse(ctx context.Context, err error) {
	c.set.Logger.Debug("log record passed over", zap.Error(err))
	attributes := metric.WithAttributes(c.attribute(), attribute.String("reason", string(event.ReasonOf(err))))
	c.telemetry.KernelpipeAggregateForeign.Add(ctx, 1, attributes)
	var refused *event.RecordError
	if errors.As(err, &refused) && refused.Events > 0 {
		c.dropped.Add(uint64(refused.Events))
		c.telemetry.KernelpipeAggregateDropped.Add(ctx, int64(refused.Events), attributes)
	}
}

func (c *aggregateConnector) exportAtIntervals(stop <-chan struct{}) {
	ticker := time.NewTicker(c.config.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		if err := c.export(c.lifetime); err != nil {
			c.set.Logger.Warn("metrics were not exported; the next export has all of them that was not refused for good", zap.Error(err))
		}
	}
}

func (c *aggregateConnector) export(ctx context.Context) error {
	err := c.exporter.export(ctx)
	if err != nil {
		c.telemetry.KernelpipeAggregateExportFailures.Add(ctx, 1, metric.WithAttributes(c.attribute()))
	}
	return err
}

// checkState reports what is wrong with the pinned state while it is in use. One goroutine calls it.
func (c *aggregateConnector) checkState(now time.Time) error {
	if n := c.stats.Damaged(); n > c.leftOut {
		c.damaged.Note(now, fmt.Errorf("series were left out %d times, as their totals can't be: another process has written into the pinned stats map", n-c.leftOut))
		c.leftOut = n
	}
	return errors.Join(c.damaged.Check(now), c.checkPins())
}

// checkPins reports whether pins were removed while the connector has them open.
func (c *aggregateConnector) checkPins() error {
	if err := c.dir.CheckPins(); err != nil {
		return err // that is the reason for all
	}
	return c.stats.CheckPins()
}

// Shutdown exports a last time; upstream has stopped before. What can't be exported until ctx or the shutdown_timeout ends
// stays pinned for the next start or, where nothing is pinned, is lost and reported.
func (c *aggregateConnector) Shutdown(ctx context.Context) error {
	if c.stop == nil {
		return c.close()
	}
	ctx, cancel := stage.WithShutdownTimeout(ctx, c.config.ShutdownTimeout)
	defer cancel()
	close(c.stop)
	c.stop = nil
	finished := make(chan struct{})
	go func() {
		c.worker.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-ctx.Done():
		c.abandon()
		<-finished
	}
	c.abandon()
	err := c.export(ctx)
	switch {
	case err == nil:
	case c.dir.Pinned():
		c.set.Logger.Warn("the last metrics were not exported; what was not refused for good stays pinned for the next start", zap.Error(err), zap.String("directory", c.dir.Path()))
		err = nil
	default:
		err = fmt.Errorf("connector %s: the last metrics were not exported and are lost, as there is no pin_path: %w", c.set.ID, err)
	}
	return errors.Join(err, c.close())
}

func (c *aggregateConnector) close() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.telemetry != nil {
		c.telemetry.Shutdown() // before the memory that it reads goes
		c.telemetry = nil
	}
	c.aggregator, c.exporter, c.registries = nil, nil, nil
	var err error
	if c.stats != nil {
		err = c.stats.RemoveUnused()
		c.stats.Close()
		c.stats = nil
	}
	err = errors.Join(err, c.dir.Close())
	c.dir = nil
	return err
}
