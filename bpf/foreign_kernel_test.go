//go:build linux && kernel

package bpf

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// foreignPin is a kind of object whose pins another version may have left.
type foreignPin struct {
	books     string // pinned below the component's directory
	setFormat func(t *testing.T, books *ebpf.Map, format uint32) (before uint32)
	fill      func(t *testing.T, dir *Directory) // pins one with 10 elements
	open      func(dir *Directory) error
	check     func(t *testing.T, dir *Directory) // that the 10 elements are there
}

var foreignPins = map[string]foreignPin{
	"queue": {
		books:     "queue-books/books",
		setFormat: setFormat(func(b *queueKpBooks) *uint32 { return &b.Format }),
		fill: func(t *testing.T, dir *Directory) {
			q, _ := openTestQueue(t, dir, 100, 1)
			defer q.Close()
			pushNumbers(t, q, 0, 0, 10)
		},
		open: func(dir *Directory) error {
			q, older, err := OpenQueue(dir, "queue", QueueConfig{ElementSize: 128, Capacity: 100, Lanes: 1})
			for _, q := range append(older, q) {
				if q != nil {
					q.Close()
				}
			}
			return err
		},
		check: func(t *testing.T, dir *Directory) {
			q, _ := openTestQueue(t, dir, 100, 1)
			defer q.Close()
			batch, err := q.Pop(0, MaxBatch)
			require.NoError(t, err)
			assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, numbersIn(batch.Data))
		},
	},
	"ring buffer": {
		books:     "ring-0/ring_books",
		setFormat: setFormat(func(b *probesKpRingBooks) *uint32 { return &b.Format }),
		fill: func(t *testing.T, dir *Directory) {
			p, err := OpenProbes(dir, foreignProbes)
			require.NoError(t, err)
			defer p.Close()
			require.NoError(t, p.Attach())
			makeEvents(t, p, 10)
		},
		open: func(dir *Directory) error {
			p, err := OpenProbes(dir, foreignProbes)
			if p != nil {
				p.Close()
			}
			return err
		},
		check: func(t *testing.T, dir *Directory) {
			p, err := OpenProbes(dir, foreignProbes)
			require.NoError(t, err)
			defer p.Close()
			assert.Len(t, p.Ring().Read(MaxBatch).Records, 10)
		},
	},
	"stats": {
		books:     "stats-0/stats_books",
		setFormat: setFormat(func(b *statsKpStatsBooks) *uint32 { return &b.Format }),
		fill: func(t *testing.T, dir *Directory) {
			s, err := OpenStats(dir, "stats", 10)
			require.NoError(t, err)
			defer s.Close()
			put(s, 0, 1, 10)
			add(t, s, 1, 0x100, 10, 10)
		},
		open: func(dir *Directory) error {
			s, err := OpenStats(dir, "stats", 10)
			if s != nil {
				s.Close()
			}
			return err
		},
		check: func(t *testing.T, dir *Directory) {
			s, err := OpenStats(dir, "stats", 10)
			require.NoError(t, err)
			defer s.Close()
			assert.Equal(t, map[uint32]uint64{1: 10}, events(t, s, 0))
		},
	},
}

var foreignProbes = ProbesConfig{RingSize: 64 << 10, ElementSize: eventSize,
	Simulation: &Simulation{Events: 1 << 40, Seed: 1, PIDs: Range{100, 1099}, Mix: [4]uint32{1, 1, 1, 1}}}

// setFormat returns what changes the format in books, and returns the one before.
func setFormat[T any](field func(*T) *uint32) func(*testing.T, *ebpf.Map, uint32) uint32 {
	return func(t *testing.T, books *ebpf.Map, format uint32) uint32 {
		t.Helper()
		var value T
		require.NoError(t, books.Lookup(uint32(0), &value))
		before := *field(&value)
		*field(&value) = format
		require.NoError(t, books.Put(uint32(0), &value))
		return before
	}
}

// What another version has pinned is refused with an error that names it and the ways out, and is left as it is: when it
// is made what it was, everything is there.
func TestForeignPins(t *testing.T) {
	pinPath(t) // the directory above those of the cases
	for name, pin := range foreignPins {
		t.Run(name, func(t *testing.T) {
			for what, spoil := range map[string]func(t *testing.T, path string) (mend func()){
				"another format": func(t *testing.T, path string) func() {
					books, err := ebpf.LoadPinnedMap(path, nil)
					require.NoError(t, err)
					t.Cleanup(func() { assert.NoError(t, books.Close()) })
					before := pin.setFormat(t, books, 99)
					return func() { pin.setFormat(t, books, before) }
				},
				"no books": func(t *testing.T, path string) func() {
					return away(t, path)
				},
				"another map": func(t *testing.T, path string) func() {
					back := away(t, path)
					other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
					require.NoError(t, err)
					t.Cleanup(func() { assert.NoError(t, other.Close()) })
					require.NoError(t, other.Pin(path))
					return back
				},
			} {
				t.Run(what, func(t *testing.T) {
					path := pinPath(t)
					dir := directory(t, path)
					pin.fill(t, dir)
					books := filepath.Join(dir.Path(), pin.books)
					mend := spoil(t, books)
					before := files(t, path)
					for range 2 { // it is no less refused the next time
						err := pin.open(dir)
						var shape *ShapeError
						require.ErrorAs(t, err, &shape)
						assert.Equal(t, books, shape.Path)
						assert.ErrorContains(t, err, "rm -r "+filepath.Dir(books))
					}
					assert.Equal(t, before, files(t, path), "nothing is removed, nothing made")
					mend()
					pin.check(t, dir)
				})
			}
		})
	}
}

// away moves what is pinned at path elsewhere, and returns what moves it back.
func away(t *testing.T, path string) (back func()) {
	t.Helper()
	elsewhere := filepath.Join(filepath.Dir(filepath.Dir(path)), "elsewhere")
	require.NoError(t, os.Rename(path, elsewhere))
	return func() { require.NoError(t, os.Rename(elsewhere, path)) }
}

// files lists what is below path.
func files(t *testing.T, path string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		all = append(all, name)
		return err
	}))
	return all
}
