//go:build linux && kernel

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// smallConfig is what a user may get wrong.
const smallConfig = `
receivers:
  bpf: { pin_path: {{.pin_path}}, {{.receiver}} }
processors:
  bpf_filter: { pin_path: {{.pin_path}}, {{.filter}} }
exporters:
  debug:
service:
  pipelines:
    logs: { receivers: [bpf], processors: [bpf_filter], exporters: [debug] }
  telemetry:
    metrics: { level: none }
`

// TestRefuses starts the collector with what can't work. It says what is wrong, and what to do.
func TestRefuses(t *testing.T) {
	const receiver, filter = "probes: { process: }", "queue: { capacity: 1000 }"
	pin := pinPath(t)
	for name, test := range map[string]struct {
		receiver, filter, pin string
		drop                  string // capabilities
		want                  []string
	}{
		"unknown category":    {receiver: "probes: { disk: }", want: []string{`unknown key "disk"`, "use syscall, network, filesystem, process, simulate"}},
		"unknown system call": {receiver: "probes: { syscall: { include: [opanat] } }", want: []string{`unknown system call "opanat"`, "did you mean openat?"}},
		"contradiction": {receiver: "probes: { syscall: { include: [openat], exclude: [openat] } }",
			want: []string{"include and exclude both name openat: remove it from one of them"}},
		"empty range":      {receiver: "probes: { process: { pid: { min: 2, max: 1 } } }", want: []string{"min 2 is greater than max 1"}},
		"no probes":        {receiver: "probes: {}", want: []string{"nothing is on: name at least one of"}},
		"no queue":         {filter: "queue: { capacity: 0 }", want: []string{"capacity is 0, must be at least 1"}},
		"queue too large":  {filter: "queue: { capacity: 1000000000 }", want: []string{"capacity 1000000000 needs ", "of kernel memory", "lower the capacity"}},
		"no BPF fs":        {pin: t.TempDir(), want: []string{"is not on a BPF file system", "mount -t bpf -o mode=0700 bpf /sys/fs/bpf"}},
		"no CAP_BPF":       {drop: "-bpf,-sys_admin", want: []string{"missing capability CAP_BPF", "AmbientCapabilities=CAP_BPF"}},
		"no CAP_PERFMON":   {drop: "-perfmon,-sys_admin", want: []string{"missing capability CAP_PERFMON", "AmbientCapabilities=CAP_PERFMON"}},
		"no capability":    {drop: "-all", want: []string{"missing capability CAP_BPF", "missing capability CAP_PERFMON"}},
		"unknown priority": {filter: "drop: [{ priority: [urgent] }]", want: []string{`"urgent"`, "high, medium"}},
	} {
		t.Run(name, func(t *testing.T) {
			values := map[string]any{"pin_path": pin, "receiver": receiver, "filter": filter}
			if test.receiver != "" {
				values["receiver"] = test.receiver
			}
			if test.filter != "" {
				values["filter"] = test.filter
			}
			if test.pin != "" {
				values["pin_path"] = test.pin
			}
			command := []string{binary, "--config", configure(t, smallConfig, values)}
			if test.drop != "" {
				command = append([]string{"setpriv", "--bounding-set=" + test.drop, "--inh-caps=" + test.drop}, command...)
			}
			output, err := exec.CommandContext(t.Context(), "timeout", append([]string{"20"}, command...)...).CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, 1, exit.ExitCode())
			message := string(output)
			_, message, _ = strings.Cut(message, "\nError: ")
			if message == "" {
				message = string(output)
			}
			for _, want := range test.want {
				assert.Contains(t, message, want)
			}
		})
	}
}

// TestLeastPrivilege runs the whole pipeline with the two capabilities that the README names, and with the limit that kernels
// before 5.11 need besides: the collector inherits it.
func TestLeastPrivilege(t *testing.T) {
	require.NoError(t, rlimit.RemoveMemlock())
	backend, pin := newBackend(t), pinPath(t)
	config := configure(t, pipelineConfig, pipelineValues(pin, backend.address, "syscall: , network: , filesystem: , process: , simulate: { events: 1000 }"))
	const only = "-all,+bpf,+perfmon"
	c := start(t, exec.Command("setpriv", "--bounding-set="+only, "--inh-caps="+only, binary, "--config", config))
	c.waitReady()
	require.Eventually(t, func() bool { return backend.sum("kernel.events", nil) > 1000 }, 30*time.Second, 50*time.Millisecond)
	c.terminate()
	readBooks(t, pin, ringSize).requireBalance(t)
}

// TestForeignRecords sends log records of a stranger through the pipeline. They are counted, and the events beside
// them arrive.
func TestForeignRecords(t *testing.T) {
	const events, foreign = 10_000, 300
	backend, pin, telemetry, otlp := newBackend(t), pinPath(t), freeAddress(t), freeAddress(t)
	text := strings.NewReplacer(
		"\nprocessors:", "\n  otlp: { protocols: { grpc: { endpoint: "+otlp+" } } }\nprocessors:", "receivers: [bpf]", "receivers: [bpf, otlp]",
	).Replace(pipelineConfig)
	values := pipelineValues(pin, backend.address, fmt.Sprintf("simulate: { events: %d, rate: 20000 }", events))
	values["telemetry"] = prometheusReader(t, telemetry)
	c := run(t, configure(t, text, values))

	connection, err := grpc.NewClient(otlp, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	client := plogotlp.NewGRPCClient(connection)
	for range foreign / 3 {
		logs := plog.NewLogs()
		records := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
		records.AppendEmpty().Body().SetStr("what somebody else logs")
		broken := records.AppendEmpty()
		broken.SetEventName("kernelpipe.frame")
		broken.Body().SetEmptyBytes().FromRaw([]byte("no events"))
		records.AppendEmpty()
		_, err := client.Export(t.Context(), plogotlp.NewExportRequestFromLogs(logs))
		require.NoError(t, err)
	}
	require.NoError(t, connection.Close())
	require.Eventually(t, func() bool {
		return backend.sum("kernel.events", nil) == events && scrape(t, telemetry, "otelcol_kernelpipe_stage_foreign") == foreign
	}, 30*time.Second, 50*time.Millisecond)
	c.terminate()
	readBooks(t, pin, ringSize).requireBalance(t)
}
