package match

import (
	"github.com/kernelpipe/kernelpipe/internal/event"
)

// condition is a bit for each condition that a Config can set.
type condition uint8

const (
	byCategory condition = 1 << iota
	byPriority
	byErrors
	byDuration
	byPID
	byUID
	byOperation
	byCommand
)

// Matcher is a compiled Config. The zero Matcher matches every event. It does not change, so any number of
// goroutines may use it.
type Matcher struct {
	conditions  condition
	categories  uint8 // bit n: category n
	priorities  uint8 // bit n: priority n
	minDuration uint64
	pidMin      uint32
	pidMax      uint32
	uidMin      uint32
	uidMax      uint32
	commands    [][event.CommLen]byte
	operations  [event.CategoryCount][MaxSyscalls / 64]uint64 // bit n: operation n
}

// Compile validates the Config and prepares it.
func (c *Config) Compile() (Matcher, error) {
	if err := c.Validate(); err != nil {
		return Matcher{}, err
	}
	var m Matcher
	// The errors of the parsers are Validate's, which has found none.
	categories, _ := parseAll("category", c.Category, event.ParseCategory)
	for _, category := range categories {
		m.conditions |= byCategory
		m.categories |= 1 << category
	}
	priorities, _ := parseAll("priority", c.Priority, event.ParsePriority)
	for _, priority := range priorities {
		m.conditions |= byPriority
		m.priorities |= 1 << priority
	}
	if len(c.Operation) > 0 {
		m.conditions |= byOperation
		m.compileOperations(c.Operation)
	}
	if c.ErrorsOnly {
		m.conditions |= byErrors
	}
	if c.MinDuration > 0 {
		m.conditions |= byDuration
		m.minDuration = uint64(c.MinDuration)
	}
	if c.PID.IsSet() {
		m.conditions |= byPID
		m.pidMin, m.pidMax = c.PID.Bounds()
	}
	if c.UID.IsSet() {
		m.conditions |= byUID
		m.uidMin, m.uidMax = c.UID.Bounds()
	}
	for _, name := range c.Command {
		m.conditions |= byCommand
		var command [event.CommLen]byte
		copy(command[:], name)
		m.commands = append(m.commands, command)
	}
	return m, nil
}

// compileOperations notes a name in each category that has it; the other categories are kept out by theirs.
func (m *Matcher) compileOperations(names []string) {
	for _, name := range names {
		for _, category := range event.Categories() {
			if operation, ok := event.ParseOperation(category, name); ok && operation < MaxSyscalls {
				m.operations[category][operation/64] |= 1 << (operation % 64)
			}
		}
	}
}

// Match reports whether the event satisfies every condition. A priority that no filter has set yet is that
// of the event's category.
func (m *Matcher) Match(e *event.Event) bool {
	set := m.conditions
	if set&byCategory != 0 && m.categories&(1<<e.Category) == 0 {
		return false
	}
	if set&byPID != 0 && (e.Process.TGID < m.pidMin || e.Process.TGID > m.pidMax) {
		return false
	}
	if set&byPriority != 0 && !m.hasPriority(e) {
		return false
	}
	if set&byErrors != 0 && !e.Failed() {
		return false
	}
	if set&byDuration != 0 && e.Duration < m.minDuration {
		return false
	}
	if set&byUID != 0 && (e.Process.UID < m.uidMin || e.Process.UID > m.uidMax) {
		return false
	}
	if set&byOperation != 0 && !m.hasOperation(e) {
		return false
	}
	return set&byCommand == 0 || m.hasCommand(e)
}

func (m *Matcher) hasPriority(e *event.Event) bool {
	priority := e.Priority
	if priority == event.PriorityUnset {
		priority = e.Category.Priority()
	}
	return m.priorities&(1<<priority) != 0
}

func (m *Matcher) hasOperation(e *event.Event) bool {
	if e.Category >= event.CategoryCount || e.Operation >= MaxSyscalls {
		return false
	}
	return m.operations[e.Category][e.Operation/64]&(1<<(e.Operation%64)) != 0
}

func (m *Matcher) hasCommand(e *event.Event) bool {
	for i := range m.commands {
		if m.commands[i] == e.Process.Comm {
			return true
		}
	}
	return false
}
