package bpfenrichprocessor

import (
	"regexp"
	"strings"
	"unicode"
)

// What is hidden by default, as tables. The code that goes by them is in redaction_scan.go.

// form says where the secret is in the value of an option.
type form uint8

const (
	none        form = iota
	harmless         // there is none: the value is not looked at as a command either
	value            // all of it, in the next argument, behind =, or attached to a short option
	content          // the same, unless it is the path of a file
	attached         // all of it, and it is never the next argument: -pSECRET, --password=SECRET
	separate         // all of it, and it is always the next argument: -k SECRET
	credentials      // behind the first colon: user:SECRET
	account          // the same, unless it is 1000:1000
	userinfo         // between the first colon and the last @: user:SECRET@host
	percent          // behind the first %: user%SECRET
	comma            // behind the first comma: user,SECRET
	login            // user/SECRET@database
	source           // behind pass:, unless it says where the secret is: file:, env:, fd:, stdin
	literal          // behind the first =: name=SECRET
	header           // behind the colon of a header that has a secret
	line             // it is a command line
	last             // the last argument that is no option
	named            // the argument after the name of a secret, which is no option here: set password SECRET
)

// rule is about options of programs, with spaces between them. A program is a base name, or that and a word that
// follows (docker:login). No option stands for each argument that is no option.
type rule struct {
	programs, options string
	form              form
}

// rules has the options of well-known clients whose names do not say that they are secrets, and those of which the
// names would say so wrongly. An option is listed as harmless if it takes a value and others of its program can be
// attached to their values.
var rules = []rule{
	{"sh bash dash zsh ksh ash su script flock", "-c --command", line},
	{"mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mysqlbinlog mysqlslap mariadb mariadb-dump mariadb-admin", "-p --password", attached},
	{"mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mysqlbinlog mysqlslap mariadb mariadb-dump mariadb-admin", "-u -h -P -D -S -e -o -r -w --user", harmless},
	{"mysqladmin", "password", separate},
	{"mycli mysqlsh xtrabackup", "-p", value},
	{"psql pg_dump pg_dumpall pg_restore pg_basebackup pg_isready createdb dropdb createuser dropuser vacuumdb reindexdb clusterdb", "--password", attached},
	{"mongo mongosh mongodump mongorestore mongoexport mongoimport mongostat mongotop", "-p", value},
	{"mongo mongosh mongodump mongorestore mongoexport mongoimport mongostat mongotop", "-u -d -c -h", harmless},
	{"redis-cli valkey-cli", "-a", value},
	{"redis-cli valkey-cli", "requirepass masterauth", separate},
	{"redis-cli valkey-cli", "-h -p -n -u --user", harmless},
	{"redis-cli:auth valkey-cli:auth", "", value},
	{"sqlcmd bcp isql tsql", "-P", value},
	{"sqlplus rman expdp impdp sqlldr", "", login},
	{"cqlsh", "-p", value},
	{"clickhouse-client clickhouse", "--password", value},
	{"influx", "-t", value},

	{"curl", "-u --user -U --proxy-user -E --cert", credentials},
	{"curl", "-H --header --proxy-header", header},
	{"curl", "-b --cookie", literal},
	{"curl", "-x --proxy --preproxy --socks5", userinfo},
	{"curl", "-o -X -A -e -m -w -T -K -c -r -y -Y -z -C -D -P -Q -t -d -F --data --data-raw --data-binary --data-urlencode --json --form", harmless},
	{"wget", "--header", header},
	{"wget", "--user", harmless},
	{"http https xh", "-a --auth", credentials},
	{"http https xh", "", header},
	{"ab", "-A -P", credentials},
	{"ab", "-H", header},
	{"ab", "-C", literal},
	{"lftp ncftp", "-u", comma},
	{"ncftpput ncftpget", "-p", value},

	{"openssl", "-pass -passin -passout -password", source},
	{"openssl", "-k -K", separate},
	{"openssl:passwd", "", value},
	{"keytool jarsigner", "-storepass -keypass -srcstorepass -deststorepass -srckeypass -destkeypass -new", separate},
	{"ssh-keygen", "-N -P", value},
	{"ssh-keygen", "-b -C -f -t -O -I -n", harmless},
	{"sshpass", "-p", value},
	{"sshpass", "-f -d -P", harmless},
	{"zip unzip zipcloak", "-P", value},
	{"7z 7za 7zr 7zz rar unrar", "-p -hp", attached},
	{"gpg gpg2", "--passphrase", value},
	{"htpasswd", "-b", last},
	{"htpasswd", "-C", harmless},
	{"mkpasswd", "", value},
	{"mkpasswd", "-m -S -R --method --salt --rounds", harmless},
	{"useradd usermod groupadd groupmod", "-p", value},
	{"useradd usermod groupadd groupmod", "-b -c -d -e -f -g -G -k -s -u -l", harmless},

	{"smbclient smbget rpcclient net smbcacls smbcquotas nmblookup winexe wmic", "-U --user", percent},
	{"ldapsearch ldapadd ldapmodify ldapdelete ldapcompare ldapmodrdn ldapwhoami ldappasswd ldapexop", "-w", value},
	{"ldappasswd", "-a -s", value},
	{"ldapsearch ldapadd ldapmodify ldapdelete ldapcompare ldapmodrdn ldapwhoami ldappasswd ldapexop", "-D -H -b -h -p -y -f -U -o -l -z", harmless},
	{"ipmitool", "-P -k", value},
	{"ipmitool", "-H -I -U -L -f", harmless},
	{"snmpget snmpwalk snmpset snmpgetnext snmpbulkget snmpbulkwalk snmptrap snmptable", "-c -A -X", value},
	{"snmpget snmpwalk snmpset snmpgetnext snmpbulkget snmpbulkwalk snmptrap snmptable", "-v -u -l -a -x -O -t -r -m -M", harmless},
	{"xfreerdp wlfreerdp xfreerdp3", "/p: /gp:", attached},
	{"rdesktop", "-p", value},
	{"nmcli", "", named},
	{"rclone:obscure", "", value},

	{"docker podman nerdctl buildah", "-u --user --name --secret --hostname -h -p --publish -w -v --volume", harmless},
	{"docker podman nerdctl buildah", "-e --env --build-arg -l --label", none},
	{"docker:login podman:login nerdctl:login buildah:login skopeo:login helm:login crane:login oras:login oc:login az:login", "-p", value},
	{"skopeo podman buildah oras", "--creds --src-creds --dest-creds", credentials},
	{"kubectl oc", "--from-literal", literal},
	{"kubectl oc", "--secret --token-audience", harmless},
	{"aws", "--secret-string --secret-binary --sse-c-key --plaintext --private-key", value},
	{"aws:put-parameter", "--value", value},
	{"aws:set npm:set yarn:set pnpm:set pip:set", "", named},
	{"git:config", "", named},
	{"gh:secret", "-b --body", value},
	{"vault:login", "", value},
	{"vault:put vault:patch vault:write fly:secrets flyctl:secrets heroku:config:set", "", literal},

	// Of these -u is no user.
	{"rsync socat nc ncat sort diff patch python python3 perl git cp mv tar systemd-run journalctl", "-u", none},
	{"chown chgrp install", "-u --user", harmless},
}

