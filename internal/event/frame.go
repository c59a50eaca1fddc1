package event

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// FrameFormat is the version of the frame itself: its attributes and what they mean for the body.
const FrameFormat = 1

// FrameEventName is the event name of a frame.
const FrameEventName = "kernelpipe.frame"

// The attributes of a frame, all integers but the last, a boolean. Source and sequence are set only where
// there is a source, and redelivered only where it is true.
const (
	attributeFormat      = "kernelpipe.format"
	attributeSize        = "kernelpipe.event.size"
	attributeCount       = "kernelpipe.event.count"
	attributeSource      = "kernelpipe.source"
	attributeSequence    = "kernelpipe.sequence"
	attributeRedelivered = "kernelpipe.redelivered"
)

// EncodeFrame makes the frame of a Batch from events that do not lie side by side, such as those in a ring
// buffer: each is copied once. Every event must have size bytes.
func EncodeFrame(source, sequence uint64, redelivered bool, size int, events [][]byte) plog.Logs {
	logs, body := newFrame(source, sequence, redelivered, size, len(events))
	for _, event := range events {
		body.Append(event...)
	}
	return logs
}

// newFrame returns a frame and its empty body, which has room for count events.
func newFrame(source, sequence uint64, redelivered bool, size, count int) (plog.Logs, pcommon.ByteSlice) {
	logs := plog.NewLogs()
	scope := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	scope.Scope().SetName(scopeName)
	record := scope.LogRecords().AppendEmpty()
	record.SetEventName(FrameEventName)

	attributes := record.Attributes()
	attributes.EnsureCapacity(6)
	attributes.PutInt(attributeFormat, FrameFormat)
	attributes.PutInt(attributeSize, int64(size))
	attributes.PutInt(attributeCount, int64(count))
	if source != 0 {
		attributes.PutInt(attributeSource, int64(source))
		attributes.PutInt(attributeSequence, int64(sequence))
	}
	if redelivered {
		attributes.PutBool(attributeRedelivered, true)
	}
	body := record.Body().SetEmptyBytes()
	body.EnsureCapacity(size * count)
	return logs, body
}

// decodeFrame returns the batch in a frame. Its data is the frame's.
func decodeFrame(record plog.LogRecord) (Batch, error) {
	var header struct{ format, size, count, source, sequence int64 }
	attributes := record.Attributes()
	for _, field := range []struct {
		key      string
		required bool
		value    *int64
	}{
		{attributeFormat, true, &header.format},
		{attributeSize, true, &header.size},
		{attributeCount, true, &header.count},
		{attributeSource, false, &header.source},
		{attributeSequence, false, &header.sequence},
	} {
		value, ok := attributes.Get(field.key)
		switch {
		case !ok && !field.required:
		case !ok:
			return Batch{}, refuse(ReasonFormat, 0, "attribute %s is missing", field.key)
		case value.Type() != pcommon.ValueTypeInt:
			return Batch{}, refuse(ReasonFormat, 0, "attribute %s is a %s, expected an Int", field.key, value.Type())
		default:
			*field.value = value.Int()
		}
	}
	redelivered, marked := attributes.Get(attributeRedelivered)
	body := record.Body()
	switch {
	case header.format != FrameFormat:
		return Batch{}, refuse(ReasonFormat, 0, "frame format %d, expected %d: was it made by another version of kernelpipe?", header.format, FrameFormat)
	case marked && redelivered.Type() != pcommon.ValueTypeBool:
		return Batch{}, refuse(ReasonFormat, 0, "attribute %s is a %s, expected a Bool", attributeRedelivered, redelivered.Type())
	case body.Type() != pcommon.ValueTypeBytes:
		return Batch{}, refuse(ReasonFormat, 0, "the body is a %s, expected Bytes", body.Type())
	case header.size != Size && header.size != EnrichedSize:
		return Batch{}, refuse(ReasonSize, 0, "event size %d, expected %d or %d", header.size, Size, EnrichedSize)
	}
	length := int64(body.Bytes().Len())
	if length%header.size != 0 || length/header.size != header.count {
		return Batch{}, refuse(ReasonSize, int(length/header.size), "%d bytes of body are not the announced %d events of %d bytes", length, header.count, header.size)
	}
	batch := Batch{
		Source:      uint64(header.source),
		Sequence:    uint64(header.sequence),
		Redelivered: marked && redelivered.Bool(),
		Size:        int(header.size),
		Data:        bodyOf(body.Bytes()),
	}
	if batch.Source == 0 {
		batch.Sequence = 0
	}
	if err := validateAll(batch); err != nil {
		return Batch{}, refuse(ReasonEvent, batch.Len(), "%s", err)
	}
	return batch, nil
}

func validateAll(batch Batch) error {
	for i := range batch.Len() {
		if err := batch.At(i).Validate(); err != nil {
			return fmt.Errorf("event %d of %d: %w", i, batch.Len(), err)
		}
	}
	return nil
}
