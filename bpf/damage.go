//go:build linux

package bpf

import "fmt"

// DamageError says that what is pinned holds something that no version writes. What it can't be trusted with is left as it
// is, and all else goes on.
type DamageError struct {
	Path string // of the object
	Err  error  // what is wrong
}

// Error names the object, what is wrong, and the way out.
func (e *DamageError) Error() string {
	return fmt.Sprintf("%s is damaged: %v. Nothing of it is thrown away: to begin anew, stop the Collector and move the component's directory "+
		"out of the pin_path, to where `bpftool map dump` still shows what it holds", e.Path, e.Err)
}

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.Err }

// damaged says what is wrong with an object of a group, which is pinned at a place or nowhere.
func damaged(at place, name string, err error) error {
	path := pinName(name)
	if at.pinned() {
		path = at.path(path)
	}
	return &DamageError{Path: path, Err: err}
}