// ambiguous are programs whose names often are something else: behind another program they are no program.
var ambiguous = set(`net script http https ab fly`)

// everywhere has options that mean the same in most programs.
var everywhere = map[string]form{"-u": account, "--user": account, "--userpwd": credentials, "--proxy-user": credentials, "--auth": credentials}

// ruleset has the rules by program and option.
type ruleset map[string]map[string]form

var byProgram = arrange(rules)

func arrange(rules []rule) ruleset {
	all := ruleset{}
	for _, r := range rules {
		for _, program := range strings.Fields(r.programs) {
			base, _, _ := strings.Cut(program, ":")
			for _, name := range []string{base, program} {
				if all[name] == nil {
					all[name] = map[string]form{}
				}
			}
			for _, option := range strings.Split(r.options, " ") { // of no options, the empty one
				all[program][option] = r.form
			}
		}
	}
	return all
}

// find returns what a program's option is; what is said of the program with its word goes first.
func (r ruleset) find(program, option string) (form, bool) {
	if f, ok := r[program][option]; ok {
		return f, true
	}
	base, _, _ := strings.Cut(program, ":")
	f, ok := r[base][option]
	return f, ok
}

// hides reports whether there is a secret in an option of the program.
func (r ruleset) hides(program string) bool {
	for _, f := range r[program] {
		if f != none && f != harmless {
			return true
		}
	}
	return false
}

// secretSuffixes end the names of secrets, written without capitals and separators.
var secretSuffixes = strings.Fields(`password passwords passwd passphrase passcode passwordhash secret secrets token apikey
	accesskey secretkey secretkeybase privatekey encryptionkey signingkey accountkey sharedkey masterkey authkey presharedkey
	storagekey servicekey authorization credential credentials userpass dbpass rootpass adminpass storepass keypass requirepass
	authpass smtppass mailpass ftppass becomepass sudopass bindpw rootpw userpw adminpw
	passwort kennwort contraseña motdepasse senha wachtwoord hasło пароль 密码 パスワード`)

// secretWords are names of secrets, or their last words.
var secretWords = set(`pass pw pwd psk otp jwt bearer cookie`)

// placeSuffixes end names whose value often is the file where the secret is.
var placeSuffixes = strings.Fields(`privatekey signingkey encryptionkey credential credentials pwd`)

// switches begin the names of options that have no value.
var switches = set(`no ask prompt without skip disable enable allow`)

