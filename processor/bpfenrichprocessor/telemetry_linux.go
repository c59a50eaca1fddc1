package bpfenrichprocessor

import (
	"context"
	"errors"
	"sync/atomic"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/clamp"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadata"
)

// The values of the attributes kind and reason.
var (
	kindNames   = [kinds]string{kindProcess: "process", kindCgroup: "cgroup", kindUser: "user", kindAncestor: "ancestor"}
	reasonNames = [reasons]string{notFound: "not_found", timedOut: "timeout", denied: "denied", unknown: "unknown", evicted: "evicted"}
)

// tally is the numbers that are reported.
type tally struct {
	hits, misses, evictions, entries [kinds]int64
	incomplete                       [kinds][reasons]int64
}

// counts counts in the event path, and shows the counts to others at the end of each batch.
type counts struct {
	tally
	published atomic.Pointer[tally]
}

func (c *counts) incompleteBy(why [kinds]reason) {
	for kind, reason := range why {
		if reason != complete {
			c.incomplete[kind][reason]++
		}
	}
}

func (c *counts) publish(e *enricher) {
	c.entries = [kinds]int64{kindProcess: int64(e.processes.Len()), kindCgroup: int64(e.cgroups.Len()), kindUser: int64(e.names.Len())}
	now := c.tally
	c.published.Store(&now)
}

// observe registers the counts as telemetry.
func (c *counts) observe(settings component.TelemetrySettings) (*metadata.TelemetryBuilder, error) {
	c.published.CompareAndSwap(nil, &tally{})
	t, err := metadata.NewTelemetryBuilder(settings)
	if err != nil {
		return nil, err
	}
	register := func(with func(metric.Int64Callback) error, value func(*tally) [kinds]int64, observed ...kind) {
		if err == nil {
			err = with(func(_ context.Context, o metric.Int64Observer) error {
				values := value(c.published.Load())
				for _, kind := range observed {
					o.Observe(values[kind], metric.WithAttributes(attribute.String("kind", kindNames[kind])))
				}
				return nil
			})
		}
	}
	register(t.RegisterKernelpipeEnrichHitsCallback, func(t *tally) [kinds]int64 { return t.hits }, kindProcess, kindCgroup, kindUser)
	register(t.RegisterKernelpipeEnrichMissesCallback, func(t *tally) [kinds]int64 { return t.misses }, kindProcess, kindCgroup, kindUser)
	register(t.RegisterKernelpipeEnrichEntriesCallback, func(t *tally) [kinds]int64 { return t.entries }, kindProcess, kindCgroup, kindUser)
	register(t.RegisterKernelpipeEnrichEvictionsCallback, func(t *tally) [kinds]int64 { return t.evictions }, kindProcess, kindCgroup)
	register(t.RegisterKernelpipeEnrichMemoryCallback, func(t *tally) [kinds]int64 {
		return [kinds]int64{kindProcess: t.entries[kindProcess] * processMemory, kindCgroup: t.entries[kindCgroup] * cgroupMemory}
	}, kindProcess, kindCgroup)
	if err == nil {
		err = t.RegisterKernelpipeEnrichIncompleteCallback(c.observeIncomplete)
	}
	if err != nil {
		t.Shutdown()
		return nil, err
	}
	return t, nil
}

// observeIncomplete reports what has happened: most of the combinations never do.
func (c *counts) observeIncomplete(_ context.Context, o metric.Int64Observer) error {
	for kind, byReason := range c.published.Load().incomplete {
		for reason, n := range byReason {
			if n > 0 {
				o.Observe(n, metric.WithAttributes(attribute.String("kind", kindNames[kind]), attribute.String("reason", reasonNames[reason])))
			}
		}
	}
	return nil
}

// observeTable registers the account of the process table.
func observeTable(t *metadata.TelemetryBuilder, table *bpf.ProcessTable, logger *zap.Logger) error {
	register := func(with func(metric.Int64Callback) error, observe func(*bpf.TableCounts, func(int64, ...attribute.KeyValue))) error {
		return with(func(_ context.Context, o metric.Int64Observer) error {
			counts, err := table.Counts()
			if err != nil {
				logger.Error("the process table is not counted", zap.Error(err))
				return nil
			}
			observe(&counts, func(value int64, attributes ...attribute.KeyValue) {
				o.Observe(value, metric.WithAttributes(attributes...))
			})
			return nil
		})
	}
	process, cgroup := attribute.String("kind", kindNames[kindProcess]), attribute.String("kind", kindNames[kindCgroup])
	program := attribute.String("kind", "program")
	because := func(why string) attribute.KeyValue { return attribute.String("reason", why) }
	return errors.Join(
		register(t.RegisterKernelpipeEnrichTableEntriesCallback, func(c *bpf.TableCounts, observe func(int64, ...attribute.KeyValue)) {
			observe(clamp.Int64(c.Entries()), process)
			observe(clamp.Int64(c.Cgroups.Entries()), cgroup)
			observe(clamp.Int64(c.Programs.Entries()), program)
		}),
		register(t.RegisterKernelpipeEnrichTableInsertsCallback, func(c *bpf.TableCounts, observe func(int64, ...attribute.KeyValue)) {
			observe(clamp.Int64(c.Started+c.Found), process)
			observe(clamp.Int64(c.Cgroups.Put), cgroup)
			observe(clamp.Int64(c.Programs.Put), program)
		}),
		register(t.RegisterKernelpipeEnrichTableEvictionsCallback, func(c *bpf.TableCounts, observe func(int64, ...attribute.KeyValue)) {
			observe(clamp.Int64(c.Evicted+c.LeftOut), process)
			observe(clamp.Int64(c.Cgroups.Evicted+c.Cgroups.LeftOut), cgroup)
			observe(clamp.Int64(c.Programs.Evicted+c.Programs.LeftOut), program)
		}),
		register(t.RegisterKernelpipeEnrichTableMissesCallback, func(c *bpf.TableCounts, observe func(int64, ...attribute.KeyValue)) {
			observe(clamp.Int64(c.Full), process, because("full"))
			observe(clamp.Int64(c.Errors), process, because("error"))
			observe(clamp.Int64(c.Skipped), process, because("recursion"))
			observe(clamp.Int64(c.Cgroups.Missed), cgroup, because("full"))
			observe(clamp.Int64(c.Programs.Missed), program, because("full"))
		}),
		t.RegisterKernelpipeEnrichTableRetentionCallback(func(_ context.Context, o metric.Float64Observer) error {
			if counts, err := table.Counts(); err == nil && counts.Evicted > 0 {
				o.Observe(counts.Kept.Seconds())
			}
			return nil
		}),
		t.RegisterKernelpipeEnrichTableMemoryCallback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(clamp.Int64(table.Memory()))
			return nil
		}),
	)
}
