package bpfaggregateconnector

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadata"
)

// schemaURL names the semantic conventions that names and attributes follow.
const schemaURL = "https://opentelemetry.io/schemas/1.43.0"

// points collects the points of one export: each series of a metric is one, below the resource it belongs to.
type points struct {
	metrics     pmetric.Metrics
	temporality pmetric.AggregationTemporality
	origin      *origin
	now         pcommon.Timestamp
	resources   map[string]*resourceMetrics // by their attributes
}

type resourceMetrics struct {
	metrics pmetric.MetricSlice
	byIndex map[int]pmetric.Metric
}

func newPoints(temporality pmetric.AggregationTemporality, origin *origin, now time.Time) *points {
	return &points{
		metrics: pmetric.NewMetrics(), temporality: temporality, origin: origin,
		now: pcommon.NewTimestampFromTime(now), resources: map[string]*resourceMetrics{},
	}
}

// addTotals adds the points of a series for the sums and histograms of its view, counted from start on.
func (p *points) addTotals(v *view, entry *bpf.Entry, start time.Time) {
	series, totals := &entry.Series, &entry.Totals
	since := min(pcommon.NewTimestampFromTime(start), p.now-1) // the clock may have been set back
	for i := range v.metrics {
		switch m := &v.metrics[i]; {
		case m.kind == Events && totals.Events > 0:
			p.addSum(v, m, series, since, totals.Events)
		case m.kind == Bytes && totals.Bytes > 0:
			p.addSum(v, m, series, since, totals.Bytes)
		case (m.kind == Duration || m.kind == Latency) && totals.Timed > 0:
			p.addHistogram(v, m, series, since, totals)
		}
	}
}

func (p *points) addSum(v *view, m *definition, series *bpf.Series, start pcommon.Timestamp, value uint64) {
	metric := p.metric(v, m, series, func(metric pmetric.Metric) {
		sum := metric.SetEmptySum()
		sum.SetIsMonotonic(true)
		sum.SetAggregationTemporality(p.temporality)
	})
	point := metric.Sum().DataPoints().AppendEmpty()
	point.SetStartTimestamp(start)
	point.SetTimestamp(p.now)
	point.SetIntValue(int64(value))
	p.putAttributes(point.Attributes(), v, series)
}

func (p *points) addHistogram(v *view, m *definition, series *bpf.Series, start pcommon.Timestamp, totals *bpf.Totals) {
	if v.boundaries != nil {
		metric := p.metric(v, m, series, func(metric pmetric.Metric) { metric.SetEmptyHistogram().SetAggregationTemporality(p.temporality) })
		point := metric.Histogram().DataPoints().AppendEmpty()
		point.SetStartTimestamp(start)
		point.SetTimestamp(p.now)
		fillExplicit(point, totals, v.boundaries)
		p.putAttributes(point.Attributes(), v, series)
		return
	}
	metric := p.metric(v, m, series, func(metric pmetric.Metric) {
		metric.SetEmptyExponentialHistogram().SetAggregationTemporality(p.temporality)
	})
	point := metric.ExponentialHistogram().DataPoints().AppendEmpty()
	point.SetStartTimestamp(start)
	point.SetTimestamp(p.now)
	fillExponential(point, totals, m.histogram)
	p.putAttributes(point.Attributes(), v, series)
}

// addGauges adds the points of all series for the gauges of a view.
func (p *points) addGauges(h *history) {
	for i := range h.view.metrics {
		m := &h.view.metrics[i]
		for _, gains := range h.series {
			switch m.kind {
			case Rate:
				p.addGauge(h.view, m, &gains.series, h.rate(gains, m.intervals))
			case Quantiles:
				zeros, buckets := h.sum(gains, m.intervals)
				if _, _, n := usedBuckets(&buckets); n+zeros == 0 {
					continue // there is no quantile of nothing
				}
				for _, q := range m.quantiles {
					p.addGauge(h.view, m, &gains.series, quantile(q, zeros, &buckets)).PutDouble(attributeQuantile, q)
				}
			}
		}
	}
}

// addGauge adds a point and returns its attributes.
func (p *points) addGauge(v *view, m *definition, series *bpf.Series, value float64) pcommon.Map {
	point := p.metric(v, m, series, func(metric pmetric.Metric) { metric.SetEmptyGauge() }).Gauge().DataPoints().AppendEmpty()
	point.SetTimestamp(p.now)
	point.SetDoubleValue(value)
	p.putAttributes(point.Attributes(), v, series)
	return point.Attributes()
}

// metric returns the metric of a series' resource; make gives a new one its type.
func (p *points) metric(v *view, m *definition, series *bpf.Series, setType func(pmetric.Metric)) pmetric.Metric {
	resource := p.resource(v, series)
	metric, ok := resource.byIndex[m.index]
	if !ok {
		metric = resource.metrics.AppendEmpty()
		metric.SetName(m.name)
		metric.SetDescription(m.description)
		metric.SetUnit(m.unit)
		setType(metric)
		resource.byIndex[m.index] = metric
	}
	return metric
}

// resource returns the metrics of the resource that a series belongs to: the host and what is more closely known.
func (p *points) resource(v *view, series *bpf.Series) *resourceMetrics {
	attributes := pcommon.NewMap()
	for i := range v.dimensions {
		if d := &v.dimensions[i]; v.onResource(d) {
			d.put(attributes, series)
		}
	}
	var key strings.Builder
	for name, value := range attributes.All() { // in the order of the dimensions
		key.WriteString(name + "=" + value.AsString() + "\x00")
	}
	found := p.resources[key.String()]
	if found == nil {
		resource := p.metrics.ResourceMetrics().AppendEmpty()
		resource.SetSchemaUrl(p.origin.schemaURL)
		p.origin.resource.CopyTo(resource.Resource())
		for name, value := range attributes.All() {
			value.CopyTo(resource.Resource().Attributes().PutEmpty(name))
		}
		scope := resource.ScopeMetrics().AppendEmpty()
		scope.SetSchemaUrl(p.origin.schemaURL)
		scope.Scope().SetName(metadata.ScopeName)
		scope.Scope().SetVersion(p.origin.version)
		found = &resourceMetrics{metrics: scope.Metrics(), byIndex: map[int]pmetric.Metric{}}
		p.resources[key.String()] = found
	}
	return found
}

// putAttributes adds what is said of the point and not of its resource.
func (p *points) putAttributes(attributes pcommon.Map, v *view, series *bpf.Series) {
	attributes.EnsureCapacity(len(v.dimensions) + 2)
	if p.origin.component != "" {
		attributes.PutStr(attributeComponent, p.origin.component)
	}
	if series.Flags&bpf.SeriesOverflow != 0 {
		attributes.PutBool(attributeOverflow, true)
		return
	}
	for i := range v.dimensions {
		if d := &v.dimensions[i]; !v.onResource(d) {
			d.put(attributes, series)
		}
	}
}
