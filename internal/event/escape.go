package event

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes a name printable text. The kernel knows names of files, programs, users and arguments as bytes, which a
// program may choose so that they rewrite a terminal, forge a line of a log, or are no UTF-8. A backslash becomes two, and
// each byte of what does not print (controls, invisible and bidirectional formatting, a cut character) becomes \xNN.
// Different names stay different: Unescape gives the name again. A name that prints, as nearly all do, is returned as it
// is, without an allocation.
func Escape(name string) string {
	var escaped []byte
	done := 0 // what of name has gone to escaped
	for at := 0; at < len(name); {
		size := 1
		if c := name[at]; c < utf8.RuneSelf {
			if c >= ' ' && c <= '~' && c != '\\' {
				at++
				continue
			}
		} else {
			var r rune
			r, size = utf8.DecodeRuneInString(name[at:])
			if unicode.IsPrint(r) && (r != utf8.RuneError || size > 1) {
				at += size
				continue
			}
		}
		escaped = append(escaped, name[done:at]...)
		for ; size > 0; size-- {
			escaped = appendEscaped(escaped, name[at])
			at++
		}
		done = at
	}
	if escaped == nil {
		return name
	}
	return string(append(escaped, name[done:]...))
}

const hexDigits = "0123456789abcdef"

func appendEscaped(to []byte, b byte) []byte {
	if b == '\\' {
		return append(to, `\\`...)
	}
	return append(to, '\\', 'x', hexDigits[b>>4], hexDigits[b&0xf])
}

// Unescape returns the name that Escape made text of. A backslash that Escape did not write stands for itself.
func Unescape(text string) string {
	at := strings.IndexByte(text, '\\')
	if at < 0 {
		return text
	}
	name := make([]byte, 0, len(text))
	for ; at >= 0; at = strings.IndexByte(text, '\\') {
		name = append(name, text[:at]...)
		b, size := unescapeByte(text[at:])
		name = append(name, b)
		text = text[at+size:]
	}
	return string(append(name, text...))
}

// unescapeByte returns the byte that a text begins with, which starts with a backslash, and how much of the text it takes.
func unescapeByte(text string) (b byte, size int) {
	if strings.HasPrefix(text, `\\`) {
		return '\\', 2
	}
	if len(text) < 4 || text[1] != 'x' {
		return '\\', 1
	}
	high, low := strings.IndexByte(hexDigits, text[2]), strings.IndexByte(hexDigits, text[3])
	if high < 0 || low < 0 {
		return '\\', 1
	}
	return byte(high<<4 | low), 4
}
