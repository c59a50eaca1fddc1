// Package syscalls knows the names and numbers of the Linux system calls of the architecture it is
// compiled for. On other systems than linux/amd64 and linux/arm64 it knows none.
package syscalls

import "slices"

//go:generate go run ./generate

var numbers = index()

func index() map[string]int {
	numbers := make(map[string]int, len(table))
	for number, name := range table {
		if name != "" {
			numbers[name] = number
		}
	}
	return numbers
}

// Number returns the number of the system call that the kernel's unistd.h calls __NR_<name>.
func Number(name string) (int, bool) {
	number, ok := numbers[name]
	return number, ok
}

// Name returns the name of system call number, such as "openat".
func Name(number int) (string, bool) {
	if number < 0 || number >= len(table) || table[number] == "" {
		return "", false
	}
	return table[number], true
}

// Names returns the names of all system calls, in alphabetical order.
func Names() []string {
	names := make([]string, 0, len(numbers))
	for name := range numbers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
