//go:build linux && kernel

package bpf

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mostVerified is how many instructions of a program the verifier may follow. It gives up at 1,000,000, and each 100,000 make
// a start up to a second slower. Older kernels follow half as many more as newer ones.
const mostVerified = 100_000

var processed = regexp.MustCompile(`processed (\d+) insns`)

// Every program loads, also those that this kernel has a better one for. Those that use task storage need it, and those for
// io_uring the tracepoints that they are for. None comes near what the verifier gives up at.
func TestAllProgramsLoad(t *testing.T) {
	require.NoError(t, raiseMemoryLimit())
	for object, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"probes": loadProbes, "simulate": loadSimulate, "queue": loadQueue, "stats": loadStats, "process table": loadProcessTable,
	} {
		t.Run(object, func(t *testing.T) {
			spec, err := load()
			require.NoError(t, err)
			if !haveTaskStorage() {
				delete(spec.Maps, probesMapStarts)
				delete(spec.Programs, probesProgSysEnter)
				delete(spec.Programs, probesProgSysExit)
			}
			kernel, err := btf.LoadKernelSpec()
			require.NoError(t, err)
			for _, name := range []string{probesProgIoUringSubmitReq, probesProgIoUringComplete, probesProgIoUringCompleteFields} {
				if !slices.Contains(uringPrograms(kernel), name) {
					delete(spec.Programs, name)
				}
			}
			options := ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}}
			loaded, err := ebpf.NewCollectionWithOptions(spec, options)
			require.NoError(t, err)
			defer loaded.Close()
			for _, name := range slices.Sorted(maps.Keys(loaded.Programs)) {
				log := loaded.Programs[name].VerifierLog
				found := processed.FindStringSubmatch(log)
				require.NotNil(t, found, "%s: %s", name, log)
				verified, err := strconv.Atoi(found[1])
				require.NoError(t, err)
				t.Logf("%s: %d", name, verified)
				assert.LessOrEqual(t, verified, mostVerified, name)
			}
		})
	}
}
