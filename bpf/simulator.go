//go:build linux

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Simulation says which events the simulator makes. Event i is a function of the seed and i alone.
type Simulation struct {
	Events uint64 // how many in all
	Seed   uint64
	PIDs   Range     // the events' pids
	Mix    [4]uint32 // weights of the categories syscall, network, filesystem, process
}

// simulator makes events in the kernel. How far it has come is kept there.
type simulator struct {
	group   *group
	program *ebpf.Collection
	damage  error // nil: how far it has come is credible
}

const simulatorState = "simulation"

func openSimulator(dir *Directory, shared map[string]*ebpf.Map, simulation Simulation) (_ *simulator, err error) {
	spec, err := loadSimulate()
	if err != nil {
		return nil, err
	}
	mmapable(spec.Maps[simulateMapDataSimulation])
	want := simulation.kernel()
	group, err := openGroup(dir.join(simulatorState), map[string]*ebpf.MapSpec{simulateMapDataSimulation: spec.Maps[simulateMapDataSimulation]},
		func(maps map[string]*ebpf.Map) error { return maps[simulateMapDataSimulation].Put(uint32(0), &want) })
	if err != nil {
		return nil, err
	}
	s := &simulator{group: group}
	defer func() {
		if err != nil {
			err = errors.Join(err, group.abandon())
			s.close()
		}
	}()
	// Another simulation than the one that was begun starts from its beginning; the same one goes on.
	m := group.maps[simulateMapDataSimulation]
	found, err := s.state()
	if err != nil {
		return nil, err
	}
	want.Next = found.Next
	if found != want {
		want.Next = 0
		if err := m.Put(uint32(0), &want); err != nil {
			return nil, fmt.Errorf("write simulation: %w", err)
		}
	} else if found.Next > found.Events {
		s.damage = damaged(group.place, simulateMapDataSimulation, fmt.Errorf("it has made %d events of %d, and makes no more", found.Next, found.Events))
	}
	replacements := map[string]*ebpf.Map{
		simulateMapDataSimulation: m,
		simulateMapEvents:         shared[probesMapEvents],
		simulateMapRingBooks:      shared[probesMapRingBooks],
		simulateMapCounters:       shared[probesMapCounters],
		simulateMapDataSettings:   shared[probesMapDataSettings],
	}
	spec.Maps[simulateMapEvents].MaxEntries = shared[probesMapEvents].MaxEntries()
	if s.program, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements}); err != nil {
		return nil, fmt.Errorf("load simulator: %w", err)
	}
	return s, nil
}

// forgetSimulation removes the one that an earlier configuration asked for.
func forgetSimulation(dir *Directory) error {
	if at := dir.join(simulatorState); at.pinned() {
		if err := at.removeAll(); err != nil {
			return fmt.Errorf("remove earlier simulation: %w", err)
		}
	}
	return nil
}

func (s *Simulation) kernel() simulateKpSimulation {
	k := simulateKpSimulation{Seed: s.Seed, Events: s.Events, PidMin: s.PIDs.Min, Pids: s.PIDs.Max - s.PIDs.Min + 1}
	for i, weight := range s.Mix {
		k.Weight[i+categorySyscall] = weight
		k.Weights += weight
	}
	return k
}

func (s *simulator) close() {
	if s.program != nil {
		s.program.Close()
	}
	s.group.Close()
}

func (s *simulator) state() (state simulateKpSimulation, err error) {
	if err := s.group.maps[simulateMapDataSimulation].Lookup(uint32(0), &state); err != nil {
		return state, fmt.Errorf("read simulation: %w", err)
	}
	return state, nil
}

// removeIfFinished unpins the simulation if all its events are made.
func (s *simulator) removeIfFinished() error {
	state, err := s.state()
	if err != nil || state.Next < state.Events {
		return err
	}
	return s.group.remove()
}

// removeIfUnused unpins a simulation that this process has made, if it has made no event.
func (s *simulator) removeIfUnused() error {
	state, err := s.state()
	if err != nil || state.Next > 0 {
		return err
	}
	return s.group.abandon()
}

// SimulateBatch is how many events one call of Simulate makes at most.
const SimulateBatch = 1024

// Simulate makes up to n events, at most SimulateBatch, submits them to the ring buffer and returns how many
// it made. Fewer than n means that the ring buffer is full or that all are made; made and not submitted is
// none.
func (p *Probes) Simulate(n int) (int, error) {
	if p.simulator == nil {
		return 0, errors.New("no simulation is configured")
	}
	return run(p.simulator.program.Programs[simulateProgSimulate], uint64(min(n, SimulateBatch)))
}

// Simulated returns how many events of the simulation are made.
func (p *Probes) Simulated() (uint64, error) {
	if p.simulator == nil {
		return 0, nil
	}
	state, err := p.simulator.state()
	return state.Next, err
}
