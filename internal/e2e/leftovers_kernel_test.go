//go:build linux && kernel

package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const keepingConfig = `
receivers:
  bpf: { pin_path: {{.pin_path}}, probes: { process: { command: [none] } }, keep_on_shutdown: true, queue: { name: elsewhere } }
processors:
  bpf_filter: { pin_path: {{.pin_path}} }
  bpf_enrich: { pin_path: {{.pin_path}} }
connectors:
  bpf_aggregate: { pin_path: {{.pin_path}} }
exporters:
  debug:
service:
  pipelines:
    logs: { receivers: [bpf], processors: [bpf_filter, bpf_enrich], exporters: [bpf_aggregate] }
    metrics: { receivers: [bpf_aggregate], exporters: [debug] }
  telemetry:
    metrics: { level: none }
`

// Whatever keeps a collector from starting, in whichever component, leaves nothing attached and nothing pinned: not of that
// component, and not of those that had started before.
func TestFailedStartLeavesNothing(t *testing.T) {
	for name, foreign := range map[string]string{
		"receiver with its probes":      "receiver@bpf/probes",
		"receiver with its ring buffer": "receiver@bpf/ring-0",
		"receiver with its dead letter": "receiver@bpf/dead_letter-books",
		"filter with its queue":         "processor@bpf_filter/queue-books",
		"filter with its dead letter":   "processor@bpf_filter/dead_letter-books",
		"enrich with its queue":         "processor@bpf_enrich/queue-books",
		"enrich with its table":         "processor@bpf_enrich@process_table/entries-0",
		"aggregate":                     "connector@bpf_aggregate/stats-0",
	} {
		t.Run(name, func(t *testing.T) {
			pin := pinPath(t)
			require.NoError(t, os.MkdirAll(filepath.Join(pin, foreign), 0o700)) // a group that lacks its maps
			before := files(t, pin)
			config := configure(t, keepingConfig, map[string]any{"pin_path": pin})
			for range 2 {
				c := launch(t, config)
				select {
				case <-c.exited:
				case <-time.After(time.Minute):
					require.Fail(t, "it has started", c.log.String())
				}
				assert.NotZero(t, c.cmd.ProcessState.ExitCode())
				assert.Contains(t, c.log.String(), filepath.Join(pin, foreign))
				assert.Equal(t, before, files(t, pin))
			}
		})
	}
}

// files lists what is below path.
func files(t *testing.T, path string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		all = append(all, name)
		return err
	}))
	return all
}
