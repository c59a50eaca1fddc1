package bpfenrichprocessor

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRedaction(t *testing.T) {
	for _, test := range []struct {
		name, arguments string
		patterns, want  []string
	}{
		{"nothing", "", nil, nil},
		{"no patterns", "a\x00b c\x00\x00d\x00", nil, []string{"a", "b c", "", "d"}},
		{"no last NUL", "a\x00b", nil, []string{"a", "b"}},
		{"whole match", "a\x00xyz", []string{"y"}, []string{"a", "x***z"}},
		{"group", "a\x00key=xyz", []string{"key=(.*)"}, []string{"a", "key=***"}},
		{"group that takes no part", "a\x00b", []string{"a|(c)"}, []string{"a", "b"}},
		{"over two arguments", "a\x00bc\x00d", []string{"b.*"}, []string{"a", "***", "***"}},
		{"not UTF-8", "\xff\x00\xfe=\xfd", []string{"="}, []string{"\xff", "\xfe***\xfd"}},
		{"option", "psql\x00--password\x00hunter2\x00-h\x00db", defaultRedact(), []string{"psql", "--password", "***", "-h", "db"}},
		{"option with =", "x\x00--db-password=hunter2\x00y", defaultRedact(), []string{"x", "--db-password=***", "y"}},
		{"variable", "env\x00AWS_SECRET_ACCESS_KEY=abc\x00ls", defaultRedact(), []string{"env", "AWS_SECRET_ACCESS_KEY=***", "ls"}},
		{"token", "curl\x00-H\x00X-Api-Token: abc", defaultRedact(), []string{"curl", "-H", "X-Api-Token: ***"}},
		{"URL", "pg\x00postgres://me:pw@host/db", defaultRedact(), []string{"pg", "postgres://me:***@host/db"}},
		{"no secret", "ls\x00-l\x00/tmp", defaultRedact(), []string{"ls", "-l", "/tmp"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := newRedaction(test.patterns)
			require.NoError(t, err)
			assert.Equal(t, test.want, r.apply(test.arguments))
		})
	}
}

func FuzzRedaction(f *testing.F) {
	f.Add("psql\x00--password\x00hunter2\x00")
	r, err := newRedaction(defaultRedact())
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, arguments string) {
		got := r.apply(arguments)
		if trimmed := strings.TrimSuffix(arguments, "\x00"); trimmed != "" {
			assert.Len(t, got, 1+strings.Count(trimmed, "\x00"))
		}
	})
}
