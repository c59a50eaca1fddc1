//go:build linux && kernel

package bpfreceiver

// No loss is silent: it is a status, and a warning that says what was lost and what to do.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// warnings returns the texts of the warnings about the receiver's health.
func (r *instance) warnings() []string {
	var texts []string
	for _, message := range []string{"unhealthy", "events were lost"} {
		for _, entry := range r.logs.FilterMessage(message).All() {
			texts = append(texts, fmt.Sprint(entry.ContextMap()["error"]))
		}
	}
	return texts
}

// status waits until the status is the last one that was reported.
func (r *instance) status(t *testing.T, want componentstatus.Status) {
	t.Helper()
	eventually(t, func() bool {
		statuses := r.host.Statuses()
		return len(statuses) > 0 && statuses[len(statuses)-1] == want
	})
}

// stuck returns a channel to wait for, and what ends the wait.
func stuck(t *testing.T) (release <-chan struct{}, goOn func()) {
	t.Helper()
	c := make(chan struct{})
	return c, sync.OnceFunc(func() { close(c) })
}

const soonForgotten = `
health: {loss_window: 2s}
`

func TestLostEventsShow(t *testing.T) {
	const n = 10_000
	release, goOn := stuck(t)
	r := start(t, configure(t, countCalls+soonForgotten), &sink{answer: func(event.Batch) error { <-release; return nil }})
	t.Cleanup(goOn)
	work(t, "calls", argument{N: n})
	r.status(t, componentstatus.StatusRecoverableError)
	eventually(t, func() bool { return len(r.warnings()) > 0 })
	assert.Contains(t, r.warnings()[len(r.warnings())-1], fmt.Sprintf("%d events of category syscall found the ring buffer full and were lost since ", n-fits))
	assert.Contains(t, r.warnings()[len(r.warnings())-1], "raise ring_buffer.size")
	goOn()
	r.status(t, componentstatus.StatusOK)
	assert.Equal(t, account{produced: n, delivered: fits, lost: n - fits}, r.stop(t))
}

func TestFullRingBufferShows(t *testing.T) {
	release, goOn := stuck(t)
	r := start(t, configure(t, countCalls), &sink{answer: func(event.Batch) error { <-release; return nil }})
	t.Cleanup(goOn)
	work(t, "calls", argument{N: fits - 10})
	r.status(t, componentstatus.StatusRecoverableError)
	eventually(t, func() bool { return len(r.warnings()) > 0 })
	assert.Contains(t, r.warnings()[0], "more than max_depth_ratio 0.9 allows")
	goOn()
	r.status(t, componentstatus.StatusOK)
	assert.Equal(t, account{produced: fits - 10, delivered: fits - 10}, r.stop(t))
}

// A loss within max_loss is no reason for another status, and is in the log all the same.
func TestToleratedLossesAreLogged(t *testing.T) {
	const n = 10_000
	release, goOn := stuck(t)
	r := start(t, configure(t, countCalls+"health: {max_loss: 1000000, max_depth_ratio: 1}"), &sink{answer: func(event.Batch) error { <-release; return nil }})
	t.Cleanup(goOn)
	work(t, "calls", argument{N: n})
	eventually(t, func() bool { return len(r.warnings()) > 0 })
	assert.Contains(t, r.warnings()[0], "events of category syscall found the ring buffer full")
	assert.Contains(t, r.warnings()[0], "max_loss 1000000 allows that")
	goOn()
	r.stop(t)
	assert.NotContains(t, r.host.Statuses(), componentstatus.StatusRecoverableError)
}

func TestRefusedEventsShow(t *testing.T) {
	const n = 300
	r := start(t, configure(t, countCalls+soonForgotten), &sink{answer: func(event.Batch) error { return consumererror.NewPermanent(errBusy) }})
	for i := range 3 {
		work(t, "calls", argument{N: n})
		eventually(t, func() bool { return r.metric(t, "refused", "")[""] == int64(i+1)*n }) // so that they are several batches
	}
	r.status(t, componentstatus.StatusRecoverableError)
	eventually(t, func() bool {
		return slices.ContainsFunc(r.warnings(), func(text string) bool {
			return strings.Contains(text, "events were refused for good by the next component")
		})
	})
	assert.Equal(t, 1, r.logs.FilterMessageSnippet("refused events for good").Len(), "not once for each batch")
	r.status(t, componentstatus.StatusOK)
	assert.Equal(t, account{produced: 3 * n, refused: 3 * n}, r.stop(t))
}

// What is lost while the receiver stops is told by nothing but its log.
func TestLossesAtShutdownAreLogged(t *testing.T) {
	const n = 10_000
	started := make(chan struct{}, 1)
	release, goOn := stuck(t)
	r := start(t, configure(t, countCalls), &sink{answer: func(event.Batch) error {
		select {
		case started <- struct{}{}:
		default:
		}
		<-release
		return consumererror.NewPermanent(errors.New("too late"))
	}})
	t.Cleanup(goOn)
	work(t, "calls", argument{N: 100})
	<-started
	work(t, "calls", argument{N: n})
	eventually(t, func() bool { return len(r.warnings()) > 0 }) // of what the ring buffer has lost
	var stopping sync.WaitGroup
	stopping.Go(func() {
		<-r.drain.stopped
		goOn()
	})
	r.stop(t)
	stopping.Wait()
	texts := r.warnings()
	require.NotEmpty(t, texts)
	assert.Contains(t, texts[len(texts)-1], "events were refused for good by the next component")
}

// What was lost while no process read the ring buffer is said at the next start.
func TestLossesBeforeTheStartAreLogged(t *testing.T) {
	const n = 10_000
	config := configure(t, countCalls+"keep_on_shutdown: true\npin_path: "+pinPath(t))
	first := start(t, config, &sink{})
	first.stop(t)
	work(t, "calls", argument{N: n})
	config.KeepOnShutdown = false
	second := start(t, config, &sink{})
	eventually(t, func() bool { return second.sink.len() == fits })
	warning := second.logs.FilterMessageSnippet("Events were lost before this start").All()
	require.Len(t, warning, 1)
	assert.EqualValues(t, n-fits, warning[0].ContextMap()["syscall"])
	second.stop(t)
}
