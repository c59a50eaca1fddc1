//go:build linux && kernel

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// sendConfig and receiveConfig are two collectors that hand over, as examples/handoff*.yaml has them.
const sendConfig = `
receivers:
  bpf: { pin_path: {{.pin_path}}, probes: { {{.probes}} } }
processors:
  bpf_filter: { pin_path: {{.pin_path}} }
exporters:
  bpf_queue: { pin_path: {{.pin_path}}, name: handoff }
service:
  pipelines:
    logs: { receivers: [bpf], processors: [bpf_filter], exporters: [bpf_queue] }
  telemetry:
    metrics: { level: none }
`

const receiveConfig = `
receivers:
  bpf/handoff: { pin_path: {{.pin_path}}, queue: { name: handoff } }
processors:
  bpf_enrich: { pin_path: {{.pin_path}} }
connectors:
  bpf_aggregate: { pin_path: {{.pin_path}}, interval: 1s }
exporters:
  otlp_grpc:
    endpoint: {{.backend}}
    tls: { insecure: true }
    sending_queue: { enabled: false }
    retry_on_failure: { enabled: false }
service:
  pipelines:
    logs: { receivers: [bpf/handoff], processors: [bpf_enrich], exporters: [bpf_aggregate] }
    metrics: { receivers: [bpf_aggregate], exporters: [otlp_grpc] }
  telemetry:
    metrics: { level: none }
`

// TestHandOff has two collectors hand over events through the kernel while now this one, now that one is killed or
// stopped. In the end every event is accounted for, once.
func TestHandOff(t *testing.T) {
	const events, rate, ends = 3_000_000, 250_000, 30
	backend, pin := newBackend(t), pinPath(t)
	values := map[string]any{"pin_path": pin, "backend": backend.address, "probes": fmt.Sprintf("simulate: { events: %d, rate: %d, seed: 1 }", events, rate)}
	configs := []string{configure(t, receiveConfig, values), configure(t, sendConfig, values)} // the queue is waited for
	sides := []*collector{run(t, configs[0]), run(t, configs[1])}
	kills := 0
	for i := range ends {
		side := rand.IntN(2)
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		if i%5 == 4 {
			sides[side].waitReady()
			sides[side].terminate()
		} else {
			sides[side].kill()
			kills++
		}
		sides[side] = launch(t, configs[side])
		if rand.IntN(5) > 0 { // now and then in the middle of the start
			sides[side].waitReady()
		}
	}
	require.Less(t, backend.sum("kernel.events", nil), float64(events), "the simulation ended before the kills did: the load was no load")
	require.Eventually(t, func() bool { return backend.sum("kernel.events", nil) >= events }, 300*time.Second, 50*time.Millisecond)
	for _, side := range []*collector{sides[1], sides[0]} {
		side.waitReady()
		side.terminate()
	}

	ledger := readBooks(t, pin, ringSize)
	ledger.requireBalance(t)
	handedOver := pinnedQueue(t, pin, "queue/handoff", event.EnrichedSize)
	assert.Equal(t, bpf.QueueBooks{Received: events, Delivered: events, Redelivered: handedOver.Redelivered}, handedOver)
	assert.EqualValues(t, events, ledger.produced)
	assert.EqualValues(t, events, ledger.aggregated)
	assert.EqualValues(t, events, backend.sum("kernel.events", nil))
	assert.Zero(t, ledger.lost)
	redelivered := ledger.redelivered + handedOver.Redelivered
	assert.LessOrEqual(t, redelivered, uint64(kills*batch*(workers+1)), "redelivered")
	t.Logf("%d events, %d kills, %d stops: %d events redelivered and recognised", events, kills, ends-kills, redelivered)
}

func pinnedQueue(t testing.TB, pin, component string, size int) bpf.QueueBooks {
	t.Helper()
	dir, err := bpf.OpenDirectory(pin, component)
	require.NoError(t, err)
	defer func() { assert.NoError(t, dir.Close()) }()
	return queueBooks(t, dir, size)
}

