//go:build linux && kernel

package bpf

import (
	"math"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A damaged ring buffer stays as it is and is said at each start, also once a later one has been replaced: what it holds was never
// delivered.
func TestDamagedRingStays(t *testing.T) {
	path := pinPath(t)
	p := openSimulation(t, path, 64<<10)
	makeEvents(t, p, 30)
	p.Ring().position(p.Ring().consumer).Store(1 << 40)
	for _, size := range []uint32{64 << 10, 128 << 10, 128 << 10, 64 << 10} {
		p.Close()
		require.NoError(t, p.dir.Close())
		p = openSimulation(t, path, size)
		require.Len(t, p.Damage(), 1)
		require.ErrorContains(t, p.Damage()[0], "ring-0/events is damaged")
		for older := p.OlderRing(); older != nil; older = p.OlderRing() {
			older.Read(MaxBatch)
			older.Commit()
			require.NoError(t, p.DropOlderRing())
		}
		assert.Contains(t, ringsIn(t, path), "ring-0")
		makeEvents(t, p, 10)
	}
	p.Close()
}

// Whatever is written into the pinned settings, the next process has its own in force, and one generation of probes.
func TestDamagedSettings(t *testing.T) {
	path := pinPath(t)
	config := foreignProbes
	config.Simulation, config.Settings = nil, Settings{Process: &Filter{}}
	open := func() *Probes {
		p, err := OpenProbes(directory(t, path), config)
		require.NoError(t, err)
		require.NoError(t, p.Attach())
		return p
	}
	for _, n := range []uint64{0, 0xa5a5_a5a5_5a5a_5a5a, math.MaxUint64, 1<<30 - 1, 1 << 30} {
		p := open()
		var forged probesKpSettings
		settings := p.state.maps[probesMapDataSettings]
		require.NoError(t, settings.Lookup(uint32(0), &forged))
		forged.Generation, forged.SelfTgid, forged.SelfStartNs, forged.WakeupBytes = uint32(n), uint32(n), n, n
		for i := range forged.Filter {
			f := &forged.Filter[i]
			f.Flags, f.Operations, f.Commands, f.MinDurationNs = uint32(n), uint32(n), uint32(n), n
		}
		for i := range forged.Rule {
			forged.Rule[i].Kind, forged.Rule[i].Wanted = uint8(n), uint8(n)
		}
		require.NoError(t, settings.Put(uint32(0), &forged))
		require.NoError(t, exec.Command("true").Run())
		p.Close() // as a process does that is killed
		require.NoError(t, p.dir.Close())
		p = open()
		links := 0
		for _, pin := range entriesOf(t, p.dir.Path()) {
			if strings.HasPrefix(pin, probesLinks) {
				links++
			}
		}
		assert.Equal(t, 1, links, "%d: generations that are attached", n)
		before, err := p.Counts()
		require.NoError(t, err)
		require.NoError(t, exec.Command("true").Run())
		after, err := p.Counts()
		require.NoError(t, err)
		assert.Greater(t, after[categoryProcess].Produced, before[categoryProcess].Produced, n)
		p.Close()
		require.NoError(t, p.dir.Close())
	}
}

// A simulation that has made more events than it has is said; one of which anything else was written begins anew.
func TestDamagedSimulation(t *testing.T) {
	path := pinPath(t)
	for _, n := range []uint64{0xa5a5_a5a5_5a5a_5a5a, math.MaxUint64} {
		for name, forge := range map[string]func(*simulateKpSimulation){
			"next":    func(s *simulateKpSimulation) { s.Next = n },
			"events":  func(s *simulateKpSimulation) { s.Events = n },
			"pids":    func(s *simulateKpSimulation) { s.Pids, s.PidMin = 0, uint32(n) },
			"weights": func(s *simulateKpSimulation) { s.Weights, s.Weight = 0, [8]uint32{uint32(n)} },
		} {
			p := openSimulation(t, path, 64<<10)
			makeEvents(t, p, 10)
			state, err := p.simulator.state()
			require.NoError(t, err)
			forge(&state)
			require.NoError(t, p.simulator.group.maps[simulateMapDataSimulation].Put(uint32(0), &state))
			_, err = p.Simulate(10)
			require.NoError(t, err)
			p.Close()
			require.NoError(t, p.dir.Close())
			p = openSimulation(t, path, 64<<10)
			if name == "next" {
				require.Len(t, p.Damage(), 1)
				require.ErrorContains(t, p.Damage()[0], "events of")
				require.NoError(t, p.Retire())
			} else {
				require.Empty(t, p.Damage())
				makeEvents(t, p, 10)
			}
			p.Close()
			require.NoError(t, p.dir.Close())
		}
	}
}
