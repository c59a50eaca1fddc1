package bpfaggregateconnector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/multierr"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// exportDelta seals the current interval and sends it, after one that was sealed before and is not delivered. A sealed
// interval never changes. It is sent until somebody answers for it, also by the next process and whatever its
// configuration is: a backend that has it already gets the same points once more, and not other ones that count the
// same events.
func (x *exporter) exportDelta(ctx context.Context) error {
	if err := x.deliver(ctx, false); err != nil {
		return err
	}
	now := x.now()
	boot := event.Clock{}.Now()
	if err := x.seal(now); err != nil {
		return err
	}
	if err := x.deliver(ctx, true); err != nil {
		return err
	}
	return x.expire(boot)
}

// adopt finds what the sealed interval of an earlier process is delivered with.
func (x *exporter) adopt() (err error) {
	if _, ok := x.stats.Sealed(); !ok {
		return nil
	}
	if x.sealed, err = decodeOrigin(x.stats.Description()); err != nil {
		return x.giveUp(fmt.Errorf("the pinned description of the interval can't be read: %w", err))
	}
	return nil
}

func (x *exporter) seal(now time.Time) error {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if err := x.stats.Seal(now, x.encoded); err != nil {
		return err
	}
	x.aggregator.begin(x.stats.Current().Number)
	x.sealed = x.own
	x.begin(now)
	return nil
}

// deliver sends the sealed interval, if there is one, and removes it. ended says that it has just ended.
func (x *exporter) deliver(ctx context.Context, ended bool) error {
	interval, ok := x.stats.Sealed()
	if !ok {
		return nil
	}
	if interval.Refused {
		return x.giveUp(errors.New("they were refused before, and could not be removed"))
	}
	p := newPoints(pmetric.AggregationTemporalityDelta, x.sealed, interval.End)
	var series []bpf.SeriesID
	err := x.each(func(id bpf.SeriesID, entry *bpf.Entry) {
		if id.Generation > interval.Number {
			return
		}
		series = append(series, id)
		if id.Generation < interval.Number { // it is delivered, and could not be removed then
			return
		}
		if v := x.sealed.view(entry.Series.View); v != nil {
			p.addTotals(v, entry, interval.Start)
		}
		if v := x.view(entry); ended && v != nil && v.history != nil {
			v.history.observe(id, entry)
		}
	})
	if ended {
		x.restart()
	}
	if err != nil {
		return err
	}
	if x.sealed == x.own { // of an interval before its time a process knows no rates
		x.addGauges(p)
	}
	switch err = x.send(ctx, p); {
	case err == nil:
		x.stats.Delivered()
		return x.retire(series)
	case refusedForGood(err):
		return errors.Join(err, x.giveUp(err))
	default:
		return err
	}
}

// notOfPoints is the answers to a request that say nothing about its points: who sends them, and where to, is wrong
// (401, 403 and 404 in HTTP). Once that is put right the same request is accepted, although the exporters say that it
// never will be.
var notOfPoints = map[codes.Code]bool{codes.Unauthenticated: true, codes.PermissionDenied: true, codes.Unimplemented: true}

// refusedForGood reports whether an error of the metrics pipeline says that nobody will ever accept these points. It
// may be joined of the errors of several exporters: as long as one of them may yet accept, it is to get them again.
func refusedForGood(err error) bool {
	for _, err := range multierr.Errors(err) {
		if answer, ok := status.FromError(err); !consumererror.IsPermanent(err) || ok && notOfPoints[answer.Code()] {
			return false
		}
	}
	return true
}

// giveUp removes the sealed interval, which was refused for good, and counts it as uncertain: the backend may have it.
// The refusal may have been the answer to another attempt than the one that was stored, by this or an earlier process
// or by an exporter that tries again by itself; it may be of one exporter of several; and the OTLP exporters say
// "permanent" of an acceptance that they can't read, too. So none of it may be in other points.
func (x *exporter) giveUp(cause error) error {
	var before [bpf.MaxViews]bpf.ViewBooks
	for number := range before {
		before[number] = x.stats.ViewBooks(uint16(number))
	}
	x.mutex.Lock()
	err := x.stats.RetireRefused()
	x.mutex.Unlock()
	for number, name := range x.stats.ViewNames() {
		books := x.stats.ViewBooks(uint16(number))
		if events := books.UncertainEvents - before[number].UncertainEvents; events > 0 {
			x.logger.Warn("deltas are given up: they are not sent again, and it is not known whether the backend has them",
				zap.String("metrics", name), zap.Uint64("events", events),
				zap.Uint64("bytes", books.UncertainBytes-before[number].UncertainBytes), zap.Error(cause))
		}
	}
	if err != nil {
		return fmt.Errorf("remove what was refused: %w", err)
	}
	return nil
}

// restart has the histories know that the series of the current interval began at 0.
func (x *exporter) restart() {
	for _, v := range x.views {
		if v != nil && v.history != nil {
			v.history.restart()
		}
	}
}

// skip has the histories know that what the current interval has was gained before.
func (x *exporter) skip() error {
	current := x.stats.Current().Number
	return x.each(func(id bpf.SeriesID, entry *bpf.Entry) {
		if v := x.view(entry); id.Generation == current && v != nil && v.history != nil {
			v.history.skip(id, entry)
		}
	})
}