// TestHandOffHasOneReceiver starts a second receiver of a queue, which gets an error and disturbs nobody.
func TestHandOffHasOneReceiver(t *testing.T) {
	const events = 100_000
	backend, pin := newBackend(t), pinPath(t)
	values := map[string]any{"pin_path": pin, "backend": backend.address, "probes": fmt.Sprintf("simulate: { events: %d, seed: 1 }", events)}
	send := run(t, configure(t, sendConfig, values))
	receive := run(t, configure(t, receiveConfig, values))
	second := launch(t, configure(t, strings.NewReplacer("bpf/handoff", "bpf/second", "bpf_enrich:", "bpf_enrich/second:", "[bpf_enrich]", "[bpf_enrich/second]",
		"bpf_aggregate:", "bpf_aggregate/second:", "[bpf_aggregate]", "[bpf_aggregate/second]").Replace(receiveConfig), values))
	<-second.exited
	assert.NotZero(t, second.cmd.ProcessState.ExitCode())
	assert.Contains(t, second.log.String(), "queue queue/handoff: ")
	assert.Contains(t, second.log.String(), "another running process takes events out of it: stop it first")
	require.Eventually(t, func() bool { return backend.sum("kernel.events", nil) == events }, 2*time.Minute, 50*time.Millisecond)
	send.terminate()
	receive.terminate()
	readBooks(t, pin, ringSize).requireBalance(t)
}

// letterConfig exports every event as a log record of its own, replayConfig those that are dead letters.
const letterConfig = `
receivers:
  bpf: { pin_path: {{.pin_path}}, {{.receiver}} }
processors:
  bpf_filter: { pin_path: {{.pin_path}}, encoding: records }
exporters:
  otlp_grpc:
    endpoint: {{.backend}}
    tls: { insecure: true }
    sending_queue: { enabled: false }
    retry_on_failure: { enabled: false }
service:
  pipelines:
    logs: { receivers: [bpf], processors: [bpf_filter], exporters: [otlp_grpc] }
  telemetry:
    metrics: {{.telemetry}}
`

const replayConfig = `
receivers:
  bpf/replay: { pin_path: {{.pin_path}}, queue: { dead_letter_of: processor/bpf_filter }, encoding: records }
exporters:
  otlp_grpc:
    endpoint: {{.backend}}
    tls: { insecure: true }
    sending_queue: { enabled: false }
    retry_on_failure: { enabled: false }
service:
  pipelines:
    logs: { receivers: [bpf/replay], exporters: [otlp_grpc] }
  telemetry:
    metrics: { level: none }
`