func set(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// secretName reports whether something with this name is a secret: by its end, for --password-file and TOKEN_TTL are
// none.
func secretName(name string) bool {
	words := wordsOf(name)
	if len(words) == 0 || switches[words[0]] && len(words) > 1 {
		return false
	}
	if secretWords[words[len(words)-1]] || name == "_auth" || strings.HasSuffix(name, ":_auth") {
		return true
	}
	return hasSuffix(strings.Join(words, ""), secretSuffixes)
}

func hasSuffix(text string, suffixes []string) bool {
	for _, suffix := range suffixes {
		if strings.HasSuffix(text, suffix) {
			return true
		}
	}
	return false
}

// wordsOf divides a name: db-password, DB_PASSWORD, db.password and dbPassword all have two words. A number at its end
// does not count.
func wordsOf(name string) []string {
	name = strings.TrimRight(name, "0123456789")
	var spaced strings.Builder
	lower := false
	for _, r := range name {
		switch {
		case unicode.IsUpper(r) && lower:
			spaced.WriteByte(' ')
			spaced.WriteRune(r)
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			spaced.WriteByte(' ')
		default:
			spaced.WriteRune(r)
		}
		lower = unicode.IsLower(r)
	}
	return strings.Fields(strings.ToLower(spaced.String()))
}

// namesPlace reports whether the value of a secret with this name is the path of a file instead.
func namesPlace(name, value string) bool {
	return isPath(value) && hasSuffix(strings.Join(wordsOf(name), ""), placeSuffixes)
}

// isPath reports whether a text is a path: what begins like one, and does not end like base64.
func isPath(text string) bool {
	for _, prefix := range []string{"/", "~/", "./", "../"} {
		if strings.HasPrefix(text, prefix) {
			return !strings.HasSuffix(text, "=")
		}
	}
	return false
}

// databaseSchemes are those of URLs in which digits behind the first colon are a password rather than a port.
var databaseSchemes = set(`postgres postgresql mysql mariadb redis rediss valkey amqp amqps mongodb mssql sqlserver oracle clickhouse
	ftp ftps sftp smtp smtps imap imaps ldap ldaps nats kafka influxdb couchbase neo4j bolt`)

// pattern is an expression, and a text without capitals that is in all that it matches: most arguments have none of
// these.
type pattern struct {
	sign       string
	expression *regexp.Regexp
}

// anywhere matches what is a secret wherever it stands: keys and tokens that say what they are, and what certain words
// announce.
var anywhere = []pattern{
	{"private key", regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY[^\x00]*`)},
	{"akia", regexp.MustCompile(`\bAKIA[0-9A-Z]{16}\b`)},
	{"asia", regexp.MustCompile(`\bASIA[0-9A-Z]{16}\b`)},
	{"gh", regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{20,}`)},
	{"github_pat_", regexp.MustCompile(`\bgithub_pat_[A-Za-z0-9_]{20,}`)},
	{"glpat-", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{16,}`)},
	{"xox", regexp.MustCompile(`\bxox[abeoprs]-[A-Za-z0-9-]{8,}`)},
	{"k_", regexp.MustCompile(`\b[sr]k_(?:live|test|prod)_[A-Za-z0-9_-]{12,}`)},
	{"sk-", regexp.MustCompile(`\bsk-[A-Za-z0-9_-]{16,}`)},
	{"aiza", regexp.MustCompile(`\bAIza[0-9A-Za-z_-]{30,}`)},
	{"hv", regexp.MustCompile(`\bhv[sb]\.[A-Za-z0-9_-]{16,}`)},
	{"npm_", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{30,}`)},
	{"dckr_pat_", regexp.MustCompile(`\bdckr_pat_[A-Za-z0-9_-]{16,}`)},
	{"eyj", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*`)},
	{"bearer", regexp.MustCompile(`(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{6,})`)},
	{":", regexp.MustCompile(`(?i)(?:authorization|x-[a-z-]*(?:token|key|auth|secret)|cookie):\s*([^\r\n'"]+)`)},
	{"'", regexp.MustCompile(`(?i)(?:password|identified\s+by|identified\s+with\s+\w+\s+by)\s+'((?:[^'\\]|\\.|'')*)`)},
	{`"`, regexp.MustCompile(`(?i)(?:password|identified\s+by|identified\s+with\s+\w+\s+by)\s+"((?:[^"\\]|\\.)*)`)},
	{"://", regexp.MustCompile(`https?://([A-Za-z0-9_-]{20,})@`)},
	{"jdbc:oracle:", regexp.MustCompile(`(?i)jdbc:oracle:[a-z]+:[^/@\s]*/([^\s]+)@`)},
	{"?", regexp.MustCompile(`[?&](?:sig|signature|X-Amz-Signature|X-Goog-Signature|code_verifier)=([^&\s"']+)`)},
}
