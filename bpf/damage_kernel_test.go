//go:build linux && kernel

package bpf

import (
	"math"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// emit writes a record into a ring buffer, as a program of somebody else may.
func emit(t *testing.T, ring *ebpf.Map, record []byte) {
	t.Helper()
	data, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(record)), MaxEntries: 1})
	require.NoError(t, err)
	defer func() { require.NoError(t, data.Close()) }()
	require.NoError(t, data.Put(uint32(0), record))
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "Dual BSD/GPL", Instructions: asm.Instructions{
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, data.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.LoadMapPtr(asm.R1, ring.FD()),
		asm.Mov.Reg(asm.R2, asm.R0),
		asm.Mov.Imm(asm.R3, int32(len(record))),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
		asm.Return(),
	}})
	require.NoError(t, err)
	defer func() { require.NoError(t, program.Close()) }()
	_, err = run(program, 0)
	require.NoError(t, err)
}

// One record that is no event costs no other its way.
func TestForeignRecordsInTheRing(t *testing.T) {
	config := foreignProbes
	config.Valid = func(record []byte) bool { return record[82] != 0 } // its category
	p, err := OpenProbes(directory(t, ""), config)
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.Attach())
	ring := p.Ring()
	events := 0
	read := func() {
		for sequence := uint64(0); ; {
			batch := ring.Read(MaxBatch)
			if len(batch.Records) == 0 {
				break
			}
			assert.GreaterOrEqual(t, batch.Sequence, sequence)
			sequence = batch.Sequence + uint64(len(batch.Records))
			for _, record := range batch.Records {
				assert.NotZero(t, record[82])
			}
			events += len(batch.Records)
			ring.Commit()
		}
	}
	for _, size := range []int{eventSize, 8, 16, eventSize + 1, 2000, eventSize} {
		makeEvents(t, p, 10)
		emit(t, ring.group.maps[probesMapEvents], make([]byte, size))
		makeEvents(t, p, 10)
	}
	read()
	assert.Equal(t, 120, events)
	assert.EqualValues(t, 6, ring.Books().Foreign)
	assert.Zero(t, ring.Depth())
	require.NoError(t, ring.Wait(time.Millisecond))
}

// A ring buffer whose positions tell nothing any more is left as it is, and another one takes its place. Books that can't be are
// mended so that nothing that may have been handed on is taken for new. Both are said.
func TestDamagedRings(t *testing.T) {
	pinPath(t) // the directory above those of the cases
	position := func(at uint64) func(*Ring) {
		return func(r *Ring) { r.position(r.consumer).Store(at) }
	}
	books := func(change func(*probesKpRingBooks)) func(*Ring) {
		return func(r *Ring) { change(r.state()) }
	}
	for name, c := range map[string]struct {
		damage func(*Ring)
		events int // that are read afterwards
		before int // of these, the ones that may have been handed on before
		says   string
	}{
		"position beyond what is written":  {position(1 << 40), 0, 0, "read up to position 1099511627776 and written up to 4080, and 65536 bytes fit"},
		"position within a record header":  {position(4), 0, 0, "read up to position 4"},
		"position within a record":         {position(8), 0, 0, "ring-0/events is damaged: a record of "},
		"greatest position":                {position(math.MaxUint64 &^ 7), 0, 0, "ring-0/events is damaged"},
		"handed on more than is written":   {books(func(b *probesKpRingBooks) { b.HandedOn = math.MaxUint64 }), 20, 20, "handed on up to position 18446744073709551615 of 4080"},
		"delivered more than there was":    {books(func(b *probesKpRingBooks) { b.Delivered = 1 << 63 }), 20, 0, "9223372036854775808 events delivered of 10"},
		"refused more than there was":      {books(func(b *probesKpRingBooks) { b.Refused = math.MaxUint64 }), 20, 0, ""}, // as a kill may leave it
		"everything at once":               {books(func(b *probesKpRingBooks) { b.HandedOn, b.Delivered, b.Refused = 1<<62, 1<<62, 1<<62 }), 20, 20, "is damaged"},
		"a reader that waits, and is gone": {books(func(b *probesKpRingBooks) { b.ReaderWaits = math.MaxUint32 }), 20, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := pinPath(t)
			p := openSimulation(t, path, 64<<10)
			makeEvents(t, p, 30)
			assert.Len(t, p.Ring().Read(10).Records, 10)
			p.Ring().Commit()
			c.damage(p.Ring())
			p.Close()
			require.NoError(t, p.dir.Close())
			for start := range 2 { // it is so after each start
				p = openSimulation(t, path, 64<<10)
				if c.says == "" || c.events > 0 && start > 0 { // what was mended is said once
					assert.Empty(t, p.Damage())
				} else {
					require.Len(t, p.Damage(), 1)
					require.ErrorContains(t, p.Damage()[0], c.says)
				}
				read := len(p.Ring().Read(MaxBatch).Records)
				assert.Equal(t, c.events, read)
				assert.Equal(t, c.before, p.Ring().HandOn())
				p.Ring().Rewind()
				assert.LessOrEqual(t, p.RingBooks().Delivered, uint64(30))
				assert.LessOrEqual(t, p.RingBooks().Refused, uint64(30))
				p.Close()
				require.NoError(t, p.dir.Close())
				c.before = c.events // it was noted
			}
			p = openSimulation(t, path, 64<<10)
			makeEvents(t, p, 10)
			assert.Len(t, p.Ring().Read(MaxBatch).Records, c.events+10, "it goes on")
			p.Close()
		})
	}
}

