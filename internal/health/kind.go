package health

import "errors"

// ofOrigin is an error of what finds it again and again: a counter, a queue's depth. Its text changes from look to
// look.
type ofOrigin struct {
	error
	origin any // a pointer
}

func (e ofOrigin) Unwrap() error { return e.error }

// kind is what makes two errors tell of the same trouble.
type kind struct {
	of      any // the origin; else the text
	serious bool
}

// kindsOf returns those of what is joined in err.
func kindsOf(err error) []kind {
	switch e := err.(type) { //nolint:errorlint // only what is joined are several kinds, not what is wrapped
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var kinds []kind
		for _, one := range e.Unwrap() {
			kinds = append(kinds, kindsOf(one)...)
		}
		return kinds
	default:
		var found ofOrigin
		k := kind{of: err.Error(), serious: Serious(err) != nil}
		if errors.As(err, &found) {
			k.of = found.origin
		}
		return []kind{k}
	}
}
