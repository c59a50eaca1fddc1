package event

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/plog"
)

// Encoding is a way to carry events as plog.Logs. Decode understands all of them.
type Encoding string

// The encodings.
const (
	// EncodingFrames carries a batch as one log record, a frame, whose body is the packed events. It is
	// for kernelpipe's own components, on one machine.
	EncodingFrames Encoding = "frames"
	// EncodingRecords carries each event as a log record of its own, with attributes by semantic
	// conventions. It is for everyone else.
	EncodingRecords Encoding = "records"
)

// scopeName is the instrumentation scope of all logs that carry events.
const scopeName = "github.com/kernelpipe/kernelpipe"

// Validate refuses everything that is no encoding.
func (e Encoding) Validate() error {
	if e != EncodingFrames && e != EncodingRecords {
		return fmt.Errorf("%q is unknown: use %s or %s", string(e), EncodingFrames, EncodingRecords)
	}
	return nil
}

// Encode copies a batch of valid events (Event.Validate) into logs. The clock is used by EncodingRecords only.
func Encode(encoding Encoding, batch Batch, clock Clock) plog.Logs {
	if encoding == EncodingRecords {
		return encodeRecords(batch, clock)
	}
	logs, body := newFrame(batch.Source, batch.Sequence, batch.Redelivered, batch.Size, batch.Len())
	body.Append(batch.Data...)
	return logs
}
