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
		cut             bool
		config          CommandLineConfig
		want            []string
	}{
		{"nothing", "", false, CommandLineConfig{RedactDefaults: true}, nil},
		{"nothing whole", "abc", true, CommandLineConfig{}, nil},
		{"no rules", "a\x00b c\x00\x00--password=d\x00", false, CommandLineConfig{}, []string{"a", "b c", "", "--password=d"}},
		{"no last NUL", "a\x00b", false, CommandLineConfig{}, []string{"a", "b"}},
		{"whole match", "a\x00xyz", false, CommandLineConfig{Redact: []string{"y"}}, []string{"a", "x***z"}},
		{"group", "a\x00key=xyz", false, CommandLineConfig{Redact: []string{"key=(.*)"}}, []string{"a", "key=***"}},
		{"group that takes no part", "a\x00b", false, CommandLineConfig{Redact: []string{"a|(c)"}}, []string{"a", "b"}},
		{"each argument by itself", "a\x00b c\x00d", false, CommandLineConfig{Redact: []string{"b.*"}}, []string{"a", "***", "d"}},
		{"not UTF-8", "\xff\x00\xfe=\xfd", false, CommandLineConfig{Redact: []string{"="}}, []string{"\xff", "\xfe***\xfd"}},
		{"options", "a\x00--pin\x001\x00--pin=2\x00-k3\x00KEY=4\x00--pins=5\x00", false, CommandLineConfig{RedactOptions: []string{"--pin", "-k", "KEY"}},
			[]string{"a", "--pin", "***", "--pin=***", "-k***", "KEY=***", "--pins=5"}},
		{"options in a command line", "sh\x00-c\x00x --pin 1 y", false, CommandLineConfig{RedactDefaults: true, RedactOptions: []string{"--pin"}},
			[]string{"sh", "-c", "x --pin *** y"}},
		{"rules and patterns", "a\x00--token\x00b\x00card 1234", false, CommandLineConfig{RedactDefaults: true, Redact: []string{`\d+`}},
			[]string{"a", "--token", "***", "card ***"}},
		{"cut secret", "psql\x00postgres://me:hunt", true, CommandLineConfig{RedactDefaults: true}, []string{"psql"}},
		{"cut behind an option", "app\x00--password\x00hunt", true, CommandLineConfig{RedactDefaults: true}, []string{"app", "--password"}},
		{"cut between arguments", "app\x00--password\x00hunter2\x00", true, CommandLineConfig{RedactDefaults: true}, []string{"app", "--password", "***"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := newRedaction(&test.config)
			require.NoError(t, err)
			assert.Equal(t, test.want, r.apply(test.arguments, test.cut))
		})
	}
}

// secretIn has command lines in which a secret stands for @S@, whatever it is made of.
var secretIn = []string{
	"app¦--password¦@S@¦x", "app¦--token=@S@¦x", "env¦API_KEY=@S@¦x", "curl¦-u¦user:@S@¦h", "mysql¦-p@S@¦db", "sshpass¦-p@S@¦x", "redis-cli¦-a¦@S@",
	"openssl¦enc¦-k¦@S@", "openssl¦enc¦-passin¦pass:@S@", "kubectl¦create¦--from-literal=a=@S@", "docker¦login¦-p¦@S@¦r", "htpasswd¦-b¦f¦u¦@S@",
	"smbclient¦-U¦user%@S@¦x", "ldapsearch¦-w¦@S@¦x", "app¦password¦=¦@S@¦x", "app¦postgres://u:@S@@host/db",
}

// FuzzRedaction: whatever the arguments are, they stay as many; and a secret is not shown, whatever it is.
func FuzzRedaction(f *testing.F) {
	for _, test := range secretLines {
		f.Add(strings.ReplaceAll(test.line, "¦", "\x00"), "hunter2")
	}
	for _, secret := range []string{"a b", `"a"b'`, "a@b/c:d", "=x=", `\'\"\`, "-x-y", "$(a;b|c)&d", "{[]}", "pässwörd", "\xff\xfe", "%,:"} {
		f.Add("x", secret)
	}
	r, err := newRedaction(&CommandLineConfig{RedactDefaults: true, Redact: []string{"x(y)"}, RedactOptions: []string{"--pin"}})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, arguments, secret string) {
		got := r.apply(arguments, false)
		if arguments != "" {
			assert.Len(t, got, 1+strings.Count(strings.TrimSuffix(arguments, "\x00"), "\x00"))
		}
		if len(secret) < 2 || isOption(secret) || strings.ContainsAny(secret, "\x00\n\t *¦") {
			return
		}
		for _, line := range secretIn {
			if strings.Contains(line+"***", secret) {
				continue
			}
			assert.NotContains(t, shown(r, strings.ReplaceAll(line, "@S@", secret)), secret, "%s: %q", line, secret)
		}
	})
}

func BenchmarkRedaction(b *testing.B) {
	r, err := newRedaction(&CommandLineConfig{RedactDefaults: true})
	require.NoError(b, err)
	for name, line := range map[string]string{
		"short":  "ls\x00-l\x00/tmp\x00",
		"client": "mysql\x00-u\x00root\x00-psecret\x00db\x00",
		"line":   "sh\x00-c\x00cd /srv && PGPASSWORD='a b' psql -h db -c 'SELECT 1' postgres://me:pw@host/db | tee /tmp/out\x00",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				r.apply(line, false)
			}
		})
	}
}
