//go:build linux && kernel

package bpfaggregateconnector

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// backend adds up what it gets of one sum, as a backend does: the last value of each cumulative series that it knows by
// its attributes and start, and every delta.
type backend struct {
	out    *sink
	totals map[string]int64 // by attributes and start, and for deltas by end too
	starts map[string]pcommon.Timestamp
}

func newBackend(out *sink) *backend { return &backend{out: out, totals: map[string]int64{}} }

// export has the connector export, and takes note of the points.
func (b *backend) export(t *testing.T, c *aggregateConnector) {
	t.Helper()
	require.NoError(t, c.export(t.Context()))
	b.note(b.out.take())
}

// note takes note of points.
func (b *backend) note(exports []pmetric.Metrics) {
	b.starts = map[string]pcommon.Timestamp{}
	for _, p := range sumPoints(exports) {
		name, ok := p.Attributes().Get(dimensionExecutable)
		if !ok {
			name = pcommon.NewValueStr("overflow")
		}
		key := fmt.Sprint(p.Attributes().AsRaw(), p.StartTimestamp())
		b.totals[key] = p.IntValue()
		b.starts[name.Str()] = p.StartTimestamp()
	}
}

// total is how many events the backend knows of.
func (b *backend) total() (events int64) {
	for _, value := range b.totals {
		events += value
	}
	return events
}

// shows reports whether the last export had a series of this name.
func (b *backend) shows(name string) bool { return b.starts[name] != 0 }

// ofGroup is an event of a program in a cgroup.
func ofGroup(cgroup uint64, name string) event.Event {
	return example(event.CategoryNetwork, event.NetworkSend, name, func(e *event.Event) { e.Process.CgroupID = cgroup })
}

const (
	attackers = 7 // cgroup
	others    = 8
)

func startHiding(t *testing.T, temporality Temporality) (*aggregateConnector, *backend) {
	t.Helper()
	out := &sink{}
	config := newConfig(only("kernel.events"), func(c *Config) { c.Temporality = temporality })
	require.Equal(t, 2000, config.CardinalityLimit)
	return start(t, config, out), newBackend(out)
}

var temporalities = []Temporality{Cumulative, Delta}

// TestNamesOfTheDeadHideNobody: 2,100 processes of different names take all series there may be and are gone. Who comes
// later has a series of its own at once, or where it shares the cgroup of the 2,100 by the second export.
func TestNamesOfTheDeadHideNobody(t *testing.T) {
	for _, temporality := range temporalities {
		t.Run(string(temporality), func(t *testing.T) {
			c, b := startHiding(t, temporality)
			sent := int64(0)
			for i := range 2100 {
				feed(t, c, ofGroup(attackers, fmt.Sprint("attack-", i)))
				sent++
			}
			b.export(t, c)
			assert.True(t, b.shows("overflow"))
			for i := range 2 {
				feed(t, c, ofGroup(attackers, "neighbour"), ofGroup(others, "victim"))
				sent += 2
				b.export(t, c)
				assert.True(t, b.shows("victim"))
				assert.Equal(t, i > 0, b.shows("neighbour"))
			}
			for i := range 10 {
				feed(t, c, ofGroup(attackers, "neighbour"), ofGroup(others, "victim"), ofGroup(others, fmt.Sprint("late-", i)))
				sent += 3
				b.export(t, c)
				for _, name := range []string{"victim", "neighbour", fmt.Sprint("late-", i)} {
					assert.True(t, b.shows(name), name)
				}
			}
			assert.Equal(t, sent, b.total(), "each event once")
		})
	}
}

// TestFloodOfNamesHidesNobody: while an attacker goes on making names, what was there before keeps its series, and so does
// what comes now, though its events come last in each interval.
func TestFloodOfNamesHidesNobody(t *testing.T) {
	for _, temporality := range temporalities {
		t.Run(string(temporality), func(t *testing.T) {
			const names, steady, intervals = 10_000, 300, 12
			c, b := startHiding(t, temporality)
			sent := int64(0)
			send := func(events ...event.Event) {
				feed(t, c, events...)
				sent += int64(len(events))
			}
			all := make([]event.Event, steady)
			for i := range all {
				all[i] = ofGroup(attackers, fmt.Sprint("steady-", i))
			}
			rare := ofGroup(attackers, "rare") // it has shown itself often enough to be missing for some time
			for range 6 {
				send(append(all, rare)...)
				b.export(t, c)
			}
			first := b.starts
			n := 0
			for interval := range intervals {
				events := make([]event.Event, 0, names)
				for range names {
					n++
					events = append(events, ofGroup(attackers, fmt.Sprint("flood-", n)))
				}
				send(events...)
				send(all...)
				send(ofGroup(attackers, "neighbour"), ofGroup(others, "victim"), ofGroup(others, fmt.Sprint("late-", interval)))
				if interval == 4 {
					send(rare)
				}
				b.export(t, c)
				assert.True(t, b.shows("victim"), interval)
				assert.True(t, b.shows(fmt.Sprint("late-", interval)))
				assert.Equal(t, interval > 0, b.shows("neighbour"), interval)
				for i := range steady {
					name := fmt.Sprint("steady-", i)
					require.True(t, b.shows(name), name)
					if temporality == Cumulative {
						require.Equal(t, first[name], b.starts[name], "it goes on")
					}
				}
				if temporality == Cumulative {
					require.Equal(t, first["rare"], b.starts["rare"], interval)
				}
				require.LessOrEqual(t, len(b.starts), 2000)
			}
			assert.Equal(t, sent, b.total(), "each event once")
			books := c.stats.ViewBooks(c.views[0].number)
			assert.EqualValues(t, sent, books.Events)
		})
	}
}

// TestNothingUnexportedExpires: however great the pressure, a series stays until its last value is exported.
func TestNothingUnexportedExpires(t *testing.T) {
	for _, temporality := range temporalities {
		t.Run(string(temporality), func(t *testing.T) {
			c, b := startHiding(t, temporality)
			for i := range 5000 {
				feed(t, c, ofGroup(attackers, fmt.Sprint("attack-", i)))
			}
			b.out.refuse(fmt.Errorf("busy"))
			for i := range 5 {
				require.Error(t, c.export(t.Context()))
				feed(t, c, ofGroup(attackers, fmt.Sprint("again-", i)))
			}
			assert.Zero(t, c.registries[0].expired.Load())
			b.out.refuse(nil)
			for range 5 {
				b.export(t, c)
			}
			assert.EqualValues(t, 5005, b.total())
		})
	}
}
