package bpfreceiver

import (
	"errors"
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/confmap"

	"github.com/kernelpipe/kernelpipe/internal/stage"
)

// QueueConfig is the `queue` block: a pinned queue of another component, whose events the receiver delivers. The
// component may belong to another Collector on this host, and need not run.
type QueueConfig struct {
	// Name is that of an exporter bpf_queue.
	Name string `mapstructure:"name"`
	// DeadLetterOf is the component whose dead letters are delivered: its kind and id, such as processor/bpf_filter.
	DeadLetterOf string `mapstructure:"dead_letter_of"`
	// Peek delivers copies of what waits longest, once and at most 1,024 of each lane, and leaves all in the queue.
	Peek bool `mapstructure:"peek"`
	// DeadLetter is the receiver's own queue, of what the next component refuses for good.
	DeadLetter stage.DeadLetterConfig `mapstructure:"dead_letter"`
	// Retry is how deliveries that fail are tried again.
	Retry configretry.BackOffConfig `mapstructure:"retry_on_failure"`
}

func newQueueConfig() QueueConfig {
	return QueueConfig{DeadLetter: stage.NewDeadLetterConfig(), Retry: stage.NewRetryConfig()}
}

// Unmarshal refuses unknown names with the valid ones.
func (c *QueueConfig) Unmarshal(conf *confmap.Conf) error {
	if err := checkKeys(conf, "name", "dead_letter_of", "peek", "dead_letter", "retry_on_failure"); err != nil {
		return err
	}
	return conf.Unmarshal(c)
}

// Validate reports what is wrong beyond that which the blocks report themselves.
func (c *QueueConfig) Validate() error {
	var which error
	switch {
	case c.Name == "" && c.DeadLetterOf == "":
		which = errors.New("it does not say which: set name to that of an exporter bpf_queue, or dead_letter_of to a component such as processor/bpf_filter")
	case c.Name != "" && c.DeadLetterOf != "":
		which = errors.New("name and dead_letter_of are both set, and a receiver drains one queue: remove one of them, or use a second receiver")
	case c.Name != "":
		which = stage.ValidateQueueName(c.Name)
	default:
		which = validateOwner(c.DeadLetterOf)
	}
	return errors.Join(which, stage.ValidateRetry(c.Retry))
}

// validateOwner accepts a component of a kind that has dead letters.
func validateOwner(owner string) error {
	kind, text, _ := strings.Cut(owner, "/")
	var id component.ID
	if err := id.UnmarshalText([]byte(text)); err != nil || kind != "processor" && kind != "receiver" {
		return fmt.Errorf("dead_letter_of is %q, must be the kind and the id of a component that has dead letters: processor/bpf_filter, receiver/bpf/replay and the like", owner)
	}
	return nil
}
