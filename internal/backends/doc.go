// Package backends reads kernelpipe's metrics back from real backends, VictoriaMetrics and Prometheus: `make
// test-backends`. It is a module of its own, so that `go test ./...` of kernelpipe does not need them.
package backends
