package bpfreceiver

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. In a configuration it is a number, or a number with a unit such as 8MiB.
type Size int64

// The units of sizes.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

var units = []struct {
	name string
	size Size
}{{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}

// UnmarshalText reads a whole number with an optional unit: B, KiB, MiB, GiB.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := string(text), Size(1)
	for _, u := range units {
		if digits, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimRight(digits, " "), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/int64(unit) || n < 0 {
		return fmt.Errorf("%q is no size: use a whole number of bytes, or one with a unit such as 8MiB (B, KiB, MiB, GiB)", text)
	}
	*s = Size(n) * unit
	return nil
}

// MarshalText is String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String returns the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return "0B"
}
