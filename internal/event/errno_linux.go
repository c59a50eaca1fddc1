package event

import (
	"golang.org/x/sys/unix"
)

func nameErrnos() (names [unix.EHWPOISON + 1]string) {
	for number := range names {
		names[number] = unix.ErrnoName(unix.Errno(number))
	}
	names[unix.EOPNOTSUPP] = "EOPNOTSUPP" // the kernel's name; ENOTSUP is the C library's for the same number
	return names
}
