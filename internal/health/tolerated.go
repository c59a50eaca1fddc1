package health

import "errors"

// tolerated is an error that is worth a warning, and no other status.
type tolerated struct{ error }

func (t tolerated) Unwrap() error { return t.error }

// Tolerated makes an error one that Watch logs, and that is no reason for another status.
func Tolerated(err error) error { return tolerated{err} }

// Serious returns err without what is tolerated of it; nil: nothing else.
func Serious(err error) error {
	switch e := err.(type) { //nolint:errorlint // wrapped as a whole, an error is serious
	case tolerated:
		return nil
	case interface{ Unwrap() []error }:
		var errs []error
		for _, one := range e.Unwrap() {
			errs = append(errs, Serious(one))
		}
		return errors.Join(errs...)
	default:
		return err
	}
}
