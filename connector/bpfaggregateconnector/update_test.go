package bpfaggregateconnector

import "flag"

var update = flag.Bool("update", false, "write the golden files and the tables of README.md instead of comparing with them")
