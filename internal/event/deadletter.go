package event

import "unsafe"

// DeadLetter is an event that could not be delivered; struct kp_dead_letter. It is a message to people, so
// Stage and Reason are cut where they don't fit.
type DeadLetter struct {
	Event     Enriched // its first EventSize bytes
	Time      uint64   // boot-time ns, when it was given up
	EventSize uint32   // Size or EnrichedSize
	Attempts  uint32
	Stage     [32]byte // the component that gave it up, NUL-terminated
	Reason    [80]byte // NUL-terminated
}

// DeadLetterSize is the size of a DeadLetter in bytes.
const DeadLetterSize = 384

// PutDeadLetter writes the first event of a batch to room, DeadLetterSize bytes aligned to 8, as a dead letter.
func PutDeadLetter(room []byte, batch Batch, stage string, attempts int, reason string) {
	letter := (*DeadLetter)(unsafe.Pointer(unsafe.SliceData(room[:DeadLetterSize])))
	*letter = DeadLetter{Time: Clock{}.Now(), EventSize: uint32(batch.Size), Attempts: uint32(attempts)}
	copy(room[:batch.Size], batch.Data)
	SetText(letter.Stage[:], stage)
	SetText(letter.Reason[:], reason)
}

// ViewDeadLetters returns packed dead letters as they lie in b. It fails where b is no whole number of them.
func ViewDeadLetters(b []byte) ([]DeadLetter, error) { return view[DeadLetter](b) }
