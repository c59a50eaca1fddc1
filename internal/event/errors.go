package event

import (
	"math"
	"strconv"
)

// The highest error number of the kernel: MAX_ERRNO, include/linux/err.h.
const maxErrno = 4095

// What semantic conventions call an error.type that has no better name.
const otherError = "_OTHER"

var (
	errnoNames  = nameErrnos()
	statusNames = nameStatuses()
)

// nameStatuses spells the exit statuses, so that a Name costs no allocation.
func nameStatuses() (names [256]string) {
	for status := range names {
		names[status] = strconv.Itoa(status)
	}
	return names
}

// Failed reports whether the event is a failure: an error number of the kernel as a negative result, or the exit of a
// process with a status other than 0. Other results below 0 are successes: an offset of lseek(2), say. It is what
// errors_only selects, here and in the kernel.
func (e *Event) Failed() bool {
	if e.Category == CategoryProcess {
		return e.Result != 0
	}
	return e.Result < 0 && e.Result >= -maxErrno
}

// ErrorCode returns the error number (positive) of a failed event or the exit status of a process; 0 if
// the event is no failure. What is beyond the range of int32 becomes its maximum.
func (e *Event) ErrorCode() int32 {
	if !e.Failed() {
		return 0
	}
	if e.Result < -math.MaxInt32 || e.Result > math.MaxInt32 {
		return math.MaxInt32
	}
	return int32(max(e.Result, -e.Result))
}

// ErrorType returns the value of the attribute error.type: the name of the error number such as "ENOENT",
// for the exit of a process its status in decimal such as "137", and "" if the event is no failure.
func (e *Event) ErrorType() string { return ErrorTypeOf(e.Category, e.ErrorCode()) }

// ErrorTypeOf returns the ErrorType of an event with this category and ErrorCode. An error number that has
// no name is spelled in decimal; what is no error number and no exit status is "_OTHER", as semantic
// conventions have it, so the number of different values is bounded. Numbers below 256 cost no allocation.
func ErrorTypeOf(c Category, code int32) string {
	switch {
	case code == 0:
		return ""
	case code < 0 || code > maxErrno:
		return otherError
	case c == CategoryProcess:
		if int(code) < len(statusNames) {
			return statusNames[code]
		}
		return otherError
	case int(code) < len(errnoNames) && errnoNames[code] != "":
		return errnoNames[code]
	case int(code) < len(statusNames):
		return statusNames[code] // the same spelling
	default:
		return strconv.Itoa(int(code))
	}
}
