package event

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"go.opentelemetry.io/collector/pdata/plog"
)

// Reason says in a word why a log record holds no events; it is fit for a metric attribute.
type Reason string

// The reasons.
const (
	// ReasonForeign: the record is neither a frame nor the record of an event.
	ReasonForeign Reason = "foreign"
	// ReasonFormat: a frame of another format, or one that lacks what a frame has.
	ReasonFormat Reason = "format"
	// ReasonSize: a frame whose body is not what its attributes announce.
	ReasonSize Reason = "size"
	// ReasonEvent: an event of another version, of an unknown category, or with an unreadable attribute.
	ReasonEvent Reason = "event"
)

// RecordError says why a log record was refused.
type RecordError struct {
	Reason Reason
	// Events is how many events are lost with the record, as far as that is known; 0 for a foreign one.
	Events int
	Detail string
}

// Error implements error.
func (e *RecordError) Error() string {
	return fmt.Sprintf("log record refused (%s): %s", e.Reason, e.Detail)
}

// ReasonOf returns the reason of a RecordError, ReasonForeign for any other error.
func ReasonOf(err error) Reason {
	var refused *RecordError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ReasonForeign
}

func refuse(reason Reason, events int, format string, args ...any) error {
	return &RecordError{Reason: reason, Events: events, Detail: fmt.Sprintf(format, args...)}
}

// Decode walks the records of logs in order, and shows the events in them to visit and what holds none to
// foreign, with a RecordError that says why. A record that is refused does not affect the others; a frame
// with one bad event is refused as a whole.
//
// Each frame is one batch. Records of EncodingRecords that follow each other are one batch as long as they
// have the same event size; refused records between them do not separate them. Empty frames are not shown.
// The batch's data may be that of the logs, which others may have too: visit must not change it, nor keep it.
//
// An error from visit ends the walk and is returned.
func Decode(logs plog.Logs, visit func(Batch) error, foreign func(plog.LogRecord, error)) error {
	d := decoder{visit: visit}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			records := scope.LogRecords()
			for i := range records.Len() {
				refused, err := d.record(records.At(i), records.Len()-i)
				if err != nil {
					return err
				}
				if refused != nil {
					foreign(records.At(i), refused)
				}
			}
		}
	}
	return d.flush()
}

type decoder struct {
	visit   func(Batch) error
	pending Batch // of event records
	event   Enriched
}

// record visits a frame or keeps an event for flush; left is how many records may follow, this one among them.
func (d *decoder) record(record plog.LogRecord, left int) (refused, err error) {
	switch name := record.EventName(); {
	case name == FrameEventName:
		batch, refused := decodeFrame(record)
		if refused != nil || batch.Len() == 0 {
			return refused, nil
		}
		if err := d.flush(); err != nil {
			return nil, err
		}
		return nil, d.visit(batch)
	case strings.HasPrefix(name, recordEventPrefix):
		size, refused := decodeRecord(record, &d.event)
		if refused != nil {
			return refused, nil
		}
		return nil, d.keep(size, left)
	default:
		return refuse(ReasonForeign, 0, "event name %q is neither %s nor %s<category>.<operation>", name, FrameEventName, recordEventPrefix), nil
	}
}

// keep adds the first size bytes of d.event to the pending batch.
func (d *decoder) keep(size, left int) error {
	if d.pending.Size != size {
		if err := d.flush(); err != nil {
			return err
		}
		d.pending = Batch{Size: size, Data: make([]byte, 0, left*size)}
	}
	d.pending.Data = append(d.pending.Data, unsafe.Slice((*byte)(unsafe.Pointer(&d.event)), size)...)
	return nil
}

func (d *decoder) flush() error {
	if len(d.pending.Data) == 0 {
		return nil
	}
	batch := d.pending
	d.pending = Batch{}
	return d.visit(batch)
}
