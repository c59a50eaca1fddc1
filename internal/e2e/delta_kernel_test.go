//go:build linux && kernel

package e2e

import (
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// answer is what a backend does with a request.
type answer struct {
	store  bool
	status int    // 0: the connection is closed without a response
	body   string // of the response
}

// Some answers say that a request may come again. Others, to the OTLP exporter, that it must not.
var (
	again = []answer{{true, 200, ""}, {true, 200, ""}, {true, 200, ""}, {true, 0, ""}, {false, 0, ""}, {true, 503, ""}, {false, 503, ""},
		{false, 401, ""}, {true, 429, ""}}
	forGood = []answer{{true, 400, ""}, {false, 400, ""}, {true, 500, ""}, {false, 413, ""}, {true, 200, "not what a response looks like"}}
)

// deltaBackend is an OTLP server that keeps points of delta temporality, each once by what identifies it, and answers at
// random until it is told to be good.
type deltaBackend struct {
	*httptest.Server
	mu      sync.Mutex
	answers []answer
	events  map[string]int64 // points of kernel.events
	given   map[string]int   // answers
	changed []string         // points that came again, and counted something else
}

func newDeltaBackend(t *testing.T, answers []answer) *deltaBackend {
	b := &deltaBackend{answers: answers, events: map[string]int64{}, given: map[string]int{}}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *deltaBackend) beGood() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers = []answer{{true, 200, ""}}
}

func (b *deltaBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := pmetricotlp.NewExportRequest()
	body, err := gzip.NewReader(r.Body)
	var bytes []byte
	if err == nil {
		bytes, err = io.ReadAll(body)
	}
	if err == nil {
		err = request.UnmarshalProto(bytes)
	}
	if err != nil { // the collector was killed meanwhile
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b.mu.Lock()
	a := b.answers[rand.IntN(len(b.answers))]
	b.given[fmt.Sprintf("%+v", a)]++
	if a.store {
		b.store(request.Metrics())
	}
	b.mu.Unlock()
	if a.status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body) // whether it is read is not its business
}

func (b *deltaBackend) store(metrics pmetric.Metrics) {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, m := range scope.Metrics().All() {
				if m.Name() != "kernel.events" || m.Sum().AggregationTemporality() != pmetric.AggregationTemporalityDelta {
					continue
				}
				for _, p := range m.Sum().DataPoints().All() {
					identity := fmt.Sprint(seriesKey(resource.Resource().Attributes()), scope.Scope().Version(), seriesKey(p.Attributes()),
						p.StartTimestamp(), p.Timestamp())
					if before, ok := b.events[identity]; ok && before != p.IntValue() {
						b.changed = append(b.changed, identity)
					}
					b.events[identity] = p.IntValue()
				}
			}
		}
	}
}

func (b *deltaBackend) sum() (sum uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.events {
		sum += uint64(n)
	}
	return sum
}

// TestDelta kills and reconfigures a collector of delta temporality whose backend stores what it says it has not, and the
// other way round. A backend that knows a point again has no event twice. What it lacks is counted.
func TestDelta(t *testing.T) {
	const kills, rate = 12, 50_000 // events/s
	for name, answers := range map[string][]answer{"again": again, "for_good": append(again, forGood...)} {
		t.Run(name, func(t *testing.T) {
			backend, pin := newDeltaBackend(t, answers), pinPath(t)
			values := func(connector string) map[string]any {
				values := pipelineValues(pin, "", fmt.Sprintf("simulate: { events: %d, rate: %d, seed: 1 }", kills*rate*10, rate))
				values["interval"], values["connector"], values["url"] = "50ms", connector, backend.URL
				return values
			}
			configs := []string{}
			for _, connector := range []string{
				"temporality: delta",
				"temporality: delta, cardinality_limit: 5",
				"temporality: delta, cardinality_limit: 20, resource_attributes: { host.name: { enabled: false } }",
				"temporality: cumulative",
				"temporality: delta, metrics: { kernel.event.latency: { enabled: false }, mine: { kind: events, dimensions: [kernel.event.priority] } }",
			} {
				configs = append(configs, configure(t, deltaConfig, values(connector)))
			}
			for i := range kills {
				c := launch(t, configs[i%len(configs)])
				if rand.IntN(10) > 0 { // now and then in the middle of the start
					c.waitReady()
				}
				time.Sleep(time.Duration(rand.IntN(600)) * time.Millisecond)
				c.kill()
			}
			backend.beGood()
			c := run(t, configs[0])
			c.terminate()

			ledger := readBooks(t, pin, ringSize)
			sum := backend.sum()
			t.Logf("%d events, %d stored, %d uncertain; answers: %v", ledger.aggregated, sum, ledger.uncertain, backend.given)
			assert.Empty(t, backend.changed)
			assert.NotZero(t, sum)
			assert.LessOrEqual(t, sum, ledger.aggregated, "counted twice")
			assert.GreaterOrEqual(t, sum+ledger.uncertain, ledger.aggregated, "missing, and not uncertain")
			if name == "again" {
				assert.Zero(t, ledger.uncertain)
			} else {
				assert.NotZero(t, ledger.uncertain)
			}
		})
	}
}

// deltaConfig has an exporter that tries again by itself, as exporters do by default: what it then says of the last attempt
// says nothing of the ones before.
const deltaConfig = `
receivers:
  bpf:
    pin_path: {{.pin_path}}
    probes: { {{.probes}} }
processors:
  bpf_filter: { pin_path: {{.pin_path}} }
  bpf_enrich: { pin_path: {{.pin_path}} }
connectors:
  bpf_aggregate: { pin_path: {{.pin_path}}, interval: {{.interval}}, {{.connector}} }
exporters:
  otlp_http:
    endpoint: {{.url}}
    sending_queue: { enabled: false }
    retry_on_failure: { initial_interval: 5ms, max_interval: 5ms, max_elapsed_time: 20ms }
    timeout: 2s
service:
  pipelines:
    logs/events: { receivers: [bpf], processors: [bpf_filter, bpf_enrich], exporters: [bpf_aggregate] }
    metrics: { receivers: [bpf_aggregate], exporters: [otlp_http] }
  telemetry:
    metrics: { level: none }
`