// A record that can't be in an older ring buffer costs those after it nothing. What is left of it stays, also when the others are
// drained and removed, and no total falls.
func TestDamagedOlderRing(t *testing.T) {
	path := pinPath(t)
	open := func(size uint32) *Probes { return openSimulation(t, path, size) }
	closeAll := func(p *Probes) {
		p.Close()
		require.NoError(t, p.dir.Close())
	}
	p := open(64 << 10)
	makeEvents(t, p, 30)
	assert.Len(t, p.Ring().Read(10).Records, 10)
	p.Ring().Commit()
	closeAll(p)
	p = open(128 << 10)
	makeEvents(t, p, 20)
	closeAll(p)
	p = open(64 << 10)
	damaged := p.OlderRing()
	damaged.position(damaged.consumer).Add(8)
	damaged.Rewind()
	assert.Empty(t, damaged.Read(MaxBatch).Records)
	require.ErrorAs(t, p.DropOlderRing(), new(*DamageError))
	require.Len(t, p.Damage(), 1)
	require.ErrorContains(t, p.Damage()[0], "ring-0/events is damaged: ")
	assert.EqualValues(t, 10, p.RingBooks().Delivered)
	assert.Len(t, p.OlderRing().Read(MaxBatch).Records, 20)
	p.OlderRing().Commit()
	require.NoError(t, p.DropOlderRing())
	assert.Nil(t, p.OlderRing())
	makeEvents(t, p, 5)
	assert.Len(t, p.Ring().Read(MaxBatch).Records, 5)
	assert.EqualValues(t, 30, p.RingBooks().Delivered)
	closeAll(p)
	for range 2 {
		assert.Equal(t, []string{"ring-0", "ring-2"}, ringsIn(t, path))
		p = open(64 << 10)
		require.Len(t, p.Damage(), 1)
		require.ErrorContains(t, p.Damage()[0], "ring-0/events is damaged: a record of ")
		assert.Nil(t, p.OlderRing())
		assert.Len(t, p.Ring().Read(MaxBatch).Records, 5)
		closeAll(p)
	}
}

// A series whose key no version makes is named, with what is wrong with it, and removed.
func TestDamagedSeriesID(t *testing.T) {
	dir := directory(t, pinPath(t))
	s, err := OpenStats(dir, "stats", 10)
	require.NoError(t, err)
	require.NoError(t, s.group.maps[statsMapStats].Put(&SeriesID{Number: math.MaxUint64}, &Entry{}))
	s.Close()
	s, err = OpenStats(dir, "stats", 10)
	require.NoError(t, err)
	defer s.Close()
	require.ErrorContains(t, s.Damage(), "series 18446744073709551615 has a number that none is given")
	assert.Empty(t, events(t, s, 0))
}

// What could not be removed when it was delivered is removed later, however many intervals have passed. A series of an interval
// that is yet to come is damage.
func TestLeftoversOfDeliveredIntervals(t *testing.T) {
	dir := directory(t, pinPath(t))
	s, err := OpenStats(dir, "stats", 10)
	require.NoError(t, err)
	for interval := range uint32(5) {
		put(s, 0, uint32(s.NewNumber()), 7)
		add(t, s, 1, 0, 0, 7)
		if interval < 4 {
			require.NoError(t, s.Seal(time.Now(), nil))
			s.Delivered()
		}
	}
	s.Close()
	s, err = OpenStats(dir, "stats", 10)
	require.NoError(t, err)
	require.NoError(t, s.Damage())
	for interval := range uint32(4) {
		assert.Empty(t, events(t, s, interval))
	}
	assert.Equal(t, map[uint32]uint64{5: 7}, events(t, s, 4))
	assert.Equal(t, ViewBooks{Events: 35, Bytes: 350, RetiredEvents: 28, RetiredBytes: 280}, s.ViewBooks(0))
	require.NoError(t, s.group.maps[statsMapStats].Put(&SeriesID{Number: 1, Generation: 5}, &Entry{}))
	s.Close()
	_, err = OpenStats(dir, "stats", 10)
	require.ErrorAs(t, err, new(*DamageError))
}

