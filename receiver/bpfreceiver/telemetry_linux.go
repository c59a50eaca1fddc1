package bpfreceiver

import (
	"context"

	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/clamp"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/receiver/bpfreceiver/internal/metadata"
)

// The attributes of the telemetry; metadata.yaml.
const (
	attributeReceiver = "receiver"
	attributeCategory = "category"
	attributeCause    = "cause"
)

// books reads the kernel's books whenever someone collects the Collector's own telemetry.
type books struct {
	probes   *bpf.Probes
	receiver attribute.KeyValue
}

// observe registers the books with the builder, until its Shutdown.
func observe(builder *metadata.TelemetryBuilder, dir *bpf.Directory, probes *bpf.Probes, settings receiver.Settings) error {
	b := books{probes: probes, receiver: attribute.String(attributeReceiver, settings.ID.String())}
	for _, registration := range []struct {
		register func(metric.Int64Callback) error
		callback metric.Int64Callback
	}{
		{builder.RegisterKernelpipeReceiverProducedCallback, b.byCategory(func(c bpf.Counts) uint64 { return c.Produced })},
		{builder.RegisterKernelpipeReceiverLostCallback, b.byCategory(func(c bpf.Counts) uint64 { return c.Lost })},
		{builder.RegisterKernelpipeReceiverUntimedCallback, b.byCategory(func(c bpf.Counts) uint64 { return c.Untimed })},
		{builder.RegisterKernelpipeReceiverMissedCallback, b.missed},
		{builder.RegisterKernelpipeReceiverDeliveredCallback, b.value(func() (uint64, error) { return probes.RingBooks().Delivered, nil })},
		{builder.RegisterKernelpipeReceiverRefusedCallback, b.value(func() (uint64, error) { return probes.RingBooks().Refused, nil })},
		{builder.RegisterKernelpipeReceiverRedeliveredCallback, b.value(func() (uint64, error) { return probes.RingBooks().Redelivered, nil })},
		{builder.RegisterKernelpipeReceiverForeignCallback, b.value(func() (uint64, error) { return probes.RingBooks().Foreign, nil })},
		{builder.RegisterKernelpipeReceiverSimulatedCallback, b.value(probes.Simulated)},
		{builder.RegisterKernelpipeReceiverRingBufferUsageCallback, b.value(func() (uint64, error) { used, _, _ := probes.RingUse(); return used, nil })},
		{builder.RegisterKernelpipeReceiverRingBufferSizeCallback, b.value(func() (uint64, error) { _, _, size := probes.RingUse(); return size, nil })},
		{builder.RegisterKernelpipeReceiverPinsRemovedCallback, b.value(func() (uint64, error) {
			if checkPins(dir, probes) != nil {
				return 1, nil
			}
			return 0, nil
		})},
		{builder.RegisterKernelpipeReceiverMemoryCallback, b.value(func() (uint64, error) { return probes.Memory(), nil })},
	} {
		if err := registration.register(registration.callback); err != nil {
			return err
		}
	}
	return nil
}

func (b *books) with(more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(more, b.receiver)...))
}

func (b *books) value(read func() (uint64, error)) metric.Int64Callback {
	attributes := b.with()
	return func(_ context.Context, to metric.Int64Observer) error {
		value, err := read()
		if err == nil {
			to.Observe(clamp.Int64(value), attributes)
		}
		return err
	}
}

func (b *books) byCategory(pick func(bpf.Counts) uint64) metric.Int64Callback {
	return func(_ context.Context, to metric.Int64Observer) error {
		counts, err := b.probes.Counts()
		if err != nil {
			return err
		}
		for _, category := range event.Categories() {
			to.Observe(clamp.Int64(pick(counts[category])), b.with(attribute.String(attributeCategory, category.String())))
		}
		return nil
	}
}

func (b *books) missed(_ context.Context, to metric.Int64Observer) error {
	all, err := b.probes.Missed()
	if err != nil {
		return err
	}
	for _, m := range missed {
		to.Observe(clamp.Int64(m.of(&all)), b.with(attribute.String(attributeCause, m.cause)))
	}
	return nil
}
