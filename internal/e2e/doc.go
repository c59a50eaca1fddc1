// Package e2e tests the collector as users build and run it: `make build` makes it, the tests start it as a
// process of its own, with a configuration in YAML, this host's real events, and a backend that speaks OTLP.
// There is nothing here but tests.
package e2e
