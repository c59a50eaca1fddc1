//go:build linux && kernel

package bpf

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mostVerified is how many instructions the verifier may follow in a program. It gives up at 1,000,000, but older kernels
// follow more of the same program, and each 100,000 make a start about a second slower.
const mostVerified = 60_000

var processed = regexp.MustCompile(`processed (\d+) insns`)

// No program comes near what the verifier gives up at.
func TestVerifiedInstructions(t *testing.T) {
	require.NoError(t, raiseMemoryLimit())
	for object, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"probes": loadProbes, "simulate": loadSimulate, "queue": loadQueue, "stats": loadStats, "process_table": loadProcessTable,
	} {
		spec, err := load()
		require.NoError(t, err)
		for name, program := range spec.Programs {
			if program.Type == ebpf.UnspecifiedProgram { // a function that the programs call
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", object, name), func(t *testing.T) {
				if !haveTaskStorage() && (name == probesProgSysEnter || name == probesProgSysExit) {
					t.Skip("this kernel has no task storage for tracing programs")
				}
				verified := verifiedInstructions(t, spec, name)
				t.Logf("%d instructions", verified)
				assert.LessOrEqual(t, verified, mostVerified)
			})
		}
	}
}

// verifiedInstructions loads one program of an object, and returns how many instructions the verifier has followed.
func verifiedInstructions(t *testing.T, spec *ebpf.CollectionSpec, name string) int {
	t.Helper()
	alone := spec.Copy()
	alone.Programs = map[string]*ebpf.ProgramSpec{name: alone.Programs[name]}
	used := map[string]bool{}
	for _, instruction := range alone.Programs[name].Instructions {
		used[instruction.Reference()] = true
	}
	for m := range alone.Maps {
		if !used[m] {
			delete(alone.Maps, m)
		}
	}
	loaded, err := ebpf.NewCollectionWithOptions(alone, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	require.NoError(t, err)
	defer loaded.Close()
	found := processed.FindStringSubmatch(loaded.Programs[name].VerifierLog)
	require.NotNil(t, found, "%s", loaded.Programs[name].VerifierLog)
	verified, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return verified
}
