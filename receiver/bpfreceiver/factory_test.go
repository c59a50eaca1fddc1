package bpfreceiver

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/kernelpipe/kernelpipe/receiver/bpfreceiver/internal/metadata"
)

func TestFactory(t *testing.T) {
	factory := NewFactory()
	assert.Equal(t, metadata.Type, factory.Type())
	config := factory.CreateDefaultConfig()
	require.NoError(t, componenttest.CheckConfigStruct(config))
	assert.ErrorIs(t, newConfig().Probes.Validate(), errNoProbes, "what to trace is for the user to say")

	// Creating touches nothing in the kernel, and a receiver that was not started can be shut down, twice.
	created, err := factory.CreateLogs(t.Context(), receivertest.NewNopSettings(metadata.Type), config, consumertest.NewNop())
	if runtime.GOOS != "linux" {
		require.EqualError(t, err, "receiver bpf needs Linux")
		return
	}
	require.NoError(t, err)
	require.NoError(t, created.Shutdown(t.Context()))
	require.NoError(t, created.Shutdown(t.Context()))
}
