package bpfaggregateconnector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// exporter makes metrics of the totals in the kernel and hands them on. One goroutine at a time may use it.
type exporter struct {
	config     *Config
	logger     *zap.Logger
	next       consumer.Metrics
	own        *origin     // of the points that this process makes
	encoded    []byte      // own, for what it seals
	sealed     *origin     // of the sealed interval; own: this process has sealed it
	mutex      *sync.Mutex // of the aggregator; held for what it must not change meanwhile, a chunk of series at a time
	aggregator *aggregator
	stats      *bpf.Stats
	reader     *bpf.StatsReader
	views      [bpf.MaxViews]*viewExport // by number
	now        func() time.Time
	last       time.Time // end of the interval before
}

// viewExport is a view on its way out.
type viewExport struct {
	registry *registry
	history  *history // nil: none of its metrics looks back
}

func (x *exporter) export(ctx context.Context) error {
	if x.config.Temporality == Delta {
		return x.exportDelta(ctx)
	}
	return x.exportCumulative(ctx)
}

// exportCumulative sends all totals. When that fails there is nothing to do: the next ones contain them. They do not contain
// an interval that was sealed in delta temporality, which may have been stored as such.
func (x *exporter) exportCumulative(ctx context.Context) error {
	undelivered := x.deliver(ctx, false)
	x.mutex.Lock()
	now := x.now()
	newest := x.stats.NewestNumber()
	x.mutex.Unlock()
	boot := event.Clock{}.Now()
	p := newPoints(pmetric.AggregationTemporalityCumulative, x.own, now)
	x.begin(now)
	current := x.stats.Current().Number
	err := x.each(func(id bpf.SeriesID, entry *bpf.Entry) {
		v := x.view(entry)
		if v == nil || id.Generation != current || id.Number > newest { // one that began after now is in the next export
			return
		}
		p.addTotals(v.registry.view, entry, time.Unix(0, int64(entry.Totals.Since)))
		if v.history != nil {
			v.history.observe(id, entry)
		}
	})
	if err != nil {
		return errors.Join(undelivered, err)
	}
	x.addGauges(p)
	if err := x.send(ctx, p); err != nil {
		return errors.Join(undelivered, err)
	}
	return errors.Join(undelivered, x.expire(boot))
}

// view returns the view that a series is of; nil: it is not configured, or the series has nothing.
func (x *exporter) view(entry *bpf.Entry) *viewExport {
	if entry.Totals.Events == 0 {
		return nil
	}
	return x.views[entry.Series.View%bpf.MaxViews]
}

func (x *exporter) begin(now time.Time) {
	for _, v := range x.views {
		if v != nil && v.history != nil {
			v.history.begin(now.Sub(x.last))
		}
	}
	x.last = now
}

// each visits every series.
func (x *exporter) each(visit func(bpf.SeriesID, *bpf.Entry)) error {
	x.reader.Rewind()
	for {
		x.mutex.Lock()
		ids, entries, err := x.reader.Next()
		x.mutex.Unlock()
		if err != nil || len(ids) == 0 {
			return err
		}
		for i, id := range ids {
			visit(id, &entries[i])
		}
	}
}

func (x *exporter) addGauges(p *points) {
	for _, v := range x.views {
		if v != nil && v.history != nil {
			p.addGauges(v.history)
		}
	}
}

func (x *exporter) send(ctx context.Context, p *points) error {
	if p.metrics.DataPointCount() == 0 {
		return nil
	}
	return x.next.ConsumeMetrics(ctx, p.metrics)
}

// expire removes the series that had no event for long, or for a while where there is no room. All that they had has been
// sent: boot is before the totals were read.
func (x *exporter) expire(boot uint64) error {
	for _, v := range x.views {
		if v == nil {
			continue
		}
		expired, err := x.expireView(v, boot)
		if err != nil {
			return fmt.Errorf("expire series: %w", err)
		}
		v.registry.expired.Add(uint64(len(expired)))
		if v.history != nil {
			v.history.remove(expired)
		}
	}
	return nil
}

func (x *exporter) expireView(v *viewExport, boot uint64) ([]bpf.SeriesID, error) {
	since := uint64(0)
	if x.config.ExpireAfter > 0 {
		after := max(x.config.ExpireAfter, time.Duration(v.registry.view.intervals)*x.config.Interval)
		since = boot - min(uint64(after), boot)
	}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	entries := v.registry.endInterval(boot, since)
	if len(entries) == 0 {
		return nil, nil
	}
	ids := v.registry.ids(entries, x.stats.Current().Number)
	if x.config.Temporality == Cumulative { // else their generation has been removed
		if err := x.stats.Retire(ids); err != nil {
			return nil, err
		}
	}
	v.registry.remove(entries)
	return ids, nil
}

// retire removes series from the kernel, some at a time.
func (x *exporter) retire(ids []bpf.SeriesID) error {
	for chunk := range slices.Chunk(ids, bpf.MaxDeltas) {
		x.mutex.Lock()
		err := x.stats.Retire(chunk)
		x.mutex.Unlock()
		if err != nil {
			return fmt.Errorf("remove series: %w", err)
		}
	}
	return nil
}
