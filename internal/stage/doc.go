// Package stage is the queue-backed delivery that the processors and the exporter share: work on the events
// of a batch, push what comes out into a queue in the kernel, and have the queue's workers deliver it to the
// next component.
//
// Every step is one program run or one store, and everything that counts is in the kernel: a process that is
// killed at any moment leaves nothing lost, and what the next one delivers again is recognised by its number.
package stage

//go:generate mdatagen metadata.yaml
