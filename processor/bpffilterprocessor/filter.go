package bpffilterprocessor

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

var errEnriched = errors.New("events that bpf_enrich has been at do not fit the queue of bpf_filter: " +
	"put bpf_filter before bpf_enrich in the pipeline's processors")

// filter is a compiled Config: the work on one event. It does not change.
type filter struct {
	rules []rule
	drop  []match.Matcher
}

type rule struct {
	match    match.Matcher
	priority event.Priority
}

func newFilter(config *Config) (*filter, error) {
	f := &filter{}
	for i := range config.Priority {
		matcher, err := config.Priority[i].Match.Compile()
		if err != nil {
			return nil, fmt.Errorf("priority: entry %d: %w", i, err)
		}
		priority, err := event.ParsePriority(config.Priority[i].Set)
		if err != nil {
			return nil, fmt.Errorf("priority: entry %d: %w", i, err)
		}
		f.rules = append(f.rules, rule{matcher, priority})
	}
	for i := range config.Drop {
		matcher, err := config.Drop[i].Compile()
		if err != nil {
			return nil, fmt.Errorf("drop: entry %d: %w", i, err)
		}
		f.drop = append(f.drop, matcher)
	}
	return f, nil
}

// check refuses events that would not fit the queue. Nobody can shorten them without losing what is in them.
func check(batch event.Batch) error {
	if batch.Enriched() {
		return consumererror.NewPermanent(errEnriched)
	}
	return nil
}

// work is a stage.Work: the copy in out gets its priority, and its drop is decided upon with that.
func (f *filter) work(batch event.Batch, i int, out []byte) bool {
	e := event.Batch{Size: event.Size, Data: out}.At(0)
	*e = *batch.At(i)
	e.Priority = f.priority(e)
	for i := range f.drop {
		if f.drop[i].Match(e) {
			return false
		}
	}
	return true
}

// priority: a rule decides over all events, the category over those whose priority no filter has set before.
func (f *filter) priority(e *event.Event) event.Priority {
	for i := range f.rules {
		if f.rules[i].match.Match(e) {
			return f.rules[i].priority
		}
	}
	if e.Priority == event.PriorityUnset {
		return e.Category.Priority()
	}
	return e.Priority
}
