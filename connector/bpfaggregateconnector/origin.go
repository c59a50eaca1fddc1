package bpfaggregateconnector

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// origin is what points are made with beside series and their totals: what of the configuration they show. A sealed
// interval keeps its own, encoded: its points stay the same whatever the configuration is by the time they are delivered.
type origin struct {
	resource  pcommon.Resource // the host's
	schemaURL string
	version   string // of the scope
	component string // see attributeComponent; empty: none
	views     [bpf.MaxViews]*view
}

func newOrigin(resource pcommon.Resource, version string, id component.ID, views []*view) *origin {
	o := &origin{resource: resource, schemaURL: schemaURL, version: version}
	if id.Name() != "" {
		o.component = id.String()
	}
	for _, v := range views {
		o.views[v.number] = v
	}
	return o
}

// view returns a view by the number that series have; nil: there is none.
func (o *origin) view(number uint16) *view {
	return o.views[number%bpf.MaxViews]
}

// encodedOrigin is an origin as a sealed interval keeps it. What it means may change with KP_STATS_FORMAT only: so does what
// a dimension of a name is, and which attributes are made of it.
type encodedOrigin struct {
	Resource  map[string]string `json:"resource,omitempty"`
	SchemaURL string            `json:"schema_url"`
	Version   string            `json:"version"`
	Component string            `json:"component,omitempty"`
	Views     []encodedView     `json:"views"`
}

type encodedView struct {
	Number     uint16          `json:"number"`
	Dimensions []string        `json:"dimensions,omitempty"`
	Boundaries []uint64        `json:"boundaries,omitempty"`
	Metrics    []encodedMetric `json:"metrics"`
}

type encodedMetric struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Unit        string `json:"unit"`
	Kind        Kind   `json:"kind"`
	MaxSize     int    `json:"max_size,omitempty"`
	MaxScale    int    `json:"max_scale,omitempty"`
}

// encode returns what decodeOrigin makes an origin of. Metrics that look back are left out: a gauge is not sent again.
func (o *origin) encode() ([]byte, error) {
	e := encodedOrigin{SchemaURL: o.schemaURL, Version: o.version, Component: o.component, Resource: map[string]string{}}
	for name, value := range o.resource.Attributes().All() {
		e.Resource[name] = value.AsString()
	}
	for _, v := range o.views {
		if v == nil {
			continue
		}
		view := encodedView{Number: v.number, Boundaries: v.boundaries}
		for _, d := range v.dimensions {
			view.Dimensions = append(view.Dimensions, d.name)
		}
		for i := range v.metrics {
			if m := &v.metrics[i]; !m.kind.windowed() {
				view.Metrics = append(view.Metrics, encodedMetric{
					Name: m.name, Description: m.description, Unit: m.unit, Kind: m.kind, MaxSize: m.histogram.MaxSize, MaxScale: m.histogram.MaxScale,
				})
			}
		}
		e.Views = append(e.Views, view)
	}
	return json.Marshal(e)
}

// decodeOrigin fails on what encode has not made.
func decodeOrigin(text []byte) (*origin, error) {
	var e encodedOrigin
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, err
	}
	o := &origin{resource: pcommon.NewResource(), schemaURL: e.SchemaURL, version: e.Version, component: e.Component}
	for name, value := range e.Resource {
		o.resource.Attributes().PutStr(name, value)
	}
	index := 0
	for i := range e.Views {
		v, err := e.Views[i].decode(&index)
		if err != nil {
			return nil, fmt.Errorf("view %d: %w", e.Views[i].Number, err)
		}
		if v.number >= bpf.MaxViews || o.views[v.number] != nil {
			return nil, fmt.Errorf("view %d is beyond %d or there twice", v.number, bpf.MaxViews-1)
		}
		o.views[v.number] = v
	}
	return o, nil
}

// decode gives metrics their index from index on.
func (e *encodedView) decode(index *int) (*view, error) {
	v := &view{number: e.Number, boundaries: e.Boundaries}
	for _, name := range e.Dimensions {
		d, ok := dimensionByName(name)
		if !ok || slices.ContainsFunc(v.dimensions, func(other dimension) bool { return other.name == name }) {
			return nil, fmt.Errorf("dimension %q is unknown or there twice", name)
		}
		v.dimensions = append(v.dimensions, d)
	}
	if len(e.Boundaries) > maxBoundaries {
		return nil, fmt.Errorf("%d boundaries, must be at most %d", len(e.Boundaries), maxBoundaries)
	}
	for _, m := range e.Metrics {
		histogram := HistogramConfig{MaxSize: m.MaxSize, MaxScale: m.MaxScale}
		if !slices.Contains(kinds, m.Kind) || m.Kind.windowed() {
			return nil, fmt.Errorf("metric %q is of kind %q", m.Name, m.Kind)
		}
		if err := histogram.validate(); err != nil {
			return nil, fmt.Errorf("metric %q: %w", m.Name, err)
		}
		v.metrics = append(v.metrics, definition{
			name: m.Name, description: m.Description, unit: m.Unit, kind: m.Kind, index: *index, histogram: histogram,
		})
		*index++
	}
	return v, nil
}
