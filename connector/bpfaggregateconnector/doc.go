// Package bpfaggregateconnector turns kernel events into metrics. What it has added up is in a BPF map, the stats,
// so that totals outlive the process and are exact whenever it is killed.
//
//   - config.go, metric.go, dimension.go: what the user asks for
//   - view.go: what it takes to serve that: metrics with the same dimensions and conditions share a view
//   - aggregator: from events to deltas of series, on the event path
//   - exporter: from the totals of series to metrics, at an interval
//   - factory_linux.go, connector_linux.go: the component that holds both together
package bpfaggregateconnector

//go:generate mdatagen metadata.yaml
//go:generate go test -run TestDocumentation -update .