// Whatever is written into the pinned stats, opening them ends, and what is read from them afterwards can be exported. What is
// left out is said, and the other series are all there.
func TestDamagedStats(t *testing.T) {
	pinPath(t) // the directory above those of the cases
	hostile := []uint64{1 << 32, 1 << 63, math.MaxUint64}
	for name, forge := range map[string]struct {
		entry func(*Entry, uint64)
		books func(*statsKpStatsBooks, uint64)
	}{
		"events":     {entry: func(e *Entry, n uint64) { e.Totals.Events = n }},
		"bytes":      {entry: func(e *Entry, n uint64) { e.Totals.Bytes = n }},
		"timed":      {entry: func(e *Entry, n uint64) { e.Totals.Timed = n }},
		"duration":   {entry: func(e *Entry, n uint64) { e.Totals.Duration = n }},
		"shortest":   {entry: func(e *Entry, n uint64) { e.Totals.Shortest = n }},
		"longest":    {entry: func(e *Entry, n uint64) { e.Totals.Longest = n }},
		"since":      {entry: func(e *Entry, n uint64) { e.Totals.Since = n }},
		"last":       {entry: func(e *Entry, n uint64) { e.Totals.Last = n }},
		"bucket":     {entry: func(e *Entry, n uint64) { e.Totals.Bucket[Buckets-1] = n }},
		"view":       {entry: func(e *Entry, n uint64) { e.Series.View = uint16(n) }},
		"flags":      {entry: func(e *Entry, n uint64) { e.Series.Flags = SeriesFlags(n) }},
		"name":       {entry: func(e *Entry, n uint64) { e.Series.Name = [40]byte{39: byte(n)} }},
		"numbers":    {books: func(b *statsKpStatsBooks, n uint64) { b.Numbers = n }},
		"generation": {books: func(b *statsKpStatsBooks, n uint64) { b.Generation = uint32(n) }},
		"delivered":  {books: func(b *statsKpStatsBooks, n uint64) { b.Delivered = uint32(n) }},
		"refused":    {books: func(b *statsKpStatsBooks, n uint64) { b.Refused = uint32(n) }},
		"start":      {books: func(b *statsKpStatsBooks, n uint64) { b.StartUnixNs, b.GenerationUnixNs = n, [2]uint64{n, n} }},
		"views": {books: func(b *statsKpStatsBooks, n uint64) {
			for i := range b.View {
				b.View[i].Fingerprint = n
			}
		}},
		"sources": {books: func(b *statsKpStatsBooks, n uint64) {
			for i := range b.Source {
				b.Source[i].Id, b.Source[i].Next = n, n
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range hostile {
				path := pinPath(t)
				dir := directory(t, path)
				s, err := OpenStats(dir, "stats", 100)
				require.NoError(t, err)
				numbers, _, err := s.Configure([]View{{11, "a"}})
				require.NoError(t, err)
				for pid := range uint32(10) {
					put(s, 0, pid+1, 5)
					s.Newcomers()[0].View = numbers[0]
					add(t, s, 1, 0x100, uint64(pid+1)*5, 5)
				}
				for range 10 {
					s.NewNumber()
				}
				id, wrong, says := SeriesID{Number: 7}, false, ""
				switch {
				case name == "views":
					says = "view 1 is there twice"
				case name == "numbers" && n > most:
					says = "the last number of a series is "
				}
				if forge.entry != nil {
					var entry Entry
					require.NoError(t, s.group.maps[statsMapStats].Lookup(&id, &entry))
					forge.entry(&entry, n)
					require.NoError(t, s.group.maps[statsMapStats].Put(&id, &entry))
					if wrong = entry.check() != nil; wrong {
						says = "series 7 has "
					}
				} else {
					forge.books(s.state(), n)
				}
				reading := func() (others int) {
					require.NoError(t, s.Each(func(id SeriesID, entry *Entry) bool {
						require.NoError(t, entry.check())
						if id.Number != 7 {
							others++
						}
						return true
					}))
					return others
				}
				assert.Equal(t, 9, reading(), "while it is open")
				assert.Equal(t, wrong, s.Damaged() == 1, "%s %d", name, n)
				s.Close()
				s, err = OpenStats(dir, "stats", 100)
				if err != nil { // nothing tells which series are of which interval
					require.ErrorAs(t, err, new(*DamageError), "%s %d", name, n)
					require.Contains(t, []string{"generation", "delivered"}, name)
					require.NoError(t, dir.Close())
					continue
				}
				if says == "" {
					require.NoError(t, s.Damage(), "%s %d", name, n)
				} else {
					require.ErrorContains(t, s.Damage(), says, "%s %d", name, n)
				}
				if name != "views" && name != "generation" && name != "delivered" && name != "refused" {
					assert.Equal(t, 9, reading(), "%s %d", name, n)
				}
				_, _, err = s.Configure([]View{{11, "a"}, {22, "b"}})
				require.NoError(t, err)
				number := s.NewNumber()
				assert.Greater(t, number, uint64(10))
				put(s, 0, 99, 1)
				s.Deltas()[0].ID.Number = number
				_, err = s.Add(1, 0x200, 1, 1, time.Now())
				require.NoError(t, err)
				s.Close()
				require.NoError(t, dir.Close())
			}
		})
	}
}
