package bpfreceiver

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
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
	assert.ErrorIs(t, newConfig().Validate(), errNothingOn, "what to trace is for the user to say")

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

// A receiver that replays its own dead letters would have what is refused go round for ever.
func TestOwnDeadLetters(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no receiver on this system")
	}
	for name, refused := range map[string]bool{"": true, "replay": false} {
		config := newConfig()
		config.Queue = queue(func(c *QueueConfig) { c.DeadLetterOf = "receiver/bpf" })
		settings := receivertest.NewNopSettings(metadata.Type)
		settings.ID = component.NewIDWithName(metadata.Type, name)
		_, err := NewFactory().CreateLogs(t.Context(), settings, config, consumertest.NewNop())
		if refused {
			assert.ErrorContains(t, err, "dead_letter_of is this receiver itself")
		} else {
			assert.NoError(t, err)
		}
	}
}
