// Package cgroupfs finds the path of a cgroup v2 by its id, also when none of its processes is left.
package cgroupfs
