package bpfenrichprocessor

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// defaultRedact has what usually is a secret: the value of an option or variable that is called so, and the password in
// a URL.
func defaultRedact() []string {
	return []string{
		`(?i)(?:password|passwd|pwd|passphrase|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credential)[a-z_-]*(?:=|:| )\s*(\S+)`,
		`[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@]*:([^/\s@]+)@`,
	}
}

// redaction hides secrets in arguments.
type redaction []*regexp.Regexp

func newRedaction(patterns []string) (redaction, error) {
	var r redaction
	var errs []error
	for _, pattern := range patterns {
		expression, err := regexp.Compile(pattern)
		if err != nil {
			errs = append(errs, fmt.Errorf("redact: %w", err))
			continue
		}
		r = append(r, expression)
	}
	return r, errors.Join(errs...)
}

// redacted stands for what is hidden.
const redacted = "***"

// apply hides what the expressions match in arguments, each of which ends with a NUL; the last may be cut. It returns them
// one by one.
func (r redaction) apply(arguments string) []string {
	arguments = strings.TrimSuffix(arguments, "\x00")
	if arguments == "" {
		return nil
	}
	line := strings.ReplaceAll(arguments, "\x00", " ")
	hidden := make([]bool, len(line))
	for _, expression := range r {
		for _, match := range expression.FindAllStringSubmatchIndex(line, -1) {
			first := 2 // what its groups match
			if len(match) == 2 {
				first = 0
			}
			for i := first; i < len(match); i += 2 {
				for at := match[i]; at >= 0 && at < match[i+1]; at++ {
					hidden[at] = true
				}
			}
		}
	}
	var list []string
	var argument strings.Builder
	for at := range len(arguments) {
		switch {
		case arguments[at] == 0:
			list = append(list, argument.String())
			argument.Reset()
		case !hidden[at]:
			argument.WriteByte(arguments[at])
		case at == 0 || !hidden[at-1] || arguments[at-1] == 0:
			argument.WriteString(redacted)
		}
	}
	return append(list, argument.String())
}
