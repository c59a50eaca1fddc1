package health

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kernelpipe/kernelpipe/internal/statustest"
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

// watching runs a Watch of a check that returns what set was called with. Stop ends it.
func watching(h *statustest.Host) (set func(error), pass func(time.Duration), stop func(), logs *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
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
	set = func(to error) {
		mutex.Lock()
		defer mutex.Unlock()
		err = to
	}
	pass = func(d time.Duration) {
		time.Sleep(d)
		synctest.Wait()
	}
	stop = func() {
		close(ended)
		<-done
	}
	return set, pass, stop, logs
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &statustest.Host{}
		set, pass, stop, logs := watching(h)
		pass(10*Interval + time.Millisecond)
		assert.Empty(t, h.Statuses())
		set(errors.New("3 events were dropped"))
		pass(150 * time.Second)
		assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError}, h.Statuses())
		assert.EqualError(t, h.Events()[0].Err(), "receiver/x: 3 events were dropped")
		assert.Equal(t, 3, logs.FilterMessage("unhealthy").Len(), "at once, and each minute")
		set(nil)
		pass(Interval)
		assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}, h.Statuses())
		assert.Equal(t, 1, logs.FilterMessage("healthy again").Len())
		dropped := Tolerated(errors.New("1 event was dropped"))
		set(dropped)
		pass(Interval)
		assert.Len(t, h.Events(), 2)
		assert.Equal(t, 1, logs.FilterMessage("events were lost").Len(), "a loss that may be is logged")
		set(errors.Join(dropped, errors.New("2 overflowed")))
		pass(5 * Interval)
		assert.EqualError(t, h.Events()[2].Err(), "receiver/x: 2 overflowed", "the status leaves out what is tolerated")
		assert.Equal(t, 4, logs.FilterMessage("unhealthy").Len(), "another loss is logged at once")
		set(errors.New("lost at the end"))
		stop()
		assert.Len(t, h.Events(), 3)
		last := logs.All()[logs.Len()-1]
		assert.Equal(t, "unhealthy", last.Message)
		assert.Equal(t, "lost at the end", last.ContextMap()["error"])
	})
}

// A warning comes at once for what was not warned about within the last minute, and only for that.
func TestWatchWarnsOncePerKind(t *testing.T) {
	var dropped, overflowed uint64
	var depth Depth
	var refused Recent
	fill := uint64(0)
	for name, test := range map[string]struct {
		change func(second int, now time.Time)
		want   map[int]string // the warnings, by the second in which they come
	}{
		"a tolerated loss grows serious": {func(second int, _ time.Time) {
			switch second {
			case 1:
				dropped += 3
			case 5:
				dropped += 3
			}
		}, map[int]string{1: "events were lost", 5: "unhealthy"}},
		"a serious loss falls to a tolerated one": {func(second int, _ time.Time) {
			switch second {
			case 1:
				dropped += 6
			case 15:
				dropped += 2
			}
		}, map[int]string{1: "unhealthy"}},
		"one kind of loss takes the place of another": {func(second int, _ time.Time) {
			switch second {
			case 1:
				dropped += 6
			case 21:
				overflowed += 6
			}
		}, map[int]string{1: "unhealthy", 21: "unhealthy"}},
		"a queue that is full now and then beside a lasting loss": {func(second int, _ time.Time) {
			dropped += 6
			fill = 0
			if second%10 > 5 {
				fill = 100
			}
		}, map[int]string{1: "unhealthy", 7: "unhealthy", 67: "unhealthy"}},
		"a queue that is full now and then, alone": {func(second int, _ time.Time) {
			fill = 0
			if second == 8 || second == 9 || second == 28 || second == 29 {
				fill = 100
			}
		}, map[int]string{9: "unhealthy", 29: "unhealthy"}},
		"an error whose text changes": {func(second int, now time.Time) {
			if second <= 70 {
				refused.Note(now, fmt.Errorf("refused: %d", second))
			}
		}, map[int]string{1: "unhealthy", 61: "unhealthy"}},
	} {
		t.Run(name, func(t *testing.T) {
			dropped, overflowed, fill, depth, refused = 0, 0, 0, Depth{}, Recent{}
			losses := NewLosses(Config{MaxLoss: 5, LossWindow: 20 * time.Second},
				Counter{Lost: "were dropped", Read: func() uint64 { return dropped }},
				Counter{Lost: "overflowed", Read: func() uint64 { return overflowed }})
			core, logs := observer.New(zap.InfoLevel)
			h := &statustest.Host{}
			w := newWatch(h, zap.New(core), "x")
			start := time.Unix(1_000_000, 0)
			got := map[int]string{}
			for second := range 100 {
				now := start.Add(time.Duration(second) * time.Second)
				if second > 0 {
					test.change(second, now)
				}
				failing := len(h.Events())
				w.look(now, errors.Join(depth.Check(fill, 100, 0.9, "wait in"), losses.Check(now), refused.Check(now)))
				for _, entry := range logs.TakeAll() {
					if entry.Level == zap.WarnLevel {
						require.Empty(t, got[second])
						got[second] = entry.Message
					}
				}
				if events := h.Events(); len(events) > failing && events[failing].Status() != componentstatus.StatusOK {
					assert.Equal(t, "unhealthy", got[second], "the log says why the status is another")
				}
			}
			assert.Equal(t, test.want, got)
		})
	}
}
