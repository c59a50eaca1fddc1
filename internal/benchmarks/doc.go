// Package benchmarks compares kernelpipe with what else the Collector offers for the same work. It is a module of
// its own, so that kernelpipe does not depend on what it is compared with.
package benchmarks
