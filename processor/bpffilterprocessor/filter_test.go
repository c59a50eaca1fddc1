package bpffilterprocessor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

// newEvent returns a write of a service by default.
func newEvent(change func(*event.Event)) event.Event {
	e := event.Event{Version: event.Version, Category: event.CategoryFilesystem, Operation: event.FilesystemWrite, Time: 7, Bytes: 100, Result: 100}
	e.Process.TGID = 1000
	e.SetName("log")
	copy(e.Process.Comm[:], "service")
	change(&e)
	return e
}

func batchOf(events ...event.Event) event.Batch {
	return event.Batch{Size: event.Size, Data: event.Bytes(events)}
}

func TestFilter(t *testing.T) {
	asItIs := func(*event.Event) {}
	of := func(category event.Category) func(*event.Event) {
		return func(e *event.Event) { e.Category, e.Operation = category, 1 }
	}
	early := func(e *event.Event) { e.Process.TGID = 99 }
	rules := createDefaultConfig().(*Config)
	rules.Priority = []PriorityRule{
		{Match: match.Config{Command: []string{"service"}, Category: []string{"filesystem"}}, Set: "high"},
		{Match: match.Config{Command: []string{"service"}}, Set: "low"},
	}
	lastRule := createDefaultConfig().(*Config)
	lastRule.Priority = []PriorityRule{{Match: match.Config{Priority: []string{"low"}}, Set: "medium"}, {Set: "low"}}
	noDrop := createDefaultConfig().(*Config)
	noDrop.Drop = nil
	drops := createDefaultConfig().(*Config)
	drops.Drop = []match.Config{{Category: []string{"network"}}, {ErrorsOnly: true}}

	for _, test := range []struct {
		name     string
		config   *Config
		change   func(*event.Event)
		priority event.Priority
		kept     bool
	}{
		{"process", nil, of(event.CategoryProcess), event.PriorityHigh, true},
		{"network", nil, of(event.CategoryNetwork), event.PriorityMedium, true},
		{"filesystem", nil, asItIs, event.PriorityLow, true},
		{"syscall", nil, of(event.CategorySyscall), event.PriorityLow, true},
		{"low of an early process", nil, early, event.PriorityLow, false},
		{"high of an early process", nil, func(e *event.Event) { of(event.CategoryProcess)(e); early(e) }, event.PriorityHigh, true},
		{"priority of an earlier filter", nil, func(e *event.Event) { e.Priority = event.PriorityMedium; early(e) }, event.PriorityMedium, true},
		{"early process and no drop", noDrop, early, event.PriorityLow, true},
		{"first rule", rules, asItIs, event.PriorityHigh, true},
		{"rule saves from the drop", rules, early, event.PriorityHigh, true},
		{"second rule", rules, of(event.CategoryNetwork), event.PriorityLow, true},
		{"rule leads to the drop", rules, func(e *event.Event) { of(event.CategoryProcess)(e); early(e) }, event.PriorityLow, false},
		{"rule beats an earlier filter", rules, func(e *event.Event) { e.Priority = event.PriorityMedium }, event.PriorityHigh, true},
		{"no rule matches", rules, func(e *event.Event) { e.Process.Comm = [16]byte{}; of(event.CategoryNetwork)(e) }, event.PriorityMedium, true},
		{"rule sees the priority of the category", lastRule, asItIs, event.PriorityMedium, true},
		{"rule without condition", lastRule, of(event.CategoryProcess), event.PriorityLow, true},
		{"one entry of two", drops, of(event.CategoryNetwork), event.PriorityMedium, false},
		{"other entry of two", drops, func(e *event.Event) { e.Result = -2 }, event.PriorityLow, false},
		{"no entry of two", drops, asItIs, event.PriorityLow, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := test.config
			if config == nil {
				config = createDefaultConfig().(*Config)
			}
			f, err := newFilter(config)
			require.NoError(t, err)
			in := newEvent(test.change)
			before, out := in, make([]byte, event.Size)
			for i := range out {
				out[i] = 0xff
			}
			assert.Equal(t, test.kept, f.work(batchOf(newEvent(asItIs), in), 1, out))
			want := in
			want.Priority = test.priority
			got, err := event.View(out)
			require.NoError(t, err)
			assert.Equal(t, want, got[0])
			assert.Equal(t, before, in, "the batch was changed")
		})
	}
}

func TestEnrichedEventsAreRefused(t *testing.T) {
	require.NoError(t, check(batchOf(newEvent(func(*event.Event) {}))))
	err := check(event.Batch{Size: event.EnrichedSize, Data: make([]byte, event.EnrichedSize)})
	assert.True(t, consumererror.IsPermanent(err))
	assert.ErrorContains(t, err, "put bpf_filter before bpf_enrich in the pipeline's processors")
}

func TestInvalidMatchIsRefused(t *testing.T) {
	for text, config := range map[string]*Config{
		"drop: entry 0: category":     {Drop: []match.Config{{Category: []string{"disk"}}}},
		"priority: entry 0: category": {Priority: []PriorityRule{{Match: match.Config{Category: []string{"disk"}}, Set: "low"}}},
		"priority: entry 0: unknown":  {Priority: []PriorityRule{{}}},
	} {
		_, err := newFilter(config)
		assert.ErrorContains(t, err, text)
	}
}