// TestDeadLetters has a backend refuse some events for good. They are dead letters, are looked at with the command of
// docs/operations.md as often as one likes, and are replayed when the backend has been repaired, all while the
// collector that could not deliver them runs.
func TestDeadLetters(t *testing.T) {
	const events = 10_000
	poisoned := func(record plog.LogRecord) bool {
		pid, ok := record.Attributes().Get("process.pid")
		return !ok || pid.Int()%100 == 7 // simulated pids are 100 to 1099
	}
	backend, pin, telemetry := newBackend(t), pinPath(t), freeAddress(t)
	backend.refuseLogs(func(record plog.LogRecord) error {
		if poisoned(record) {
			return status.Error(codes.InvalidArgument, "this pid is not wanted")
		}
		return nil
	})
	values := map[string]any{
		"pin_path": pin, "backend": backend.address, "telemetry": prometheusReader(t, telemetry),
		"receiver": fmt.Sprintf("probes: { simulate: { events: %d, seed: 1 } }", events),
	}
	owner := run(t, configure(t, letterConfig, values))
	value := func(metric string) int { return int(scrape(t, telemetry, "otelcol_kernelpipe_stage_"+metric)) }
	require.Eventually(t, func() bool { return value("delivered")+value("dead_lettered") == events }, 2*time.Minute, 50*time.Millisecond)
	accepted := backend.records()
	letters := events - len(accepted)
	require.Positive(t, letters)
	assert.Equal(t, letters, value("dead_lettered"))
	assert.Equal(t, letters, value("dead_letter_queued"))
	for _, record := range accepted {
		require.False(t, poisoned(record), "a poisoned event took none of its batch with it, and was not let through itself")
	}

	reason := regexp.MustCompile(`kernelpipe\.dead_letter\.reason: Str\(.*this pid is not wanted`)
	for range 2 {
		inspect := run(t, "../../examples/inspect-dead-letters.yaml", "--set", "receivers::bpf/inspect::pin_path="+pin)
		require.Eventually(t, func() bool { return len(reason.FindAllString(inspect.log.String(), -1)) >= letters }, time.Minute, 50*time.Millisecond)
		inspect.terminate()
		assert.Len(t, reason.FindAllString(inspect.log.String(), -1), letters, "each is printed once")
		assert.Equal(t, letters, strings.Count(inspect.log.String(), "kernelpipe.dead_letter.stage: Str(processor/bpf_filter)"))
		assert.Equal(t, letters, value("dead_letter_queued"), "they are left where they are")
	}

	backend.refuseLogs(nil)
	replay := configure(t, replayConfig, values)
	run(t, replay).kill() // at a moment that may be any
	again := run(t, replay)
	require.Eventually(t, func() bool { return value("dead_letter_replayed") == letters }, time.Minute, 50*time.Millisecond)
	again.terminate()
	owner.terminate()
	// To a foreign component what was in flight at the kill may come twice: all letters are one batch.
	replayed := len(backend.records()) - len(accepted)
	assert.Contains(t, []int{letters, 2 * letters}, replayed)
	for _, record := range backend.records()[len(accepted):] {
		assert.True(t, poisoned(record))
	}
	assert.Equal(t, bpf.QueueBooks{Received: events, Delivered: events}, pinnedQueue(t, pin, "processor/bpf_filter", event.Size))
	t.Logf("%d events, %d of them dead letters, replayed in %d records", events, letters, replayed)
}

// TestDeadLettersAreThrownAway does so with the commands of docs/operations.md. The books know them still, also after a restart.
func TestDeadLettersAreThrownAway(t *testing.T) {
	const events = 500
	backend, pin, telemetry := newBackend(t), pinPath(t), freeAddress(t)
	backend.refuseLogs(func(plog.LogRecord) error { return status.Error(codes.InvalidArgument, "no") })
	values := map[string]any{
		"pin_path": pin, "backend": backend.address, "telemetry": prometheusReader(t, telemetry),
		"receiver": fmt.Sprintf("probes: { simulate: { events: %d, seed: 1 } }", events),
	}
	books := func() map[string]int {
		got := map[string]int{}
		for _, metric := range []string{"received", "delivered", "dead_lettered", "dead_letter_queued", "dead_letter_replayed"} {
			got[metric] = int(scrape(t, telemetry, "otelcol_kernelpipe_stage_"+metric))
		}
		return got
	}
	owner := run(t, configure(t, letterConfig, values))
	require.Eventually(t, func() bool { return books()["dead_letter_queued"] == events }, 2*time.Minute, 50*time.Millisecond)

	discard := run(t, "../../examples/discard-dead-letters.yaml", "--set", "receivers::bpf/discard::pin_path="+pin)
	require.Eventually(t, func() bool { return books()["dead_letter_queued"] == 0 }, time.Minute, 50*time.Millisecond)
	discard.terminate()
	assert.Contains(t, discard.log.String(), fmt.Sprintf(`"log records": %d`, events))
	want := map[string]int{"received": events, "delivered": 0, "dead_lettered": events, "dead_letter_queued": 0, "dead_letter_replayed": events}
	assert.Equal(t, want, books())
	owner.terminate()
	require.NoError(t, os.RemoveAll(pin+"/receiver@bpf@discard"))

	values["receiver"] = "queue: { name: none }" // nothing comes
	owner = run(t, configure(t, letterConfig, values))
	assert.Equal(t, want, books())
	owner.terminate()
	assert.NotContains(t, owner.log.String(), "discard", "nothing is left that belongs to no component")
}
