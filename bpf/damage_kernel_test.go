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
			for range 2 { // it is so after each start
				p = openSimulation(t, path, 64<<10)
				if c.says == "" {
					assert.Empty(t, p.Damage())
				} else if c.events == 0 || len(p.Damage()) > 0 {
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
