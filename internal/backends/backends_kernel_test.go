//go:build linux && kernel

package backends

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// backend is a way to run a backend, and what is its own in PromQL.
type backend struct {
	name string
	// run starts it; it scrapes an address. It returns the API, and where OTLP metrics are to be pushed to.
	run func(t *testing.T, scrape string) (queries api, push string)
	// latencies is an expression for the count of kernel.event.latency, over the series with labels.
	latencies func(labels string) string
	// pushed and scraped are expressions for a quantile of kernel.event.duration, over the series with labels.
	pushed, scraped func(q float64, labels string) string
	// scrapedError is how far off a quantile may be that comes from the scraped text.
	scrapedError float64
}

func backends() []backend {
	native := func(q float64, labels string) string {
		return fmt.Sprintf("histogram_quantile(%v, sum(kernel_event_duration_seconds{%s}))", q, labels)
	}
	return []backend{
		{"victoria-metrics", runVictoriaMetrics, func(labels string) string {
			return fmt.Sprintf("sum(kernel_event_latency_seconds_count{%s})", labels)
		}, func(q float64, labels string) string {
			return fmt.Sprintf("histogram_quantile(%v, sum by (vmrange) (kernel_event_duration_seconds_bucket{%s}))", q, labels)
		}, explicit, explicitError}, // it scrapes text, in which there are no exponential histograms
		{"prometheus", runPrometheus, func(labels string) string {
			return fmt.Sprintf("histogram_count(sum(kernel_event_latency_seconds{%s}))", labels)
		}, native, native, histogramError},
	}
}

// explicit is a quantile from the histogram of explicit buckets.
func explicit(q float64, labels string) string {
	return fmt.Sprintf("histogram_quantile(%v, sum by (le) (explicit_duration_seconds_bucket{%s}))", q, labels)
}

func runVictoriaMetrics(t *testing.T, scrape string) (queries api, push string) {
	t.Helper()
	address := freeAddress(t)
	start(t, "http://"+address+"/health", built+"backends/victoria-metrics",
		"-httpListenAddr="+address, "-storageDataPath="+t.TempDir(), "-memory.allowedBytes=256MiB",
		"-search.latencyOffset=0s", "-search.disableCache", // what has come in is shown at once
		"-opentelemetry.usePrometheusNaming",
		"-promscrape.config="+write(t, "scrape.yaml", scrapeConfig, map[string]any{"address": scrape, "native": false}))
	return api("http://" + address), "http://" + address + "/opentelemetry/v1/metrics"
}

func runPrometheus(t *testing.T, scrape string) (queries api, push string) {
	t.Helper()
	address := freeAddress(t)
	start(t, "http://"+address+"/-/ready", built+"backends/prometheus",
		"--web.listen-address="+address, "--storage.tsdb.path="+t.TempDir(), "--web.enable-otlp-receiver",
		"--config.file="+write(t, "prometheus.yaml", scrapeConfig, map[string]any{"address": scrape, "native": true}))
	return api("http://" + address), "http://" + address + "/api/v1/otlp/v1/metrics"
}

const scrapeConfig = `
scrape_configs:
  - job_name: scraped
    scrape_interval: 1s
    {{if .native}}scrape_native_histograms: true{{end}}
    static_configs: [{ targets: ["{{.address}}"] }]
`

// TestBackend pushes events through a collector and reads the numbers back from a backend, which gets them in both
// ways: pushed by OTLP, and scraped.
func TestBackend(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			scraped := freeAddress(t)
			queries, pushTo := b.run(t, scraped)
			otlp := startCollector(t, pushTo, scraped)
			const first, second = `,otelcol_component_id=""`, `,otelcol_component_id="bpf_aggregate/second"`
			const pushed, job = `job=""` + first, `job="scraped"` + first
			queries.waitFor(t, "sum(kernel_events_total{"+pushed+"})", simulated)
			queries.waitFor(t, allRates(pushed), 0)
			before := lastTime(t, queries, pushed)

			events := newWorkload(t, 40_000)
			for part := range slices.Chunk(events, 2_000) {
				push(t, otlp, part)
			}
			t.Run("pushed", func(t *testing.T) {
				checkTotals(t, queries, pushed, b.latencies, events)
				checkQuantiles(t, queries, pushed, events, b.pushed, histogramError)
				checkQuantiles(t, queries, pushed, events, explicit, explicitError)
				checkRates(t, queries, pushed, before, events)
			})
			t.Run("second_connector", func(t *testing.T) {
				for _, job := range []string{`job=""` + second, `job="scraped"` + second} {
					queries.waitFor(t, "sum(kernel_events_total{"+job+"})", float64(simulated+len(events)))
					queries.waitFor(t, b.latencies(job), float64(simulated+len(events)))
				}
			})
			t.Run("scraped", func(t *testing.T) {
				checkTotals(t, queries, job, b.latencies, events)
				checkQuantiles(t, queries, job, events, b.scraped, b.scrapedError)
			})
		})
	}
}

