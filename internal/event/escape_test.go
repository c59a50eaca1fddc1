package event

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestEscape(t *testing.T) {
	for name, want := range map[string]string{
		"":                 "",
		"/usr/bin/curl":    "/usr/bin/curl",
		"Web Content":      "Web Content",
		"schön 猫 😀":        "schön 猫 😀",
		"a\nb\r\t\a":       `a\x0ab\x0d\x09\x07`,
		"\x1b[2J\x7f":      `\x1b[2J\x7f`,
		"\u009b2J\u0085":   `\xc2\x9b2J\xc2\x85`,
		`C:\x1b`:           `C:\\x1b`,
		"gpj\u202etxt":     `gpj\xe2\x80\xaetxt`,
		"\u2066a\u2069":    `\xe2\x81\xa6a\xe2\x81\xa9`,
		"a\u200bb\ufeff":   `a\xe2\x80\x8bb\xef\xbb\xbf`,
		"a\u00a0b\u2028":   `a\xc2\xa0b\xe2\x80\xa8`,
		"\U000e0041":       `\xf3\xa0\x81\x81`,
		"cut \xe4\xb8":     `cut \xe4\xb8`,
		"\xe4\xb8 goes on": `\xe4\xb8 goes on`,
		"\ufffd\xff":       "\ufffd" + `\xff`,
		"\x00":             `\x00`,
		"\xed\xa0\x80":     `\xed\xa0\x80`,
	} {
		assert.Equal(t, want, Escape(name), "%q", name)
		assert.Equal(t, name, Unescape(Escape(name)))
	}
}

func TestUnescape(t *testing.T) {
	for text, want := range map[string]string{ // what Escape does not write
		`\`: `\`, `a\`: `a\`, `\x`: `\x`, `\x1`: `\x1`, `\x1g`: `\x1g`, `\X1b`: `\X1b`, `\x1B`: `\x1B`, `\n`: `\n`, `\\\`: `\\`, `\x5c\x5c`: `\\`,
	} {
		assert.Equal(t, want, Unescape(text), "%q", text)
	}
}

func TestEscapeCostsNoAllocation(t *testing.T) {
	for _, name := range []string{"/usr/lib/postgresql/15/bin/postgres", "größe-猫-😀"} {
		assert.Zero(t, testing.AllocsPerRun(100, func() { Unescape(Escape(name)) }), name)
	}
}

func FuzzEscape(f *testing.F) {
	for _, name := range hostileNames() {
		f.Add(name, name+"x")
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		text := Escape(one)
		assert.True(t, utf8.ValidString(text))
		assert.False(t, strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", text)
		assert.Equal(t, one, Unescape(text))
		assert.Equal(t, one == other, text == Escape(other))
		assert.Equal(t, one == "", text == "")
	})
}

func BenchmarkEscape(b *testing.B) {
	for name, text := range map[string]string{"ascii": "/usr/lib/postgresql/15", "utf-8": "größe-猫", "controls": "a\x1b[2J\n"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				Escape(text)
			}
		})
	}
}
