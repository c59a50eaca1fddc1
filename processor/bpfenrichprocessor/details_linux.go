package bpfenrichprocessor

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/clock"
)

// The attributes of records that details reads and adds.
const (
	attributePID            = "process.pid"
	attributeExecutablePath = "process.executable.path"
	attributeFilePath       = "file.path"
	attributeCommandArgs    = "process.command_args"
	attributePathCut        = "kernel.process.executable.path_cut"
	attributeArgsCut        = "kernel.process.command_args_cut"
	attributeProcessStart   = "kernel.process.start_time_ns"
	attributeExecNumber     = "kernel.process.exec.number"
	attributeBootTime       = "kernel.event.boot_time_ns"
	attributeFlags          = "kernel.event.flags"
	attributeMissing        = "kernel.enrichment.missing"
)

// details adds to records what the events of 256 bytes have no room for, on its way to the next component: the path of
// the executable and, where that is wanted, the arguments. Any number of goroutines may use it.
type details struct {
	next      consumer.Logs
	logger    *zap.Logger
	table     *bpf.ProcessTable // set before the first use
	arguments bool
	redaction redaction

	mu    sync.Mutex
	cache *clock.Cache[identity, detail]
}

// detail is what is remembered of a program.
type detail struct {
	found        bool
	forgotten    bool   // the table has the process, but no more the program
	executed     uint64 // boot-time ns, when the process began to run the program that it runs
	path         string
	pathCut      bool
	arguments    []string
	argumentsCut bool
}

// detailed is how many programs are remembered in details.
const detailed = 4096

func newDetails(config *Config, logger *zap.Logger, next consumer.Logs) *details {
	redaction, err := newRedaction(&config.CommandLine)
	if err != nil { // Validate has refused it
		return &details{next: next, logger: logger}
	}
	return &details{
		next: next, logger: logger, arguments: config.CommandLine.Enabled, redaction: redaction,
		cache: clock.New[identity, detail](min(detailed, config.Cache.Processes)),
	}
}

// Capabilities implements consumer.Logs.
func (*details) Capabilities() consumer.Capabilities { return consumer.Capabilities{MutatesData: true} }

// ConsumeLogs implements consumer.Logs.
func (d *details) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				d.add(record.Attributes())
			}
		}
	}
	return d.next.ConsumeLogs(ctx, logs)
}

func (d *details) add(attributes pcommon.Map) {
	number := func(key string) uint64 {
		value, ok := attributes.Get(key)
		if !ok || value.Type() != pcommon.ValueTypeInt {
			return 0
		}
		return uint64(value.Int())
	}
	id := identity{number(attributeProcessStart), uint32(number(attributePID)), uint32(number(attributeExecNumber))}
	flags := event.Flags(number(attributeFlags))
	if id.start == 0 || id.tgid == 0 || flags&event.FlagSimulated != 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.get(id)
	if !known.found || id.exec == 0 && number(attributeBootTime) < known.executed {
		if _, said := attributes.Get(attributeMissing); !said {
			attributes.PutStr(attributeMissing, d.why(id, known).String())
		}
		return
	}
	putPath(attributes, known, flags)
	if d.arguments && known.arguments != nil {
		list := attributes.PutEmptySlice(attributeCommandArgs)
		for _, argument := range known.arguments {
			list.AppendEmpty().SetStr(argument)
		}
		if known.argumentsCut {
			attributes.PutBool(attributeArgsCut, true)
		}
	}
}

// putPath puts in the path of the executable. An exec event has the path that exec was given, which may be another:
// relative, of a script, of a descriptor. That is the file.path then, unless it was cut.
func putPath(attributes pcommon.Map, known *detail, flags event.Flags) {
	if given, ok := attributes.Get(attributeExecutablePath); ok {
		if flags&event.FlagNameCut != 0 {
			putFlags(attributes, flags&^event.FlagNameCut)
		} else if given.Str() != known.path {
			attributes.PutStr(attributeFilePath, given.Str())
		}
		attributes.Remove(attributeExecutablePath)
	}
	if known.path == "" {
		return
	}
	attributes.PutStr(attributeExecutablePath, known.path)
	if known.pathCut {
		attributes.PutBool(attributePathCut, true)
	}
}

// why says why there is nothing to add to an event: its process, or the program that it ran then, is not in the table.
func (d *details) why(id identity, known *detail) event.Missing {
	if known.forgotten || d.table.Had(processID(id)) {
		return event.MissingEvicted
	}
	return event.MissingNotFound
}

func putFlags(attributes pcommon.Map, flags event.Flags) {
	if flags == 0 {
		attributes.Remove(attributeFlags)
		return
	}
	attributes.PutInt(attributeFlags, int64(flags))
}

// get returns what the table has of a program. That never changes, unless the table has not heard of it yet.
func (d *details) get(id identity) *detail {
	known := d.cache.Get(id)
	if known != nil && (known.found || known.forgotten) && id.exec != 0 {
		return known
	}
	if known == nil {
		known, _ = d.cache.Add(id)
	}
	*known = detail{}
	err := d.table.LookUp([]bpf.ProgramID{programID(id)}, func(_ int, entry *bpf.ProcessEntry) { d.learn(known, entry) })
	if err != nil {
		d.logger.Error("the process table does not answer", zap.Error(err))
	}
	return known
}

func (d *details) learn(to *detail, entry *bpf.ProcessEntry) {
	to.forgotten = entry.Forgotten()
	to.found = !to.forgotten
	to.executed = entry.Since()
	path, cut := entry.Path()
	to.path, to.pathCut = event.Escape(path), cut
	if !d.arguments {
		return
	}
	arguments, cut, ok := entry.ArgumentList()
	if !ok {
		return
	}
	to.argumentsCut = cut
	for _, argument := range d.redaction.apply(string(arguments), cut) {
		to.arguments = append(to.arguments, event.Escape(argument))
	}
}
