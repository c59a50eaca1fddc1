//go:build linux

package bpf

// The maps that hold a section of global variables; the generator makes no names for them.
const (
	probesMapDataSettings     = ".data.settings"
	probesMapDataSelf         = ".data.self"
	processTableMapDataTable  = ".data.table"
	simulateMapDataSettings   = ".data.settings"
	simulateMapDataSimulation = ".data.simulation"
)
