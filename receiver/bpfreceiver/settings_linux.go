package bpfreceiver

import (
	"time"

	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
)

// probes translates a valid configuration for the kernel.
func (c *Config) probes() bpf.ProbesConfig {
	return bpf.ProbesConfig{
		RingSize:    uint32(c.RingBuffer.Size),
		ElementSize: event.Size,
		Settings:    c.Probes.settings(),
		Simulation:  c.Probes.Simulate.Get().simulation(),
		Valid:       valid,
	}
}

// valid reports whether a record of the ring buffer is an event.
func valid(record []byte) bool {
	return event.Batch{Size: event.Size, Data: record}.At(0).Validate() == nil
}

func (c *ProbesConfig) settings() bpf.Settings {
	settings := bpf.Settings{
		Network:    filterOf(event.CategoryNetwork, &c.Network),
		Filesystem: filterOf(event.CategoryFilesystem, &c.Filesystem),
		Process:    filterOf(event.CategoryProcess, &c.Process),
	}
	if config := c.Syscall.Get(); config != nil {
		settings.Syscall = filter(config.PID, config.UID, config.Command, config.ErrorsOnly, config.MinDuration)
		settings.Syscalls = config.numbers()
	}
	return settings
}

// filterOf returns nil for a category that is off.
func filterOf(category event.Category, probe *configoptional.Optional[ProbeConfig]) *bpf.Filter {
	config := probe.Get()
	if config == nil {
		return nil
	}
	f := filter(config.PID, config.UID, config.Command, config.ErrorsOnly, config.MinDuration)
	for _, name := range config.Operation {
		if operation, ok := event.ParseOperation(category, name); ok {
			f.Operations |= 1 << operation
		}
	}
	return f
}

func filter(pid, uid match.Range, command []string, errorsOnly bool, minDuration time.Duration) *bpf.Filter {
	return &bpf.Filter{ErrorsOnly: errorsOnly, MinDuration: minDuration, PID: bounds(pid), UID: bounds(uid), Commands: command}
}

func bounds(r match.Range) *bpf.Range {
	if !r.IsSet() {
		return nil
	}
	lowest, highest := r.Bounds()
	return &bpf.Range{Min: lowest, Max: highest}
}

// simulation returns nil where there is none.
func (c *SimulateConfig) simulation() *bpf.Simulation {
	if c == nil {
		return nil
	}
	simulation := bpf.Simulation{
		Events: uint64(c.Events),
		Seed:   uint64(c.Seed),
		PIDs:   bpf.Range{Min: uint32(c.PID.Min), Max: uint32(c.PID.Max)},
	}
	for i, weight := range c.Mix.weights() {
		simulation.Mix[i] = uint32(weight)
	}
	return &simulation
}
