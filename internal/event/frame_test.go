package event

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// decodeAll returns what Decode shows.
func decodeAll(t *testing.T, logs plog.Logs) (batches []Batch, refused []error) {
	t.Helper()
	logs.MarkReadOnly()
	require.NoError(t, Decode(logs, func(b Batch) error {
		batches = append(batches, b)
		return nil
	}, func(_ plog.LogRecord, err error) {
		refused = append(refused, err)
	}))
	return batches, refused
}

func onlyRecord(logs plog.Logs) plog.LogRecord {
	return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
}

func TestFrameRoundTrip(t *testing.T) {
	three := Bytes([]Event{connect(), connect(), connect()})
	enriched := Bytes([]Enriched{{Event: connect(), Context: Context{ParentTGID: 1}}, {Event: connect()}})
	for name, batch := range map[string]Batch{
		"plain":       {Size: Size, Data: three},
		"enriched":    {Size: EnrichedSize, Data: enriched},
		"source":      {Source: 7, Sequence: 1000, Size: Size, Data: three},
		"beyond":      {Source: 1 << 63, Sequence: 1<<64 - 1, Size: Size, Data: three},
		"redelivered": {Source: 7, Redelivered: true, Size: Size, Data: three},
	} {
		t.Run(name, func(t *testing.T) {
			batches, refused := decodeAll(t, Encode(EncodingFrames, batch, Clock{}))
			assert.Equal(t, []Batch{batch}, batches)
			assert.Empty(t, refused)

			var events [][]byte
			for i := range batch.Len() {
				events = append(events, batch.Data[i*batch.Size:][:batch.Size])
			}
			logs := EncodeFrame(batch.Source, batch.Sequence, batch.Redelivered, batch.Size, events)
			assert.Equal(t, Encode(EncodingFrames, batch, Clock{}), logs)
		})
	}
}

func TestFrameAttributes(t *testing.T) {
	record := onlyRecord(Encode(EncodingFrames, Batch{Size: Size, Data: Bytes([]Event{connect()})}, Clock{}))
	assert.Equal(t, "kernelpipe.frame", record.EventName())
	assert.Equal(t, map[string]any{
		"kernelpipe.format": int64(1), "kernelpipe.event.size": int64(128), "kernelpipe.event.count": int64(1),
	}, record.Attributes().AsRaw())

	record = onlyRecord(EncodeFrame(5, 6, true, Size, nil))
	assert.Equal(t, map[string]any{
		"kernelpipe.format": int64(1), "kernelpipe.event.size": int64(128), "kernelpipe.event.count": int64(0),
		"kernelpipe.source": int64(5), "kernelpipe.sequence": int64(6), "kernelpipe.redelivered": true,
	}, record.Attributes().AsRaw())
}

func TestEmptyFrame(t *testing.T) {
	batches, refused := decodeAll(t, EncodeFrame(1, 2, false, Size, nil))
	assert.Empty(t, batches)
	assert.Empty(t, refused)
}

func TestBadFrames(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(plog.LogRecord)
		reason Reason
		events int
		detail string
	}{
		{"no format", func(r plog.LogRecord) { r.Attributes().Remove(attributeFormat) }, ReasonFormat, 0, "kernelpipe.format is missing"},
		{"format", func(r plog.LogRecord) { r.Attributes().PutInt(attributeFormat, 2) }, ReasonFormat, 0, "format 2, expected 1"},
		{"type of format", func(r plog.LogRecord) { r.Attributes().PutStr(attributeFormat, "1") }, ReasonFormat, 0, "is a Str, expected an Int"},
		{"no size", func(r plog.LogRecord) { r.Attributes().Remove(attributeSize) }, ReasonFormat, 0, "kernelpipe.event.size is missing"},
		{"no count", func(r plog.LogRecord) { r.Attributes().Remove(attributeCount) }, ReasonFormat, 0, "kernelpipe.event.count is missing"},
		{"type of source", func(r plog.LogRecord) { r.Attributes().PutDouble(attributeSource, 1) }, ReasonFormat, 0, "kernelpipe.source is a Double"},
		{"type of redelivered", func(r plog.LogRecord) { r.Attributes().PutInt(attributeRedelivered, 1) }, ReasonFormat, 0, "expected a Bool"},
		{"body", func(r plog.LogRecord) { r.Body().SetStr("x") }, ReasonFormat, 0, "the body is a Str"},
		{"size", func(r plog.LogRecord) { r.Attributes().PutInt(attributeSize, 64) }, ReasonSize, 0, "event size 64, expected 128 or 256"},
		{"size 0", func(r plog.LogRecord) { r.Attributes().PutInt(attributeSize, 0) }, ReasonSize, 0, "event size 0"},
		{"size of enriched", func(r plog.LogRecord) { r.Attributes().PutInt(attributeSize, 256) }, ReasonSize, 1, "not the announced 2 events of 256 bytes"},
		{"count", func(r plog.LogRecord) { r.Attributes().PutInt(attributeCount, 3) }, ReasonSize, 2, "256 bytes of body are not the announced 3"},
		{"negative count", func(r plog.LogRecord) { r.Attributes().PutInt(attributeCount, -2) }, ReasonSize, 2, "-2"},
		{"count that overflows", func(r plog.LogRecord) { r.Attributes().PutInt(attributeCount, 1<<57+2) }, ReasonSize, 2, "announced"},
		{"one byte more", func(r plog.LogRecord) { r.Body().Bytes().Append(0) }, ReasonSize, 2, "257 bytes"},
		{"version", func(r plog.LogRecord) { r.Body().Bytes().SetAt(84, 9) }, ReasonEvent, 2, "event 0 of 2: format version 9"},
		{"category", func(r plog.LogRecord) { r.Body().Bytes().SetAt(Size+82, 0) }, ReasonEvent, 2, "event 1 of 2: unknown category 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			good := Batch{Source: 1, Sequence: 1, Size: Size, Data: Bytes([]Event{connect(), connect()})}
			logs := Encode(EncodingFrames, good, Clock{})
			test.change(onlyRecord(logs))
			Encode(EncodingFrames, good, Clock{}).ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())

			batches, refused := decodeAll(t, logs)
			assert.Equal(t, []Batch{good}, batches, "a bad record does not affect the next")
			require.Len(t, refused, 1)
			var refusal *RecordError
			require.ErrorAs(t, refused[0], &refusal)
			assert.Equal(t, test.reason, refusal.Reason)
			assert.Equal(t, test.events, refusal.Events)
			assert.ErrorContains(t, refusal, test.detail)
			assert.Equal(t, test.reason, ReasonOf(refusal))
		})
	}
	assert.Equal(t, ReasonForeign, ReasonOf(errors.New("another")))
}

