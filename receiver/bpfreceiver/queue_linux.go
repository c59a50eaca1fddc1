package bpfreceiver

import (
	"errors"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/kernelpipe/kernelpipe/internal/stage"
)

var errOwnDeadLetters = errors.New("queue: dead_letter_of is this receiver itself, so what is refused would go round for ever: use another receiver, such as bpf/replay")

// drained returns the owner and the name of the queue.
func (c *QueueConfig) drained() (owner, queue string) {
	if c.Name != "" {
		return stage.QueueComponent(c.Name), stage.Queue
	}
	return c.DeadLetterOf, stage.DeadLetterQueue
}

// pinName is under what the receiver's state is pinned.
func pinName(settings receiver.Settings) string { return "receiver/" + settings.ID.String() }

// newQueue makes the drain of the queue that config names. It touches nothing before its Start.
func newQueue(config *Config, settings receiver.Settings, next consumer.Logs) *stage.Drain {
	queue := config.Queue.Get()
	owner, which := queue.drained()
	return stage.NewDrain(stage.DrainSettings{
		Name: pinName(settings), Telemetry: settings.TelemetrySettings, PinPath: config.PinPath, Owner: owner, Queue: which,
		Peek: queue.Peek, DeadLetter: queue.DeadLetter, Health: config.Health, Retry: queue.Retry, Encoding: config.Encoding, Next: next,
	})
}
