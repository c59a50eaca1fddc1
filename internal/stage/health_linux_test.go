package stage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

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
