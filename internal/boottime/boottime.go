// Package boottime tells the time as the kernel and its BPF programs have it: ns of the boot-time clock of the initial
// time namespace (time_namespaces(7)). In another one CLOCK_BOOTTIME and the times in /proc are shifted.
package boottime