func TestDecodeMixed(t *testing.T) {
	first, second := connect(), connect()
	second.Time++
	plain := func(e Event) Batch { return Batch{Size: Size, Data: Bytes([]Event{e})} }
	rich := Batch{Size: EnrichedSize, Data: Bytes([]Enriched{{Event: first}})}

	logs := plog.NewLogs()
	add := func(encoding Encoding, b Batch) {
		Encode(encoding, b, Clock{}).ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	}
	addForeign := func(name string) {
		record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
		record.SetEventName(name)
		record.Body().SetStr("hello")
	}
	add(EncodingRecords, plain(first))
	addForeign("")
	add(EncodingRecords, plain(second))
	add(EncodingRecords, rich)
	addForeign("kernel.oops")
	add(EncodingFrames, plain(second))
	add(EncodingRecords, plain(first))
	addForeign("kernel.network.connect")
	add(EncodingRecords, plain(second))

	both := Batch{Size: Size, Data: Bytes([]Event{first, second})}
	batches, refused := decodeAll(t, logs)
	assert.Equal(t, []Batch{both, rich, plain(second), both}, batches)
	require.Len(t, refused, 3)
	assert.Equal(t, ReasonForeign, ReasonOf(refused[0]))
	assert.Equal(t, ReasonForeign, ReasonOf(refused[1]))
	assert.Equal(t, ReasonEvent, ReasonOf(refused[2]))
	assert.ErrorContains(t, refused[2], "boot_time_ns is missing")
}

func TestVisitError(t *testing.T) {
	failure := errors.New("full")
	batch := Batch{Size: Size, Data: Bytes([]Event{connect()})}
	for _, first := range []Encoding{EncodingFrames, EncodingRecords} {
		for _, second := range []Encoding{EncodingFrames, EncodingRecords} {
			logs := Encode(first, batch, Clock{})
			Encode(second, Batch{Size: EnrichedSize, Data: Bytes([]Enriched{{Event: connect()}})}, Clock{}).
				ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
			visits := 0
			err := Decode(logs, func(Batch) error { visits++; return failure }, func(plog.LogRecord, error) { t.Error("nothing is foreign") })
			assert.Equal(t, failure, err)
			assert.Equal(t, 1, visits, "%s %s", first, second)
		}
	}
}

func TestEncoding(t *testing.T) {
	require.NoError(t, EncodingFrames.Validate())
	require.NoError(t, EncodingRecords.Validate())
	assert.EqualError(t, Encoding("json").Validate(), `"json" is unknown: use frames or records`)
	assert.Error(t, Encoding("").Validate())
}

func TestBatch(t *testing.T) {
	assert.Zero(t, Batch{}.Len())
	events := []Enriched{{Event: connect()}, {Event: Event{Time: 9}}}
	batch := Batch{Size: EnrichedSize, Data: Bytes(events)}
	assert.Equal(t, 2, batch.Len())
	assert.True(t, batch.Enriched())
	assert.Same(t, &events[1].Event, batch.At(1))
	assert.Panics(t, func() { batch.At(2) })
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add(int64(FrameFormat), int64(Size), int64(1), int64(1), int64(2), Bytes([]Event{connect()}))
	f.Add(int64(FrameFormat), int64(EnrichedSize), int64(1), int64(0), int64(0), Bytes([]Enriched{{Event: connect()}}))
	f.Add(int64(FrameFormat), int64(Size), int64(0), int64(0), int64(0), []byte{})
	f.Fuzz(func(t *testing.T, format, size, count, source, sequence int64, body []byte) {
		logs := plog.NewLogs()
		record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
		record.SetEventName(FrameEventName)
		record.Attributes().PutInt(attributeFormat, format)
		record.Attributes().PutInt(attributeSize, size)
		record.Attributes().PutInt(attributeCount, count)
		record.Attributes().PutInt(attributeSource, source)
		record.Attributes().PutInt(attributeSequence, sequence)
		record.Body().SetEmptyBytes().FromRaw(body)

		batches, refused := decodeAll(t, logs)
		if len(refused) > 0 {
			assert.Empty(t, batches)
			return
		}
		assert.EqualValues(t, FrameFormat, format)
		if count == 0 {
			assert.Empty(t, batches)
			return
		}
		require.Len(t, batches, 1)
		assert.EqualValues(t, count, batches[0].Len())
		assert.EqualValues(t, size, batches[0].Size)
		assert.Equal(t, body, batches[0].Data)
		for i := range batches[0].Len() {
			require.NoError(t, batches[0].At(i).Validate())
		}
		again, refused := decodeAll(t, Encode(EncodingFrames, batches[0], Clock{}))
		assert.Empty(t, refused)
		assert.Equal(t, batches, again)
	})
}
