//go:build linux && kernel

// Package kubernetes has an example for k8sattributes, and its test.
package kubernetes

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/connector/connectortest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/kernelpipe/kernelpipe/connector/bpfaggregateconnector"
	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor"
	"github.com/kernelpipe/kernelpipe/receiver/bpfreceiver"
)

// section returns the configuration of a component in the example.
func section(t *testing.T, path ...string) *confmap.Conf {
	t.Helper()
	conf, err := confmaptest.LoadConf("collector.yaml")
	require.NoError(t, err)
	for _, key := range path {
		conf, err = conf.Sub(key)
		require.NoError(t, err)
	}
	return conf
}

func configured[T component.Config](t *testing.T, config T, path ...string) T {
	t.Helper()
	require.NoError(t, section(t, path...).Unmarshal(config))
	require.NoError(t, confmap.Validate(config))
	return config
}

type sink struct {
	mu  sync.Mutex
	got []pmetric.Metrics
}

func (*sink) Capabilities() consumer.Capabilities { return consumer.Capabilities{MutatesData: true} }

func (s *sink) ConsumeMetrics(_ context.Context, metrics pmetric.Metrics) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, metrics)
	return nil
}

// k8sattributes looks for a pod by attributes of the resource: each that the example names is there in every metric.
func TestAssociationKeysAreOnTheResource(t *testing.T) {
	factory := bpfaggregateconnector.NewFactory()
	config := configured(t, factory.CreateDefaultConfig().(*bpfaggregateconnector.Config), "connectors", "bpf_aggregate")
	config.PinPath = ""
	next := &sink{}
	connector, err := factory.CreateLogsToMetrics(t.Context(), connectortest.NewNopSettings(factory.Type()), config, next)
	require.NoError(t, err)
	require.NoError(t, connector.Start(t.Context(), componenttest.NewNopHost()))
	e := event.Enriched{Event: event.Event{
		Version: event.Version, Category: event.CategoryFilesystem, Operation: event.FilesystemRead, Time: event.Clock{}.Now(), Duration: 1000, Bytes: 100,
	}}
	e.Context.ContainerID, e.Context.PodUID = [32]byte{0x3f}, [16]byte{0x8d}
	e.Context.Known = event.KnownContainer | event.KnownPod
	batch := event.Batch{Size: event.EnrichedSize, Data: event.Bytes([]event.Enriched{e})}
	require.NoError(t, connector.ConsumeLogs(t.Context(), event.Encode(event.EncodingFrames, batch, event.Clock{})))
	require.NoError(t, connector.Shutdown(t.Context()))

	want := map[string]string{"k8s.pod.uid": e.Context.PodUIDText(), "container.id": e.Context.ContainerIDText()}
	named := map[string]bool{}
	associations := section(t, "processors", "k8sattributes").Get("pod_association").([]any)
	for _, association := range associations {
		for _, source := range association.(map[string]any)["sources"].([]any) {
			source := source.(map[string]any)
			assert.Equal(t, "resource_attribute", source["from"])
			named[source["name"].(string)] = true
		}
	}
	assert.Len(t, named, len(want))
	metrics := map[string]bool{}
	for _, got := range next.got {
		for _, resource := range got.ResourceMetrics().All() {
			names := []string{}
			for _, scope := range resource.ScopeMetrics().All() {
				for _, metric := range scope.Metrics().All() {
					names = append(names, metric.Name())
				}
			}
			for _, name := range names {
				if _, ok := config.Metrics[name]; !ok || name == "kernel.event.rate" || name == "kernel.event.latency" { // these are of the host
					continue
				}
				metrics[name] = true
				for key := range named {
					value, ok := resource.Resource().Attributes().Get(key)
					require.True(t, ok, "%s: no %s on the resource", name, key)
					assert.Equal(t, want[key], value.Str())
				}
			}
		}
	}
	assert.Equal(t, map[string]bool{"kernel.events": true, "kernel.io": true, "kernel.event.duration": true}, metrics)
}

// What the example has of our components, they take.
func TestTheRestOfTheExample(t *testing.T) {
	configured(t, bpfreceiver.NewFactory().CreateDefaultConfig(), "receivers", "bpf")
	factory := bpfenrichprocessor.NewFactory()
	config := configured(t, factory.CreateDefaultConfig().(*bpfenrichprocessor.Config), "processors", "bpf_enrich")
	config.PinPath = ""
	processor, err := factory.CreateLogs(t.Context(), processortest.NewNopSettings(factory.Type()), config, nil)
	require.NoError(t, err)
	require.NoError(t, processor.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, processor.Shutdown(context.Background()))
}
