package procfs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func stat(comm string) string {
	return "25535 (" + comm + ") R 25479 25479 24148 0 -1 4194304 98 0 0 0 0 0 0 0 20 0 1 0 290551 3133440 418 18446744073709551615\n"
}

func TestParseStat(t *testing.T) {
	for _, test := range []struct {
		name, content string
		want          Stat
	}{
		{"user", stat("cat"), Stat{Comm: "cat", Parent: 25479, Start: 290551}},
		{"kernel thread", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0\n", Stat{Comm: "kthreadd", Kernel: true, Start: 3}},
		{"parentheses", stat(") R 1 (x"), Stat{Comm: ") R 1 (x", Parent: 25479, Start: 290551}},
		{"newline", stat("a\nb"), Stat{Comm: "a\nb", Parent: 25479, Start: 290551}},
		{"no UTF-8", stat("\xff\xfe"), Stat{Comm: "\xff\xfe", Parent: 25479, Start: 290551}},
		{"empty", stat(""), Stat{Parent: 25479, Start: 290551}},
		{"starts last", "1 (a) S 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 7\n", Stat{Comm: "a", Start: 7}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseStat([]byte(test.content))
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
	for content, want := range map[string]string{
		"":              "no command in parentheses",
		"1 cat S 0":     "no command in parentheses",
		"1 (cat":        "no command in parentheses",
		"1 (cat) S 0 0": "it ends after 3 of 20 fields",
		strings.Replace(stat("cat"), "290551", "x", 1):  "field 19",
		strings.Replace(stat("cat"), "25479", "-1", 1):  "field 1",
		strings.Replace(stat("cat"), "4194304", "x", 1): "field 6",
	} {
		_, err := ParseStat([]byte(content))
		assert.ErrorContains(t, err, want, content)
	}
}

func TestExecutableName(t *testing.T) {
	for target, want := range map[string]string{
		"/usr/bin/cat":           "cat",
		"/usr/bin/cat (deleted)": "cat",
		"/memfd:x (deleted)":     "memfd:x",
		"/tmp/with\nnewline":     "with\nnewline",
		"cat":                    "cat",
		"":                       "",
	} {
		assert.Equal(t, want, executableName([]byte(target)))
	}
}

func TestTicks(t *testing.T) {
	assert.EqualValues(t, 290551, Ticks(2905519999999))
	assert.EqualValues(t, 290551, Ticks(2905510000000))
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte(stat("cat")))
	f.Add([]byte(stat(") (")))
	f.Add([]byte("1 (x)"))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := ParseStat(content)
		if err != nil {
			assert.Zero(t, got)
			return
		}
		assert.Contains(t, string(content), "("+got.Comm+")")
	})
}

func FuzzExecutableName(f *testing.F) {
	f.Add([]byte("/usr/bin/cat (deleted)"))
	f.Fuzz(func(t *testing.T, target []byte) {
		assert.NotContains(t, executableName(target), "/")
	})
}
