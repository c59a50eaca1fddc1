package bpfenrichprocessor

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/metadata"
)

// The values of the attributes kind and reason.
var (
	kindNames   = [kinds]string{kindProcess: "process", kindCgroup: "cgroup", kindUser: "user"}
	reasonNames = [reasons]string{notFound: "not_found", timedOut: "timeout", denied: "denied", unknown: "unknown"}
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
