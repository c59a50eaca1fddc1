//go:build linux && kernel

package bpfaggregateconnector

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"

	"github.com/kernelpipe/kernelpipe/bpf"
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// The child of TestKill finds here what it is to do.
const (
	envPinPath     = "KERNELPIPE_TEST_PIN_PATH"
	envProgress    = "KERNELPIPE_TEST_PROGRESS"
	envTemporality = "KERNELPIPE_TEST_TEMPORALITY"
)

// numbered is event number n of a source; which series it belongs to follows from n.
func numbered(n uint64) event.Event {
	return example(event.CategoryFilesystem, event.FilesystemRead, "program-"+strconv.FormatUint(n%97, 10), func(e *event.Event) {
		e.Bytes, e.Duration = n%1000, 1+n%100_000
	})
}

// progress is where the source before the connector notes what was accepted. It survives the process.
type progress struct{ file *os.File }

func openProgress(t testing.TB, path string) progress {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, file.Close()) })
	return progress{file}
}

func (p progress) get() uint64 {
	var room [8]byte
	_, _ = p.file.ReadAt(room[:], 0) // empty at first
	return binary.LittleEndian.Uint64(room[:])
}

func (p progress) set(t testing.TB, n uint64) {
	var room [8]byte
	binary.LittleEndian.PutUint64(room[:], n)
	_, err := p.file.WriteAt(room[:], 0)
	require.NoError(t, err)
}

const maxDelivery = 6000

// deliver hands in events from where the progress is, as a source does that does not know whether the first
// batch had been accepted; until there are total, or for ever.
func deliver(t testing.TB, c *aggregateConnector, p progress, total uint64) {
	redelivered := true
	for at := p.get(); total == 0 || at < total; {
		size := 1 + rand.Uint64N(maxDelivery)
		if redelivered { // all that may have been accepted comes again
			size = maxDelivery
		}
		if total > 0 {
			size = min(size, total-at)
		}
		events := make([]event.Event, size)
		for i := range events {
			events[i] = numbered(at + uint64(i))
		}
		batch := plainBatch(events)
		batch.Source, batch.Sequence, batch.Redelivered = 0x100, at, redelivered
		require.NoError(t, c.ConsumeLogs(t.Context(), frame(batch)))
		at += size
		redelivered = false
		if total == 0 && rand.IntN(2) == 0 {
			time.Sleep(time.Millisecond) // a good moment to be killed: accepted, and not noted
		}
		p.set(t, at)
	}
}

// TestKillChild is the process that TestKill kills; it does nothing on its own.
func TestKillChild(t *testing.T) {
	path := os.Getenv(envPinPath)
	if path == "" {
		return
	}
	c := create(t, killConfig(path, Temporality(os.Getenv(envTemporality))), consumertest.NewNop())
	require.NoError(t, c.Start(t.Context(), componenttest.NewNopHost()))
	_, err := os.Stdout.WriteString("started\n")
	require.NoError(t, err)
	deliver(t, c, openProgress(t, os.Getenv(envProgress)), 0)
}

func killConfig(path string, temporality Temporality) *Config {
	return newConfig(only("kernel.events", "kernel.io", "kernel.event.duration"), func(c *Config) {
		c.PinPath, c.Temporality, c.CardinalityLimit, c.Interval = path, temporality, 64, 10*time.Millisecond
	})
}

// TestKill kills processes at random moments while they aggregate and export: every event is in the totals once.
func TestKill(t *testing.T) {
	const kills = 15
	for _, temporality := range []Temporality{Cumulative, Delta} {
		t.Run(string(temporality), func(t *testing.T) {
			path, file := pinPath(t), filepath.Join(t.TempDir(), "progress")
			for i := range kills {
				child := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
				child.Env = append(os.Environ(), envPinPath+"="+path, envProgress+"="+file, envTemporality+"="+string(temporality))
				out, err := child.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, child.Start())
				most := 300 * time.Millisecond // of it about the half for the start
				if i%3 > 0 {
					var line [8]byte
					_, err = out.Read(line[:])
					require.NoError(t, err)
					require.Equal(t, "started\n", string(line[:]))
					most = 60 * time.Millisecond
				}
				time.Sleep(rand.N(most))
				require.NoError(t, child.Process.Kill())
				require.Error(t, child.Wait())
			}

			c := start(t, killConfig(path, temporality), consumertest.NewNop())
			p := openProgress(t, file)
			total := p.get() + 10_000
			t.Logf("%d events by killed processes, %d of them redelivered", p.get(), c.stats.Books().Redelivered)
			deliver(t, c, p, total)
			var bytes uint64
			for n := range total {
				bytes += n % 1000
			}
			assert.Equal(t, total, c.stats.Books().Events)
			books := c.stats.ViewBooks(c.views[0].number)
			assert.Equal(t, total, books.Events)
			assert.Equal(t, bytes, books.Bytes)
			c.mutex.Lock()
			defer c.mutex.Unlock()
			kept := books.RetiredEvents
			require.NoError(t, c.stats.Each(func(_ bpf.SeriesID, entry *bpf.Entry) bool {
				totals := &entry.Totals
				kept += totals.Events
				var inBuckets uint64
				for _, n := range totals.Bucket {
					inBuckets += n
				}
				assert.Equal(t, totals.Events, inBuckets)
				return true
			}))
			assert.Equal(t, total, kept)
		})
	}
}
