package stage

import (
	"fmt"
	"regexp"
)

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ValidateQueueName accepts what is the name of a queue between two processes.
func ValidateQueueName(name string) error {
	if !queueName.MatchString(name) {
		return fmt.Errorf("name is %q, must be 1 to 64 letters, digits, _ and -, such as handoff", name)
	}
	return nil
}

// QueueComponent returns under which component's name a queue between two processes is pinned.
func QueueComponent(name string) string { return "queue/" + name }

// The names of a stage's queues in its directory.
const (
	Queue           = "queue"
	DeadLetterQueue = "dead_letter"
)
