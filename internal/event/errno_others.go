//go:build !linux

package event

// Linux's error numbers are not those of this system, so they keep their numbers.
func nameErrnos() []string { return nil }
