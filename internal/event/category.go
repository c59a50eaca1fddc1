package event

import (
	"fmt"
	"strconv"
	"strings"
)

// Category says what kind of thing happened; enum kp_category.
type Category uint8

// The categories.
const (
	CategoryUnset      Category = 0
	CategorySyscall    Category = 1
	CategoryNetwork    Category = 2
	CategoryFilesystem Category = 3
	CategoryProcess    Category = 4
)

// CategoryCount is the number of values a valid Category can have, CategoryUnset among them: the length of
// an array that is indexed by category.
const CategoryCount = 5

var categoryNames = [CategoryCount]string{"unset", "syscall", "network", "filesystem", "process"}

// Categories returns all categories an event can have, in the order of their numbers.
func Categories() []Category {
	return []Category{CategorySyscall, CategoryNetwork, CategoryFilesystem, CategoryProcess}
}

// Valid reports whether an event can have this category.
func (c Category) Valid() bool { return c > CategoryUnset && c < CategoryCount }

// String returns the category's name in configuration and telemetry, such as "filesystem".
func (c Category) String() string {
	if c < CategoryCount {
		return categoryNames[c]
	}
	return "category_" + strconv.Itoa(int(c))
}

// Priority returns the priority that an event of this category has unless a filter decides otherwise.
func (c Category) Priority() Priority {
	switch c {
	case CategoryProcess:
		return PriorityHigh
	case CategoryNetwork:
		return PriorityMedium
	default:
		return PriorityLow
	}
}

// ParseCategory is the inverse of Category.String for the categories an event can have.
func ParseCategory(name string) (Category, error) {
	for _, c := range Categories() {
		if name == categoryNames[c] {
			return c, nil
		}
	}
	return CategoryUnset, fmt.Errorf("unknown category %q: use one of %s", name, strings.Join(categoryNames[CategorySyscall:], ", "))
}

// Priority orders events by importance; enum kp_priority.
type Priority uint8

// The priorities. PriorityUnset means that no filter has decided yet.
const (
	PriorityUnset  Priority = 0
	PriorityHigh   Priority = 1
	PriorityMedium Priority = 2
	PriorityLow    Priority = 3
)

var priorityNames = [...]string{"unset", "high", "medium", "low"}

// String returns the priority's name in configuration and telemetry, such as "high".
func (p Priority) String() string {
	if int(p) < len(priorityNames) {
		return priorityNames[p]
	}
	return "priority_" + strconv.Itoa(int(p))
}

// ParsePriority is the inverse of Priority.String for high, medium and low.
func ParsePriority(name string) (Priority, error) {
	for p := PriorityHigh; p <= PriorityLow; p++ {
		if name == priorityNames[p] {
			return p, nil
		}
	}
	return PriorityUnset, fmt.Errorf("unknown priority %q: use one of %s", name, strings.Join(priorityNames[PriorityHigh:], ", "))
}
