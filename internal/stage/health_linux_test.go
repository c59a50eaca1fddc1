package stage

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/health"
)

func TestHealth(t *testing.T) {
	start := time.Now()
	var books Books
	j := newJudge(HealthConfig{MaxDepthRatio: 0.9, MaxLoss: 5, LossWindow: time.Minute}, &books)
	for _, step := range []struct {
		after time.Duration
		books Books
		want  string // nothing: healthy
	}{
		{0, Books{}, ""},
		{1 * time.Second, Books{Queued: 90}, ""},
		{2 * time.Second, Books{Queued: 91}, ""}, // a burst
		{2 * time.Second, Books{Queued: 91}, "91 events wait in a queue for 100"},
		{3 * time.Second, Books{Queued: 10}, ""},
		{10 * time.Second, Books{DroppedNewest: 3, DeadLettered: 2}, ""},
		{20 * time.Second, Books{DroppedNewest: 3, DeadLettered: 3}, "3 events were refused for good by the next component and went to the dead letter since"},
		{69 * time.Second, Books{DroppedNewest: 3, DeadLettered: 3}, "3 events found the queue full and were dropped (drop_newest) since"},
		{70 * time.Second, Books{DroppedNewest: 3, DeadLettered: 3}, ""}, // the first five are forgotten
		{75 * time.Second, Books{DroppedNewest: 3, DeadLettered: 3, DroppedOldest: 4, DroppedLowPriority: 2}, "4 events waited longest in a full queue and were dropped (drop_oldest) since"},
		{80 * time.Second, Books{DroppedNewest: 3, DeadLettered: 3, DroppedOldest: 4, DroppedLowPriority: 2}, "2 events found no room in the queue for their priority and were dropped (drop_low_priority) since"},
		{200 * time.Second, Books{DroppedNewest: 3, DeadLettered: 3, DroppedOldest: 4, DroppedLowPriority: 2}, ""},
	} {
		books = step.books
		err := j.check(start.Add(step.after), 100)
		if step.want == "" {
			assert.NoError(t, health.Serious(err), step.after)
		} else {
			assert.ErrorContains(t, err, step.want, step.after)
		}
	}
}

// Each number in the books is a loss that is logged and judged, or is known to be none.
func TestEachLossIsJudged(t *testing.T) {
	harmless := map[string]bool{
		"Received": true, "Delivered": true, "Filtered": true, "Queued": true, "InFlight": true, "Redelivered": true,
	}
	var books Books
	for i, field := range fieldsOf(&books) {
		if name := reflect.TypeFor[Books]().Field(i).Name; !harmless[name] {
			j := newJudge(NewHealthConfig(), &books)
			field.SetUint(7)
			assert.ErrorContains(t, j.check(time.Now(), 100), "7 events ", name)
			field.SetUint(0)
		}
	}
	harmless["DeadLettered"] = true // of the queue that is drained: they wait in another
	var queue bpf.QueueBooks
	for i, field := range fieldsOf(&queue) {
		if name := reflect.TypeFor[bpf.QueueBooks]().Field(i).Name; !harmless[name] {
			losses := health.NewLosses(health.NewConfig(), queueLosses(func(of func(*bpf.QueueBooks) uint64) func() uint64 {
				return func() uint64 { return of(&queue) }
			})...)
			field.SetUint(7)
			assert.ErrorContains(t, losses.Check(time.Now()), "7 events ", name)
			field.SetUint(0)
		}
	}
}

func fieldsOf(pointer any) (fields []reflect.Value) {
	of := reflect.ValueOf(pointer).Elem()
	for i := range of.NumField() {
		fields = append(fields, of.Field(i))
	}
	return fields
}