// ofWorkload are the labels of the workload's series.
const ofWorkload = `,process_executable_name="` + program + `"`

// checkTotals holds sums and counts, by several attributes, against the events.
func checkTotals(t *testing.T, queries api, job string, latencies func(string) string, events []event.Event) {
	labels := job + ofWorkload
	queries.waitFor(t, "sum(kernel_events_total{"+job+"})", float64(simulated+len(events)))
	queries.waitFor(t, `sum(kernel_events_total{`+job+`,process_executable_name=~"simulated-[0-9]"})`, simulated)
	queries.waitFor(t, latencies(job), float64(simulated+len(events)))
	for category, g := range groupBy(events, func(e *event.Event) event.Category { return e.Category }) {
		of := fmt.Sprintf(`%s,kernel_event_category="%s"`, labels, category)
		queries.waitFor(t, "sum(kernel_events_total{"+of+"})", float64(g.events))
		if g.bytes > 0 {
			queries.waitFor(t, "sum(kernel_io_bytes_total{"+of+"})", float64(g.bytes))
		} else {
			assert.Empty(t, queries.query(t, "kernel_io_bytes_total{"+of+"}"))
		}
	}
	for failure, g := range groupBy(events, (*event.Event).ErrorType) {
		queries.waitFor(t, fmt.Sprintf(`sum(kernel_events_total{%s,error_type="%s"})`, labels, failure), float64(g.events))
	}
	for pid, g := range groupBy(events, func(e *event.Event) uint32 { return e.Process.TGID }) {
		queries.waitFor(t, fmt.Sprintf(`sum(process_io_bytes_total{%s,process_pid="%d"})`, job, pid), float64(g.bytes))
	}
}

// checkQuantiles holds quantiles, those of a histogram and the ready-made ones, against the durations of the events.
func checkQuantiles(t *testing.T, queries api, job string, events []event.Event, expression func(float64, string) string, relative float64) {
	for name, g := range groupBy(events, func(e *event.Event) string {
		return fmt.Sprintf(`kernel_event_category="%s",kernel_event_operation="%s"`, e.Category, e.OperationName())
	}) {
		if len(g.durations) == 0 {
			continue
		}
		labels := job + ofWorkload + "," + name
		for _, q := range []float64{0.5, 0.9, 0.99} {
			least, most := g.quantile(t, q)
			queries.waitBetween(t, expression(q, labels), least/(1+relative), most*(1+relative))
			queries.waitBetween(t, fmt.Sprintf(`kernel_event_duration_quantile_seconds{%s,kernel_event_quantile="%v"}`, labels, q),
				least/(1+histogramError), most*(1+histogramError))
		}
	}
}

const rateMetric = "kernel_event_rate_per_second"

func allRates(job string) string { return "sum(" + rateMetric + "{" + job + "})" }

// lastTime returns when the last rates were exported, in ms.
func lastTime(t *testing.T, queries api, job string) (last int64) {
	for _, s := range queries.query(t, rateMetric+"{"+job+"}[10m]") {
		for at := range s.samples {
			last = max(last, at)
		}
	}
	return last
}

// checkRates holds the rates since a time before which there were none of the events against their number: a window is one
// interval, so rates by the time between them are all events.
func checkRates(t *testing.T, queries api, job string, before int64, events []event.Event) {
	queries.waitFor(t, allRates(job), 0)
	counted := map[string]float64{}
	for _, s := range queries.query(t, rateMetric+"{"+job+"}[10m]") {
		last := before
		for _, at := range slices.Sorted(maps.Keys(s.samples)) {
			if at > before {
				counted[s.labels["kernel_event_category"]] += s.samples[at] * float64(at-last) / 1000
				last = at
			}
		}
	}
	for category, g := range groupBy(events, func(e *event.Event) event.Category { return e.Category }) {
		assert.InEpsilon(t, g.events, counted[category.String()], 0.01, category)
	}
	assert.Len(t, counted, len(event.Categories()))
}
