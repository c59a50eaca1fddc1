package users

import "sync/atomic"

// Directory keeps up with a passwd file. Any number of goroutines may ask it; one refreshes it.
type Directory struct {
	path  string
	table atomic.Pointer[Table]
}

// NewDirectory returns an empty directory for the passwd file at path.
func NewDirectory(path string) *Directory { return &Directory{path: path} }

// Table returns the users as of the last Refresh; nil, in which nobody has a name, before the first.
func (d *Directory) Table() *Table { return d.table.Load() }

// Refresh loads the file if it has changed. Upon an error the users stay as they were.
func (d *Directory) Refresh() error {
	if old := d.Table(); old != nil && !old.Outdated(d.path) {
		return nil
	}
	table, err := Load(d.path)
	if err != nil {
		return err
	}
	d.table.Store(table)
	return nil
}
