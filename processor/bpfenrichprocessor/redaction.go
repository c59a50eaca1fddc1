package bpfenrichprocessor

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// redaction hides secrets in arguments. Its zero value hides nothing.
type redaction struct {
	defaults bool             // the rules of redaction_rules.go
	patterns []*regexp.Regexp // what else is hidden, in each argument by itself
	options  []string         // whose values are hidden too
}

func newRedaction(config *CommandLineConfig) (redaction, error) {
	r := redaction{defaults: config.RedactDefaults, options: config.RedactOptions}
	var errs []error
	for _, pattern := range config.Redact {
		expression, err := regexp.Compile(pattern)
		if err != nil {
			errs = append(errs, fmt.Errorf("redact: %w", err))
			continue
		}
		r.patterns = append(r.patterns, expression)
	}
	for _, option := range config.RedactOptions {
		if option == "" || strings.ContainsAny(option, "= \t\n\x00") {
			errs = append(errs, fmt.Errorf("redact_options: %q is no option: use one such as --pin, -k or LICENSE_KEY, without its value", option))
		}
	}
	return r, errors.Join(errs...)
}

// redacted stands for what is hidden.
const redacted = "***"

// apply hides secrets in arguments, each of which ends with a NUL, and returns them one by one. Where they are cut, the last
// one is left out: a half may not be known for a secret, and is one.
func (r redaction) apply(arguments string, cut bool) []string {
	if cut {
		arguments = arguments[:strings.LastIndexByte(arguments, 0)+1]
	}
	if arguments == "" {
		return nil
	}
	arguments = strings.TrimSuffix(arguments, "\x00")
	s := scan{redaction: r, hidden: make([]bool, len(arguments))}
	var words []word
	for at, argument := range offsets(arguments) {
		words = append(words, newWord(argument, at))
		for _, expression := range r.patterns {
			s.hideMatches(words[len(words)-1], expression)
		}
	}
	s.command(words, 0)
	var list []string
	for at, argument := range offsets(arguments) {
		list = append(list, s.shown(argument, at))
	}
	return list
}

// offsets yields the arguments and where they begin.
func offsets(arguments string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		at := 0
		for argument := range strings.SplitSeq(arguments, "\x00") {
			if !yield(at, argument) {
				return
			}
			at += len(argument) + 1
		}
	}
}

// scan is one look at a command line.
type scan struct {
	redaction
	hidden []bool // by byte of all arguments
}

// hide hides the bytes of a word from one to before another.
func (s *scan) hide(w word, from, to int) {
	if from >= to {
		return
	}
	for at := w.at[from]; at <= w.at[to-1]; at++ { // quotes between them too
		s.hidden[at] = true
	}
}

// hideMatches hides what the groups of an expression match, or all of it if it has none.
func (s *scan) hideMatches(w word, expression *regexp.Regexp) {
	for _, match := range expression.FindAllStringSubmatchIndex(w.text, -1) {
		first := 2
		if len(match) == 2 {
			first = 0
		}
		for i := first; i < len(match); i += 2 {
			if match[i] >= 0 {
				s.hide(w, match[i], match[i+1])
			}
		}
	}
}

// shown returns the argument that begins at an offset, with each hidden part replaced.
func (s *scan) shown(argument string, at int) string {
	var b strings.Builder
	for i := range len(argument) {
		switch {
		case !s.hidden[at+i]:
			b.WriteByte(argument[i])
		case i == 0 || !s.hidden[at+i-1]:
			b.WriteString(redacted)
		}
	}
	return b.String()
}
