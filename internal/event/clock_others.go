//go:build !linux

package event

func bootOffset() (int64, error) { return 0, nil }
