package bpfaggregateconnector

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector/internal/metadata"
)

func someOrigin(t testing.TB) *origin {
	t.Helper()
	views, err := newViews(newConfigOf(map[string]MetricConfig{
		"events":   {Kind: Events, Dimensions: dimensionNames()},
		"bytes":    {Kind: Bytes, Dimensions: []string{dimensionCategory}, Description: "What was moved."},
		"small":    {Kind: Duration, Dimensions: []string{dimensionCategory}, Histogram: HistogramConfig{MaxSize: 4, MaxScale: 0}},
		"explicit": {Kind: Latency, Histogram: HistogramConfig{MaxSize: 160, MaxScale: 3, Boundaries: []time.Duration{0, time.Millisecond}}},
		"rate":     {Kind: Rate},
	}))
	require.NoError(t, err)
	for i, v := range views {
		v.number = uint16(3 * i)
	}
	resource := pcommon.NewResource()
	resource.Attributes().PutStr("host.name", "h")
	return newOrigin(resource, "1.2.3", component.NewIDWithName(metadata.Type, "a"), views)
}

// pointsBy returns the points that an origin makes of a series of each of its views.
func pointsBy(o *origin) pmetric.Metrics {
	p := newPoints(pmetric.AggregationTemporalityDelta, o, time.Unix(2000, 0))
	for number, v := range o.views {
		if v == nil {
			continue
		}
		entry := &bpf.Entry{
			Series: bpf.Series{View: uint16(number), Category: 1, Operation: 1, PID: 77, UID: 33, Flags: bpf.SeriesProcess},
			Totals: bpf.Totals{Events: 7, Bytes: 70, Timed: 3, Duration: 3000, Shortest: 1, Longest: 2000},
		}
		entry.Totals.Bucket[0], entry.Totals.Bucket[1], entry.Totals.Bucket[2] = 1, 1, 1
		p.addTotals(v, entry, time.Unix(1000, 0))
	}
	return p.metrics
}

// TestOriginIsKept: what is encoded makes the same points, to the byte.
func TestOriginIsKept(t *testing.T) {
	o := someOrigin(t)
	text, err := o.encode()
	require.NoError(t, err)
	kept, err := decodeOrigin(text)
	require.NoError(t, err)
	want, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(pointsBy(o))
	require.NoError(t, err)
	got, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(pointsBy(kept))
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, 4, pointsBy(kept).DataPointCount())
	again, err := kept.encode()
	require.NoError(t, err)
	assert.JSONEq(t, string(text), string(again))
}

func TestOriginThatIsNone(t *testing.T) {
	text, err := someOrigin(t).encode()
	require.NoError(t, err)
	for want, change := range map[string]func(*encodedOrigin){
		"is beyond 63 or there twice": func(e *encodedOrigin) { e.Views[0].Number = 64 },
		"or there twice":              func(e *encodedOrigin) { e.Views[0].Number = e.Views[1].Number },
		"dimension \"x\" is unknown":  func(e *encodedOrigin) { e.Views[0].Dimensions = []string{"x"} },
		"is of kind \"rate\"":         func(e *encodedOrigin) { e.Views[0].Metrics[0].Kind = Rate },
		"is of kind \"\"":             func(e *encodedOrigin) { e.Views[0].Metrics[0].Kind = "" },
		"max_size is 0":               func(e *encodedOrigin) { e.Views[0].Metrics[0].MaxSize = 0 },
		"max_scale is 9":              func(e *encodedOrigin) { e.Views[0].Metrics[0].MaxScale = 9 },
		"448 boundaries":              func(e *encodedOrigin) { e.Views[0].Boundaries = make([]uint64, 448) },
	} {
		var e encodedOrigin
		require.NoError(t, json.Unmarshal(text, &e))
		change(&e)
		changed, err := json.Marshal(e)
		require.NoError(t, err)
		_, err = decodeOrigin(changed)
		require.ErrorContains(t, err, want)
	}
}

// FuzzDecodeOrigin: whatever is in the pinned map, points can be made with what is decoded from it.
func FuzzDecodeOrigin(f *testing.F) {
	text, err := someOrigin(f).encode()
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"views":[{"number":0,"boundaries":[5,4],"metrics":[{"kind":"duration","max_size":2,"max_scale":-10}]}]}`))
	f.Add([]byte(strings.Repeat("[", 10000)))
	f.Fuzz(func(_ *testing.T, text []byte) {
		o, err := decodeOrigin(text)
		if err == nil {
			pointsBy(o)
		}
	})
}

// TestOriginHasRoom: a configuration whose origin would not fit is refused before anything is sealed.
func TestOriginHasRoom(t *testing.T) {
	config := newConfigOf(map[string]MetricConfig{"a": {Kind: Events, Description: strings.Repeat("x", bpf.MaxDescription)}})
	require.NoError(t, config.Validate())
	config.Temporality = Delta
	require.ErrorContains(t, config.Validate(), "give them shorter descriptions")
}
