// Package procfs reads facts about one process from /proc, and is sure that they are about that process: a
// pid alone is soon another's, so a process is known by its pid and its start.
package procfs
