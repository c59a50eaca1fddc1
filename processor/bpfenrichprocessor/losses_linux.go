package bpfenrichprocessor

import (
	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/health"
)

// losses is what the process table can't keep, so that events lack it. What makes room in it is no loss: events that
// come too late are counted as incomplete, for the reason evicted.
func (p *enrichProcessor) losses() []health.Counter {
	table := p.table
	if table == nil {
		return nil
	}
	var counters []health.Counter
	for _, loss := range tableLosses {
		loss.Read = func() uint64 {
			counts, err := table.Counts()
			if err != nil {
				return 0
			}
			return loss.of(&counts)
		}
		counters = append(counters, loss.Counter)
	}
	return counters
}

// tableLosses has the counts of the table that are losses.
var tableLosses = []struct {
	of func(*bpf.TableCounts) uint64
	health.Counter
}{
	{func(c *bpf.TableCounts) uint64 { return c.Full }, health.Counter{
		Unit: "processes", Lost: "found the process table full of processes that live, so that their events are not enriched",
		Remedy: "raise process_table.processes above the number of processes that run at once",
	}},
	{func(c *bpf.TableCounts) uint64 { return c.Errors }, health.Counter{
		Unit: "processes", Lost: "could not be put into the process table, so that their events are not enriched",
	}},
	{func(c *bpf.TableCounts) uint64 { return c.Skipped }, health.Counter{
		Unit: "runs of the process table's programs",
		Lost: "interrupted another and were skipped by the kernel, so that events of a process may not be enriched",
	}},
	{func(c *bpf.TableCounts) uint64 { return c.Cgroups.Missed }, health.Counter{
		Unit:   "cgroups",
		Lost:   "found the process table full of cgroups that are used, so that events of their processes may have no container",
		Remedy: "raise process_table.cgroups above the number of cgroups that are there at once",
	}},
	{func(c *bpf.TableCounts) uint64 { return c.Programs.Missed }, health.Counter{
		Unit:   "programs",
		Lost:   "that were replaced found no room in the process table, so that their last events may not be enriched",
		Remedy: "raise process_table.processes",
	}},
}
