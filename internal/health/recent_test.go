package health

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecent(t *testing.T) {
	var r Recent
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	require.NoError(t, r.Check(start))
	refused := errors.New("refused")
	r.Note(start, errors.New("something else"))
	r.Note(start.Add(40*time.Second), refused)
	err := r.Check(start.Add(99 * time.Second))
	require.ErrorIs(t, err, refused)
	require.EqualError(t, err, "refused (2 times since 2026-01-02T03:04:05Z)")
	require.NoError(t, r.Check(start.Add(100*time.Second)))
	r.Note(start.Add(200*time.Second), refused)
	assert.EqualError(t, r.Check(start.Add(200*time.Second)), "refused (1 times since 2026-01-02T03:07:25Z)")
}
