package bpfaggregateconnector

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// exportDelta ends the current generation of series and sends it. One that could not be sent stays as it is,
// times and all, and is sent first the next time, also by the next process: a backend that has it already
// sees a duplicate and not more events.
func (x *exporter) exportDelta(ctx context.Context) error {
	if generation, ok := x.stats.Frozen(); ok {
		if err := x.sendGeneration(ctx, generation, false); err != nil {
			return err
		}
	}
	now := x.now()
	boot := event.Clock{}.Now()
	x.mutex.Lock()
	x.stats.Freeze(now)
	x.aggregator.begin(x.stats.Current().Number)
	x.mutex.Unlock()
	x.begin(now)
	generation, _ := x.stats.Frozen()
	if err := x.sendGeneration(ctx, generation, true); err != nil {
		return err
	}
	return x.expire(boot)
}

// sendGeneration sends the frozen generation and removes it. ended says that it has ended with this interval.
func (x *exporter) sendGeneration(ctx context.Context, generation bpf.Generation, ended bool) error {
	p := x.newPoints(generation.End)
	current := x.stats.Current().Number
	var frozen []bpf.Move
	var done []bpf.SeriesID
	err := x.each(func(v *viewExport, id bpf.SeriesID, entry *bpf.Entry) {
		switch id.Generation {
		case current:
		case generation.Number:
			frozen = append(frozen, bpf.Move{From: id, Series: entry.Series})
			done = append(done, id)
			p.addTotals(v.registry.view, entry, generation.Start)
			if ended && v.history != nil {
				v.history.observe(id, entry)
			}
		default: // delivered by a process that was killed before it could remove it
			done = append(done, id)
		}
	})
	if ended {
		x.restart()
	}
	if err != nil {
		return err
	}
	if err := x.send(ctx, p); err != nil {
		if consumererror.IsPermanent(err) { // these points are not to be sent again, what they count is
			return errors.Join(err, x.thaw(generation.Number, frozen))
		}
		return err
	}
	x.stats.Delivered()
	return x.retire(done)
}

// restart has the histories know that the series of the current generation began at 0.
func (x *exporter) restart() {
	for _, v := range x.views {
		if v != nil && v.history != nil {
			v.history.restart()
		}
	}
}

// skip has the histories know that what a generation has was gained before.
func (x *exporter) skip(generation uint32) error {
	return x.each(func(v *viewExport, id bpf.SeriesID, entry *bpf.Entry) {
		if id.Generation == generation && v.history != nil {
			v.history.skip(id, entry)
		}
	})
}

// thaw adds the frozen generation to the current one.
func (x *exporter) thaw(generation uint32, frozen []bpf.Move) error {
	if err := x.skip(generation); err != nil {
		return err
	}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	return thaw(x.stats, frozen)
}

// thaw moves the series of the frozen generation to the current one. What a kill leaves frozen has its own times still.
func thaw(stats *bpf.Stats, frozen []bpf.Move) error {
	current := stats.Current()
	for i := range frozen {
		frozen[i].To = bpf.SeriesID{Number: frozen[i].From.Number, Generation: current.Number}
	}
	if err := stats.Move(frozen, current.Start); err != nil {
		return err
	}
	stats.Thaw()
	return nil
}
