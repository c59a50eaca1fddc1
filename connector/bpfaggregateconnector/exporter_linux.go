package bpfaggregateconnector

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// exporter makes metrics of the totals in the kernel and hands them on. One goroutine at a time may use it.
type exporter struct {
	config     *Config
	logger     *zap.Logger
	next       consumer.Metrics
	host       pcommon.Resource
	version    string
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

// exportCumulative sends all totals. When that fails there is nothing to do: the next ones contain them.
func (x *exporter) exportCumulative(ctx context.Context) error {
	x.mutex.Lock()
	now := x.now()
	newest := x.stats.NewestNumber()
	x.mutex.Unlock()
	boot := event.Clock{}.Now()
	p := x.newPoints(now)
	x.begin(now)
	err := x.each(func(v *viewExport, id bpf.SeriesID, entry *bpf.Entry) {
		if id.Number > newest {
			return // it began after now: it is in the next export
		}
		p.addTotals(v.registry.view, entry, time.Unix(0, int64(entry.Totals.Since)))
		if v.history != nil {
			v.history.observe(id, entry)
		}
	})
	if err != nil {
		return err
	}
	if err := x.send(ctx, p); err != nil {
		return err
	}
	return x.expire(boot)
}

func (x *exporter) newPoints(now time.Time) *points {
	return newPoints(x.config.Temporality, x.host, x.version, now)
}

func (x *exporter) begin(now time.Time) {
	for _, v := range x.views {
		if v != nil && v.history != nil {
			v.history.begin(now.Sub(x.last))
		}
	}
	x.last = now
}

// each visits every series that has something.
func (x *exporter) each(visit func(*viewExport, bpf.SeriesID, *bpf.Entry)) error {
	x.reader.Rewind()
	for {
		x.mutex.Lock()
		ids, entries, err := x.reader.Next()
		x.mutex.Unlock()
		if err != nil || len(ids) == 0 {
			return err
		}
		for i, id := range ids {
			entry := &entries[i]
			if v := x.views[entry.Series.View%bpf.MaxViews]; v != nil && entry.Totals.Events > 0 {
				visit(v, id, entry)
			}
		}
	}
}

func (x *exporter) send(ctx context.Context, p *points) error {
	for _, v := range x.views {
		if v != nil && v.history != nil {
			p.addGauges(v.history)
		}
	}
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
