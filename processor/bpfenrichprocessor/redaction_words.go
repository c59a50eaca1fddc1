package bpfenrichprocessor

import "strings"

// word is an argument, or a word of a command line that is one, with its quotes taken off.
type word struct {
	text string
	at   []int // by byte of text, where it is in all arguments
}

func newWord(text string, at int) word {
	w := word{text, make([]int, len(text))}
	for i := range w.at {
		w.at[i] = at + i
	}
	return w
}

func (w word) from(at int) word { return word{w.text[at:], w.at[at:]} }

// split divides a command line into simple commands and their words, as a shell does.
func split(line word) (commands [][]word) {
	var words []word
	var current word
	started := false
	endWord := func() {
		if started {
			words = append(words, current)
		}
		current, started = word{}, false
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	quote := byte(0)
	for i := 0; i < len(line.text); i++ {
		c := line.text[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
			continue
		case c == '\\' && quote != '\'' && i+1 < len(line.text) && (quote == 0 || strings.IndexByte("\"\\$`\n", line.text[i+1]) >= 0):
			i++
			c = line.text[i]
		case quote != 0:
		case c == '"' || c == '\'':
			quote, started = c, true
			continue
		case strings.IndexByte(" \t<>", c) >= 0:
			endWord()
			continue
		case strings.IndexByte(";|&\n()`", c) >= 0:
			endCommand()
			continue
		}
		started = true
		current.text += string([]byte{c})
		current.at = append(current.at, line.at[i])
	}
	endCommand()
	return commands
}

// ends returns where one of the bytes is without a backslash before it, or the end of the text.
func ends(text, bytes string) int {
	for at := 0; at < len(text); at++ {
		if text[at] == '\\' {
			at++
		} else if strings.IndexByte(bytes, text[at]) >= 0 {
			return at
		}
	}
	return len(text)
}

// openingQuote returns the quote that a text begins with, and the backslashes before it.
func openingQuote(text string) string {
	at := len(text) - len(strings.TrimLeft(text, `\`))
	if at < len(text) && (text[at] == '"' || text[at] == '\'') {
		return text[:at+1]
	}
	return ""
}

// closing returns where a quote closes, or the end of the text; one with more backslashes before it does not.
func closing(text, quote string) int {
	for at := 0; at < len(text); at++ {
		backslashes := 0
		for at < len(text) && text[at] == '\\' {
			backslashes++
			at++
		}
		if at < len(text) && text[at] == quote[len(quote)-1] && backslashes == len(quote)-1 {
			return at - backslashes
		}
	}
	return len(text)
}
