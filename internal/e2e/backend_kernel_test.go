//go:build linux && kernel

package e2e

import (
	"context"
	"iter"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // what exporters compress with
	"google.golang.org/grpc/status"
)

// backend is an OTLP server on loopback that keeps the last point of every series.
type backend struct {
	pmetricotlp.UnimplementedGRPCServer
	address string

	mu     sync.Mutex
	series map[string]point
	logs   []plog.Logs
	refuse func(plog.LogRecord) error // nil: none is refused
	delay  time.Duration
	dead   bool
}

// point is a series with its last value.
type point struct {
	name       string
	attributes map[string]any // of the resource and the point
	value      float64        // of a histogram: its sum
	count      uint64         // of a histogram
	start      pcommon.Timestamp
}

type logsServer struct {
	plogotlp.UnimplementedGRPCServer
	backend *backend
}

func (s *logsServer) Export(_ context.Context, request plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	if refuse := s.backend.refuse; refuse != nil {
		for record := range recordsOf(request.Logs()) {
			if err := refuse(record); err != nil {
				return plogotlp.NewExportResponse(), err
			}
		}
	}
	logs := plog.NewLogs()
	request.Logs().CopyTo(logs)
	s.backend.logs = append(s.backend.logs, logs)
	return plogotlp.NewExportResponse(), nil
}

// recordsOf goes through all log records.
func recordsOf(logs plog.Logs) iter.Seq[plog.LogRecord] {
	return func(yield func(plog.LogRecord) bool) {
		for _, resource := range logs.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					if !yield(record) {
						return
					}
				}
			}
		}
	}
}

// records returns all log records that were accepted, in order.
func (b *backend) records() []plog.LogRecord {
	b.mu.Lock()
	defer b.mu.Unlock()
	var records []plog.LogRecord
	for _, logs := range b.logs {
		records = slices.AppendSeq(records, recordsOf(logs))
	}
	return records
}

// refuseLogs refuses every request with a record that is refused, with the error of the first one.
func (b *backend) refuseLogs(refuse func(plog.LogRecord) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = refuse
}

func newBackend(t testing.TB) *backend {
	t.Helper()
	b := &backend{series: map[string]point{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.address = listener.Addr().String()
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	pmetricotlp.RegisterGRPCServer(server, b)
	plogotlp.RegisterGRPCServer(server, &logsServer{backend: b})
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		assert.NoError(t, <-done)
	})
	return b
}

// Export takes metrics in.
func (b *backend) Export(_ context.Context, request pmetricotlp.ExportRequest) (pmetricotlp.ExportResponse, error) {
	b.mu.Lock()
	delay, dead := b.delay, b.dead
	b.mu.Unlock()
	time.Sleep(delay)
	if dead {
		return pmetricotlp.NewExportResponse(), status.Error(codes.Unavailable, "the backend is down")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, resource := range request.Metrics().ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				b.take(resource.Resource().Attributes(), metric)
			}
		}
	}
	return pmetricotlp.NewExportResponse(), nil
}

func (b *backend) take(resource pcommon.Map, metric pmetric.Metric) {
	keep := func(attributes pcommon.Map, p point) {
		p.name, p.attributes = metric.Name(), resource.AsRaw()
		for key, value := range attributes.All() {
			p.attributes[key] = value.AsRaw()
		}
		b.series[metric.Name()+seriesKey(resource)+seriesKey(attributes)] = p
	}
	numbers := func(points pmetric.NumberDataPointSlice) {
		for _, p := range points.All() {
			value := p.DoubleValue()
			if p.ValueType() == pmetric.NumberDataPointValueTypeInt {
				value = float64(p.IntValue())
			}
			keep(p.Attributes(), point{value: value, start: p.StartTimestamp()})
		}
	}
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		numbers(metric.Sum().DataPoints())
	case pmetric.MetricTypeGauge:
		numbers(metric.Gauge().DataPoints())
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range metric.ExponentialHistogram().DataPoints().All() {
			keep(p.Attributes(), point{value: p.Sum(), count: p.Count(), start: p.StartTimestamp()})
		}
	}
}

func seriesKey(attributes pcommon.Map) string {
	value := pcommon.NewValueMap()
	attributes.CopyTo(value.Map())
	return value.AsString() // JSON with sorted keys
}

// sum adds up the last values of the series called name that have all the attributes.
func (b *backend) sum(name string, attributes map[string]any) float64 {
	var total float64
	for _, p := range b.matching(name, attributes) {
		total += p.value
	}
	return total
}

// count adds up the counts of the histograms called name that have all the attributes.
func (b *backend) count(name string, attributes map[string]any) uint64 {
	var total uint64
	for _, p := range b.matching(name, attributes) {
		total += p.count
	}
	return total
}

func (b *backend) matching(name string, attributes map[string]any) []point {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []point
next:
	for _, p := range b.series {
		if p.name != name {
			continue
		}
		for key, value := range attributes {
			if p.attributes[key] != value {
				continue next
			}
		}
		found = append(found, p)
	}
	return found
}

func (b *backend) set(delay time.Duration, dead bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay, b.dead = delay, dead
}
