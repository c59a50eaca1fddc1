package health

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestValidate(t *testing.T) {
	config := NewConfig()
	require.NoError(t, config.Validate())
	config = Config{MaxLoss: -1, LossWindow: time.Millisecond}
	assert.EqualError(t, config.Validate(), "max_loss is -1, must not be negative: use 9223372036854775807 where losses are no reason for concern\n"+
		"loss_window is 1ms, must be at least 1s")
}

func TestLosses(t *testing.T) {
	start := time.Unix(1_000_000, 0).UTC()
	dropped, overflowed := uint64(100), uint64(0)
	l := NewLosses(Config{MaxLoss: 5, LossWindow: time.Minute},
		Counter{Lost: "were dropped", Read: func() uint64 { return dropped }},
		Counter{Lost: "overflowed", Remedy: "raise the limit", Read: func() uint64 { return overflowed }})
	for _, step := range []struct {
		after               time.Duration
		dropped, overflowed uint64
		want, tolerated     string // nothing: healthy
	}{
		{after: 0, dropped: 100},
		{after: time.Second, dropped: 105, tolerated: "5 events were dropped since 1970-01-12T13:46:41Z; max_loss 5 allows that within 1m0s"},
		{after: 2 * time.Second, dropped: 105, overflowed: 1, want: "5 events were dropped since 1970-01-12T13:46:41Z, more than max_loss 5 allows within 1m0s\n" +
			"1 events overflowed since 1970-01-12T13:46:42Z, more than max_loss 5 allows within 1m0s: raise the limit"},
		{after: 30 * time.Second, dropped: 104, overflowed: 1, want: "5 events were dropped since 1970-01-12T13:46:41Z, more than max_loss 5 allows within 1m0s\n" +
			"1 events overflowed since 1970-01-12T13:46:42Z, more than max_loss 5 allows within 1m0s: raise the limit"},
		{after: 61 * time.Second, dropped: 105, overflowed: 1, tolerated: "1 events overflowed since 1970-01-12T13:46:42Z; max_loss 5 allows that within 1m0s: raise the limit"},
		{after: 61 * time.Second, dropped: 105, overflowed: 7, want: "7 events overflowed since 1970-01-12T13:46:42Z, more than max_loss 5 allows within 1m0s: raise the limit"},
		{after: 62 * time.Second, dropped: 105, overflowed: 7, want: "6 events overflowed since 1970-01-12T13:47:41Z, more than max_loss 5 allows within 1m0s: raise the limit"},
		{after: time.Hour, dropped: 105, overflowed: 7},
	} {
		dropped, overflowed = step.dropped, step.overflowed
		err := l.Check(start.Add(step.after))
		if want := step.want + step.tolerated; want == "" {
			assert.NoError(t, err, step.after)
		} else {
			assert.EqualError(t, err, want, step.after)
		}
		assert.Equal(t, step.want != "", Serious(err) != nil, step.after)
	}
}

// What is always tolerated does not count for the rest.
func TestToleratedLosses(t *testing.T) {
	var dropped, skipped uint64
	l := NewLosses(Config{MaxLoss: 1, LossWindow: time.Minute},
		Counter{Lost: "were dropped", Read: func() uint64 { return dropped }},
		Counter{Unit: "calls", Lost: "were skipped", Tolerated: true, Read: func() uint64 { return skipped }})
	skipped = 1000
	start := time.Unix(1_000_000, 0).UTC()
	err := l.Check(start)
	require.EqualError(t, err, "1000 calls were skipped since 1970-01-12T13:46:40Z within 1m0s")
	require.NoError(t, Serious(err))
	dropped = 2
	err = l.Check(start)
	require.EqualError(t, Serious(err), "2 events were dropped since 1970-01-12T13:46:40Z, more than max_loss 1 allows within 1m0s")
	assert.Equal(t, 2, count(err))
	assert.Equal(t, 1, count(Serious(err)))
}

func TestDepth(t *testing.T) {
	var d Depth
	for i, step := range []struct {
		used uint64
		want string
	}{{90, ""}, {91, ""}, {91, "91 events wait in 100, more than max_depth_ratio 0.9 allows: they are taken out too slowly"}, {90, ""}, {100, ""}} {
		err := d.Check(step.used, 100, 0.9, "events wait in")
		if step.want == "" {
			assert.NoError(t, err, i)
		} else {
			assert.EqualError(t, err, step.want, i)
		}
	}
}

func TestLimit(t *testing.T) {
	var l Limit
	now := time.Unix(1_000_000, 0)
	assert.EqualValues(t, 3, l.Add(now, 3))
	assert.Zero(t, l.Add(now.Add(limitInterval-1), 4))
	assert.EqualValues(t, 9, l.Add(now.Add(limitInterval), 5))
}

// However long the window is and however often something is lost, few losses are remembered one by one.
func TestLossesAreBounded(t *testing.T) {
	var lost uint64
	l := NewLosses(Config{LossWindow: 24 * time.Hour}, Counter{Lost: "were dropped", Read: func() uint64 { return lost }})
	now := time.Unix(1_000_000, 0)
	for range 48 * 3600 {
		now = now.Add(time.Second)
		lost++
		require.Error(t, l.Check(now))
		require.LessOrEqual(t, len(l.counters[0].recent), maxLosses)
	}
	var remembered uint64
	for _, loss := range l.counters[0].recent {
		remembered += loss.events
	}
	assert.InDelta(t, 24*3600, remembered, 24*3600/maxLosses)
}

// host takes note of the statuses that are reported to it.
type host struct {
	statuses []componentstatus.Status
	errs     []string
}

func (*host) GetExtensions() map[component.ID]component.Component { return nil }

func (h *host) Report(event *componentstatus.Event) {
	h.statuses = append(h.statuses, event.Status())
	if event.Err() != nil {
		h.errs = append(h.errs, event.Err().Error())
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		h := &host{}
		var mutex sync.Mutex
		var err error // of the check
		ended, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			Watch(ended, h, zap.New(core), "receiver/x", func(time.Time) error {
				mutex.Lock()
				defer mutex.Unlock()
				return err
			})
		}()
		set := func(to error) {
			mutex.Lock()
			defer mutex.Unlock()
			err = to
		}
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		pass(10*Interval + time.Millisecond)
		assert.Empty(t, h.statuses)
		set(errors.New("3 events were dropped"))
		pass(150 * time.Second)
		assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError}, h.statuses)
		assert.Equal(t, []string{"receiver/x: 3 events were dropped"}, h.errs)
		assert.Equal(t, 3, logs.FilterMessage("unhealthy").Len(), "at once, and each minute")
		set(nil)
		pass(Interval)
		assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}, h.statuses)
		assert.Equal(t, 1, logs.FilterMessage("healthy again").Len())
		dropped := Tolerated(errors.New("1 event was dropped"))
		set(dropped)
		pass(Interval)
		assert.Len(t, h.statuses, 2)
		assert.Equal(t, 1, logs.FilterMessage("events were lost").Len(), "a loss that may be is logged")
		set(errors.Join(dropped, errors.New("2 overflowed")))
		pass(5 * Interval)
		assert.Equal(t, "receiver/x: 2 overflowed", h.errs[1], "the status leaves out what is tolerated")
		assert.Equal(t, 4, logs.FilterMessage("unhealthy").Len(), "another loss is logged at once")
		set(errors.New("lost at the end"))
		close(ended)
		<-done
		assert.Len(t, h.statuses, 3)
		last := logs.All()[logs.Len()-1]
		assert.Equal(t, "unhealthy", last.Message)
		assert.Equal(t, "lost at the end", last.ContextMap()["error"])
	})
}
