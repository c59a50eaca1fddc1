package match

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/syscalls"
)

// connectFailed is an event that satisfies each of the conditions in the tests.
func connectFailed() event.Event {
	e := event.Event{
		Category: event.CategoryNetwork, Operation: event.NetworkConnect, Version: event.Version,
		Duration: 1000, Result: -111, Process: event.Process{TGID: 50, TID: 51, UID: 1000},
	}
	event.SetText(e.Process.Comm[:], "curl")
	return e
}

func TestMatch(t *testing.T) {
	with := func(change func(*event.Event)) event.Event {
		e := connectFailed()
		change(&e)
		return e
	}
	number, _ := syscalls.Number("connect")
	syscallConnect := with(func(e *event.Event) { e.Category, e.Operation = event.CategorySyscall, uint16(number) })
	exit := func(status int64) event.Event {
		return with(func(e *event.Event) {
			e.Category, e.Operation, e.Result = event.CategoryProcess, event.ProcessExit, status
		})
	}
	for _, test := range []struct {
		name   string
		config Config
		event  event.Event
		want   bool
	}{
		{"empty", Config{}, connectFailed(), true},
		{"empty, empty event", Config{}, event.Event{}, true},
		{"category", Config{Category: []string{"process", "network"}}, connectFailed(), true},
		{"another category", Config{Category: []string{"process", "syscall"}}, connectFailed(), false},
		{"category, impossible one", Config{Category: []string{"process"}}, event.Event{Category: 255}, false},
		{"operation", Config{Operation: []string{"send", "connect"}}, connectFailed(), true},
		{"another operation", Config{Operation: []string{"send"}}, connectFailed(), false},
		{"operation, same number elsewhere", Config{Operation: []string{"fork"}}, connectFailed(), false},
		{"operation of a system call of the same name", Config{Operation: []string{"connect"}}, syscallConnect, true},
		{"operation and category", Config{Category: []string{"network"}, Operation: []string{"connect"}}, syscallConnect, false},
		{"operation beyond", Config{Operation: []string{"connect"}}, event.Event{Category: event.CategorySyscall, Operation: 65535}, false},
		{"operation, impossible category", Config{Operation: []string{"connect"}}, event.Event{Category: 255, Operation: 1}, false},
		{"priority", Config{Priority: []string{"high", "medium"}}, with(func(e *event.Event) { e.Priority = event.PriorityHigh }), true},
		{"another priority", Config{Priority: []string{"low"}}, with(func(e *event.Event) { e.Priority = event.PriorityHigh }), false},
		{"priority of the category", Config{Priority: []string{"medium"}}, connectFailed(), true},
		{"priority, impossible one", Config{Priority: []string{"low"}}, with(func(e *event.Event) { e.Priority = 255 }), false},
		{"pid at max", Config{PID: Range{Max: ptr(50)}}, connectFailed(), true},
		{"pid over max", Config{PID: Range{Max: ptr(49)}}, connectFailed(), false},
		{"pid at min", Config{PID: Range{Min: ptr(50)}}, connectFailed(), true},
		{"pid under min, though the thread is not", Config{PID: Range{Min: ptr(51)}}, connectFailed(), false},
		{"uid", Config{UID: Range{Min: ptr(1000), Max: ptr(1000)}}, connectFailed(), true},
		{"uid over max", Config{UID: Range{Max: ptr(0)}}, connectFailed(), false},
		{"uid under min", Config{UID: Range{Min: ptr(1001)}}, connectFailed(), false},
		{"command", Config{Command: []string{"wget", "curl"}}, connectFailed(), true},
		{"prefix of a command", Config{Command: []string{"cur", "curll"}}, connectFailed(), false},
		{"failure", Config{ErrorsOnly: true}, connectFailed(), true},
		{"success", Config{ErrorsOnly: true}, with(func(e *event.Event) { e.Result = 3 }), false},
		{"exit with 0", Config{ErrorsOnly: true}, exit(0), false},
		{"exit with 1", Config{ErrorsOnly: true}, exit(1), true},
		{"duration", Config{MinDuration: 1000}, connectFailed(), true},
		{"shorter", Config{MinDuration: 1001}, connectFailed(), false},
		{"no duration", Config{MinDuration: 1}, with(func(e *event.Event) { e.Duration = 0 }), false},
		{"all", Config{
			Category: []string{"network"}, Operation: []string{"connect"}, Priority: []string{"medium"}, PID: Range{Max: ptr(99)},
			UID: Range{Max: ptr(1000)}, Command: []string{"curl"}, ErrorsOnly: true, MinDuration: time.Microsecond,
		}, connectFailed(), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			matcher, err := test.config.Compile()
			require.NoError(t, err)
			assert.Equal(t, test.want, matcher.Match(&test.event))
			assert.Zero(t, testing.AllocsPerRun(10, func() { matcher.Match(&test.event) }))
		})
	}
}

func TestZeroMatcher(t *testing.T) {
	var matcher Matcher
	e := connectFailed()
	assert.True(t, matcher.Match(&e))
}

func BenchmarkMatch(b *testing.B) {
	for _, benchmark := range []struct {
		name   string
		config Config
	}{
		{"default filter", Config{Priority: []string{"low"}, PID: Range{Max: ptr(99)}}},
		{"all conditions", Config{
			Category: []string{"network"}, Operation: []string{"connect"}, Priority: []string{"medium"}, PID: Range{Max: ptr(99)},
			UID: Range{Max: ptr(1000)}, Command: []string{"wget", "curl"}, ErrorsOnly: true, MinDuration: time.Microsecond,
		}},
	} {
		b.Run(benchmark.name, func(b *testing.B) {
			matcher, err := benchmark.config.Compile()
			require.NoError(b, err)
			events := make([]event.Event, 1000)
			for i := range events {
				events[i] = connectFailed()
			}
			b.ReportAllocs()
			matched, i := 0, 0
			for b.Loop() {
				if matcher.Match(&events[i%len(events)]) {
					matched++
				}
				i++
			}
		})
	}
}
