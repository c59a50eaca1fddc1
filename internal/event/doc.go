// Package event is the Go view of kernelpipe's wire format, bpf/c/event.h, and the encodings that carry
// events through a collector as plog.Logs.
//
// Events are read where they lie: View and ViewEnriched turn packed bytes into slices of structs without
// a copy. The bytes have the byte order of the machine; they are meant for this machine's kernel, queues
// and collectors, not for the network. EncodingRecords is what goes elsewhere.
package event
