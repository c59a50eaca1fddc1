package bpfenrichprocessor

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// secretLines are command lines with a secret, and what is shown of them. A ¦ is between two arguments.
var secretLines = []struct{ line, want string }{
	// Options by their name.
	{"app¦--password¦hunter2¦-h¦db", "app¦--password¦***¦-h¦db"},
	{"app¦--db-password=hunter2¦y", "app¦--db-password=***¦y"},
	{"app¦--dbPassword=hunter2", "app¦--dbPassword=***"},
	{"app¦-password¦hunter2", "app¦-password¦***"},
	{"app¦--PASSWORD¦hunter2", "app¦--PASSWORD¦***"},
	{"app¦--password=two words¦x", "app¦--password=***¦x"},
	{"app¦--password=a=b&c;d,e¦x", "app¦--password=***¦x"},
	{"app¦--password¦two \"quoted\" words¦x", "app¦--password¦***¦x"},
	{"app¦--passphrase¦pässwörd-猫", "app¦--passphrase¦***"},
	{"app¦--password¦\xff\xfe\x01¦x", "app¦--password¦***¦x"},
	{"app¦--api-key¦abc¦--apiKey=abc¦--api_key=abc", "app¦--api-key¦***¦--apiKey=***¦--api_key=***"},
	{"app¦--client-secret=abc¦--token¦abc", "app¦--client-secret=***¦--token¦***"},
	{"app¦--private-key¦MIIabc¦x", "app¦--private-key¦***¦x"},
	{"app¦--private-key=/abcdefg+/hij=", "app¦--private-key=***"},
	{"java¦-Dspring.datasource.password=x¦-jar¦a.jar", "java¦-Dspring.datasource.password=***¦-jar¦a.jar"},
	{"app¦--password2=hunter2", "app¦--password2=***"},
	{"app¦--contraseña=hunter2¦--пароль¦hunter2", "app¦--contraseña=***¦--пароль¦***"},

	// Assignments.
	{"env¦AWS_SECRET_ACCESS_KEY=abc¦ls", "env¦AWS_SECRET_ACCESS_KEY=***¦ls"},
	{"env¦FOO_TOKEN=x¦BAR=y¦cmd", "env¦FOO_TOKEN=***¦BAR=y¦cmd"},
	{"env¦PASSWORD=two words¦cmd", "env¦PASSWORD=***¦cmd"},
	{"env¦PGPASSWORD=a'b\"c¦psql¦-h¦db", "env¦PGPASSWORD=***¦psql¦-h¦db"},
	{"env¦MYSQL_PWD=x¦PWD=/home/me¦mysql", "env¦MYSQL_PWD=***¦PWD=/home/me¦mysql"},
	{"app¦password¦=¦x¦y", "app¦password¦=¦***¦y"},
	{"app¦password = x", "app¦password = ***"},
	{"app¦password=x y", "app¦password=***"},
	{"psql¦host=db password='a b' dbname=x", "psql¦host=db password='***' dbname=x"},
	{"psql¦host=db password = x dbname=y", "psql¦host=db password = *** dbname=y"},
	{`psql¦host=db password=a\ b dbname=y`, `psql¦host=db password=*** dbname=y`},
	{"isql¦DRIVER=x;UID=sa;PWD=a b;Server=y", "isql¦DRIVER=x;UID=sa;PWD=***;Server=y"},
	{"app¦Server=x;Password=a&b;Database=y", "app¦Server=x;Password=***;Database=y"},
	{"app¦AccountName=x;AccountKey=abc==;EndpointSuffix=y", "app¦AccountName=x;AccountKey=***;EndpointSuffix=y"},
	{"docker¦run¦-e¦MYSQL_ROOT_PASSWORD=my secret¦mysql:8", "docker¦run¦-e¦MYSQL_ROOT_PASSWORD=***¦mysql:8"},
	{"docker¦run¦-eMYSQL_ROOT_PASSWORD=x¦--env=DB_TOKEN=y¦i", "docker¦run¦-eMYSQL_ROOT_PASSWORD=***¦--env=DB_TOKEN=***¦i"},
	{"helm¦install¦a¦--set¦db.user=x,db.password=y", "helm¦install¦a¦--set¦db.user=x,db.password=***"},
	{"mount¦-t¦cifs¦-o¦username=x,password=y¦//h/s¦/mnt", "mount¦-t¦cifs¦-o¦username=x,password=***¦//h/s¦/mnt"},
	{"make¦TOKEN=abc¦all", "make¦TOKEN=***¦all"},
	{"curl¦-d¦user[password]=a b&x=y¦h", "curl¦-d¦user[password]=*** b&x=y¦h"},

	// JSON, YAML, SQL.
	{`curl¦-d¦{"user":"a","password":"b c","x":1}¦h`, `curl¦-d¦{"user":"a","password":"***","x":1}¦h`},
	{`curl¦-d¦{"password" : "b\"c,d", "x":1}¦h`, `curl¦-d¦{"password" : "*** "x":1}¦h`},
	{`curl¦-d¦{"apiKey":12345,"x":1}¦h`, `curl¦-d¦{"apiKey":***,"x":1}¦h`},
	{`curl¦-d¦{"passwords":["a","b"]}¦h`, `curl¦-d¦{"passwords":***¦h`},
	{`app¦{"a":"{\"token\":\"x y\",\"b\":1}"}`, `app¦{"a":"{\"token\":\"***\",\"b\":1}"}`},
	{`app¦{'password': 'b c'}`, `app¦{'password': '***'}`},
	{"app¦password: two words", "app¦password: ***"},
	{"app¦a: b\npassword: two words\nc: d", "app¦a: b\npassword: ***\nc: d"},
	{"psql¦-c¦ALTER USER x WITH PASSWORD 'a b'", "psql¦-c¦ALTER USER x WITH PASSWORD '***'"},
	{"mysql¦-e¦CREATE USER x IDENTIFIED BY 'a;b'; SELECT 1", "mysql¦-e¦CREATE USER x IDENTIFIED BY '***'; SELECT 1"},

	// URLs.
	{"pg¦postgres://me:pw@host/db", "pg¦postgres://me:***@host/db"},
	{"pg¦postgres://me:p@w/x@host:5432/db", "pg¦postgres://me:***@host:5432/db"},
	{"pg¦postgres://me:12/x@host/db", "pg¦postgres://me:***@host/db"},
	{"pg¦postgres://me:p?w#x@host/db", "pg¦postgres://me:***@host/db"},
	{`pg¦postgres://me:p"w'x@host/db`, `pg¦postgres://me:***@host/db`},
	{"redis-cli¦-u¦redis://:pw@host:6379/0", "redis-cli¦-u¦redis://:***@host:6379/0"},
	{"git¦clone¦https://x:pw@host/a.git", "git¦clone¦https://x:***@host/a.git"},
	{"git¦clone¦https://abcdefghij0123456789@host/a.git", "git¦clone¦https://***@host/a.git"},
	{"curl¦https://user:12345@host/", "curl¦https://user:***@host/"},
	{"curl¦https://h/x?a=b&access_token=abc&c=d", "curl¦https://h/x?a=b&access_token=***&c=d"},
	{"curl¦https://h/x?sig=abc%3D&se=1", "curl¦https://h/x?sig=***&se=1"},
	{"app¦jdbc:mysql://h/db?user=u&password=p w", "app¦jdbc:mysql://h/db?user=u&password=***"},
	{"app¦jdbc:oracle:thin:u/p@h:1521:x", "app¦jdbc:oracle:thin:u/***@h:1521:x"},
	{"app¦--url=amqp://u:p@h/v¦x", "app¦--url=amqp://u:***@h/v¦x"},
	{"app¦mongodb+srv://u:1234/5@h/db", "app¦mongodb+srv://u:***@h/db"},

	// Headers and credentials.
	{"curl¦-H¦Authorization: Bearer abc.def¦h", "curl¦-H¦Authorization: ***¦h"},
	{"curl¦-HX-Api-Token:abc¦h", "curl¦-HX-Api-Token:***¦h"},
	{"curl¦--header¦authorization:basic YWJjOmRlZg==¦h", "curl¦--header¦authorization:***¦h"},
	{"curl¦-H¦Cookie: a=b; c=d¦h", "curl¦-H¦Cookie: ***¦h"},
	{"curl¦-u¦user:secret¦h", "curl¦-u¦user:***¦h"},
	{"curl¦-uuser:sec:ret¦h", "curl¦-uuser:***¦h"},
	{"curl¦-sSfu¦user:secret¦h", "curl¦-sSfu¦user:***¦h"},
	{"curl¦-sSfuuser:secret¦h", "curl¦-sSfuuser:***¦h"},
	{"curl¦--user=user:secret¦--proxy-user¦p:q¦h", "curl¦--user=user:***¦--proxy-user¦p:***¦h"},
	{"curl¦-x¦user:p@w@proxy:3128¦h", "curl¦-x¦user:***@proxy:3128¦h"},
	{"curl¦--oauth2-bearer¦abc¦h", "curl¦--oauth2-bearer¦***¦h"},
	{"curl¦-d¦user=a&password=b#c&d=e¦h", "curl¦-d¦user=a&password=***&d=e¦h"},
	{"curl¦-b¦session=abc¦-E¦cert.pem:pw¦h", "curl¦-b¦session=***¦-E¦cert.pem:***¦h"},
	{"/usr/bin/curl¦-u¦user:secret", "/usr/bin/curl¦-u¦user:***"},
	{"unknown¦-u¦user:secret", "unknown¦-u¦user:***"},
	{"http¦POST¦h¦X-API-Token:abc¦-a¦u:p", "http¦POST¦h¦X-API-Token:***¦-a¦u:***"},
	{"wget¦--password=x¦--http-password¦y¦--header=X-Token: z¦u", "wget¦--password=***¦--http-password¦***¦--header=X-Token: ***¦u"},
	{"app¦Bearer abcdef.ghi", "app¦Bearer ***"},
	{"app¦ghp_0123456789abcdefghij0123", "app¦***"},
	{"app¦x AKIAABCDEFGHIJKLMNOP y", "app¦x *** y"},
	{"app¦eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_", "app¦***"},
	{"app¦-----BEGIN RSA PRIVATE KEY-----\nMII\n", "app¦***"},

	// Clients.
	{"mysql¦-uroot¦-psecret¦db", "mysql¦-uroot¦-p***¦db"},
	{"mysql¦-u¦root¦--password=se cret¦db", "mysql¦-u¦root¦--password=***¦db"},
	{"mysql¦-vpsecret¦-psec=ret", "mysql¦-vp***¦-p***"},
	{"sudo¦-u¦mysql¦/usr/bin/mysqldump¦-psecret", "sudo¦-u¦mysql¦/usr/bin/mysqldump¦-p***"},
	{"docker¦exec¦-it¦db¦mysql¦-psecret", "docker¦exec¦-it¦db¦mysql¦-p***"},
	{"mysqladmin¦-u¦root¦password¦new", "mysqladmin¦-u¦root¦password¦***"},
	{"sshpass¦-p¦secret¦ssh¦-p¦22¦host", "sshpass¦-p¦***¦ssh¦-p¦***¦host"},
	{"sshpass¦-psecret¦ssh¦host", "sshpass¦-p***¦ssh¦host"},
	{"openssl¦enc¦-aes-256-cbc¦-k¦secret¦-in¦f", "openssl¦enc¦-aes-256-cbc¦-k¦***¦-in¦f"},
	{"openssl¦rsa¦-passin¦pass:secret¦-passout¦pass:x y", "openssl¦rsa¦-passin¦pass:***¦-passout¦pass:***"},
	{"openssl¦passwd¦-6¦secret", "openssl¦passwd¦-6¦***"},
	{"kubectl¦--token¦abc¦get¦pods", "kubectl¦--token¦***¦get¦pods"},
	{"kubectl¦create¦secret¦generic¦n¦--from-literal=k=v=w", "kubectl¦create¦secret¦generic¦n¦--from-literal=k=***"},
	{"kubectl¦create¦secret¦generic¦n¦--from-literal¦k=v w", "kubectl¦create¦secret¦generic¦n¦--from-literal¦k=***"},
	{"redis-cli¦-h¦h¦-a¦secret¦ping", "redis-cli¦-h¦h¦-a¦***¦ping"},
	{"redis-cli¦AUTH¦user¦secret", "redis-cli¦AUTH¦***¦***"},
	{"redis-cli¦config¦set¦requirepass¦secret", "redis-cli¦config¦set¦requirepass¦***"},
	{"docker¦login¦-u¦me¦-p¦secret¦registry", "docker¦login¦-u¦me¦-p¦***¦registry"},
	{"skopeo¦copy¦--src-creds¦u:p¦a¦b", "skopeo¦copy¦--src-creds¦u:***¦a¦b"},
	{"htpasswd¦-cb¦file¦user¦secret", "htpasswd¦-cb¦file¦user¦***"},
	{"smbclient¦-U¦user%pass¦//h/s", "smbclient¦-U¦user%***¦//h/s"},
	{"ldapsearch¦-D¦cn=x¦-w¦secret¦-b¦dc=y", "ldapsearch¦-D¦cn=x¦-w¦***¦-b¦dc=y"},
	{"aws¦configure¦set¦aws_secret_access_key¦abc", "aws¦configure¦set¦aws_secret_access_key¦***"},
	{"aws¦ssm¦put-parameter¦--name¦n¦--value¦v", "aws¦ssm¦put-parameter¦--name¦n¦--value¦***"},
	{"vault¦login¦abc", "vault¦login¦***"},
	{"vault¦kv¦put¦secret/x¦pin=1234", "vault¦kv¦put¦secret/x¦pin=***"},
	{"git¦config¦user.password¦x", "git¦config¦user.password¦***"},
	{"sqlplus¦u/p@db", "sqlplus¦u/***@db"},
	{"7z¦a¦-psecret¦x.7z", "7z¦a¦-p***¦x.7z"},
	{"nmcli¦dev¦wifi¦connect¦net¦password¦x", "nmcli¦dev¦wifi¦connect¦net¦password¦***"},
	{"xfreerdp¦/u:me¦/p:secret¦/v:h", "xfreerdp¦/u:me¦/p:***¦/v:h"},
	{"lftp¦-u¦me,secret¦h", "lftp¦-u¦me,***¦h"},
	{"ssh-keygen¦-t¦rsa¦-N¦secret", "ssh-keygen¦-t¦rsa¦-N¦***"},

	// Command lines in arguments.
	{"sh¦-c¦mysql -psecret db", "sh¦-c¦mysql -p*** db"},
	{"bash¦-lc¦cd /x && PGPASSWORD='a b' psql -h db", "bash¦-lc¦cd /x && PGPASSWORD='***' psql -h db"},
	{`sh¦-c¦mysql -p'se cret' db`, `sh¦-c¦mysql -p'***' db`},
	{`sh¦-c¦mysql -pse\ cret db`, `sh¦-c¦mysql -p*** db`},
	{"sh¦-c¦TOKEN=x ./run --flag; curl -u a:b h", "sh¦-c¦TOKEN=*** ./run --flag; curl -u a:*** h"},
	{`sh¦-c¦bash -c 'mysql -psecret db'`, `sh¦-c¦bash -c 'mysql -p*** db'`},
	{`sh¦-c¦bash -c "sh -c 'sshpass -p secret ssh h'"`, `sh¦-c¦bash -c "sh -c 'sshpass -p *** ssh h'"`},
	{"ssh¦host¦mysql -u root -psecret", "ssh¦host¦mysql -u root -p***"},
	{"sh¦-c¦curl -H 'Authorization: Bearer x y' https://h/p", "sh¦-c¦curl -H 'Authorization: ***' https://h/p"},
	{"watch¦-n1¦redis-cli -a secret info", "watch¦-n1¦redis-cli -a *** info"},
	{"sh¦-c¦echo x | openssl enc -k secret | cat", "sh¦-c¦echo x | openssl enc -k *** | cat"},
	{"sh¦-c¦mysql --password=\"a b\" db", "sh¦-c¦mysql --password=\"***\" db"},
	{"busybox¦sh¦-c¦X=$(vault login abc) y", "busybox¦sh¦-c¦X=$(vault login ***) y"},
}

// plainLines have no secret, and are shown as they are.
var plainLines = []string{
	"ls¦-l¦/tmp", "cat¦/etc/passwd", "cat¦token.txt", "vi¦/etc/passwd¦/etc/shadow", "grep¦-r¦password:¦/etc/app", "grep¦password¦f",
	"kubectl¦get¦secret¦NAME", "kubectl¦get¦secrets¦-n¦prod", "kubectl¦describe¦secret¦db-password", "kubectl¦delete¦secret/token",
	"kubectl¦get¦secret¦x¦-o¦jsonpath={.data.password}", "kubectl¦create¦secret¦generic¦n¦--from-file=key=/run/x",
	"app¦--password-file¦/run/x", "app¦--password-file=/run/x", "app¦--token-file=/run/token", "app¦--passwd-file¦/etc/passwd",
	"docker¦login¦--password-stdin¦-u¦me", "app¦--secret-name=x", "app¦--token-ttl¦60", "app¦--private-key=/etc/ssl/key.pem", "app¦--private-key¦/etc/ssl/key.pem¦x",
	"app¦--no-password¦x", "ansible¦--ask-pass¦all", "psql¦--password¦dbname", "mysql¦-p¦dbname", "mysql¦--password¦dbname",
	"docker¦run¦-p¦8080:80¦--name¦mysql¦-p3306:3306¦nginx", "docker¦run¦-u¦1000:1000¦-v¦/etc/passwd:/etc/passwd:ro¦x",
	"docker¦pull¦org/token:latest", "docker¦service¦create¦--secret¦db_password¦x", "docker¦secret¦ls",
	"docker¦run¦--user¦nginx:nginx¦img", "app¦--user¦1000:1000", "curl¦-u¦user¦h", "curl¦-o¦/tmp/u¦https://host:8080/x@y",
	"npm¦install¦http://localhost:4873/@scope%2fpkg", "curl¦https://host:443/users/a@b.c", "git¦clone¦git@github.com:org/secret-repo.git",
	"docker¦pull¦registry:5000/img@sha256:abc", "skopeo¦inspect¦docker://registry:5000/img@sha256:abc", "deno¦run¦https://deno.land/std:x@0.1",
	"curl¦-H¦Accept: application/json¦-H¦X-Trace: a¦h", "curl¦-d¦{\"user\":\"a\",\"id\":1}¦h", "curl¦https://h/x?a=b&page=2",
	"openssl¦rsa¦-passin¦file:/run/x¦-passout¦env:PW", "openssl¦req¦-key¦k.pem¦-keyout¦x¦-nodes", "openssl¦x509¦-in¦c.pem¦-text",
	"ssh¦-p¦2222¦-i¦/root/.ssh/id_rsa¦host", "ssh-keygen¦-t¦ed25519¦-f¦/tmp/k", "rsync¦-u¦host:dir/x¦.", "nc¦-u¦host:53", "sort¦-u¦a:b",
	"python3¦-u¦script.py:x", "pip¦install¦tiktoken==0.5.1", "git¦commit¦-m¦rotate the token cache", "git¦push¦-u¦origin¦main",
	"redis-cli¦-h¦auth-db¦-p¦6379¦get¦token", "redis-cli¦-n¦1¦ping", "htpasswd¦-c¦file¦user", "smbclient¦-U¦user¦//h/s", "passwd¦root",
	"ldapsearch¦-x¦-W¦-D¦cn=x", "make¦-j4¦tokens", "llm¦--max-tokens¦100", "env¦PWD=/home/me¦OLDPWD=/x¦ls", "env¦GOOGLE_APPLICATION_CREDENTIALS=/run/k.json¦x",
	"find¦/¦-name¦*secret*", "tar¦-czf¦passwords.tgz¦/srv", "journalctl¦-u¦secret.service", "systemctl¦status¦token.service",
	"sh¦-c¦cat /etc/passwd | grep root", "sh¦-c¦ls -la && echo done", "sh¦-c¦grep -c token /var/log/x", "7z¦x¦a.7z¦-o/tmp", "bash¦-c¦echo 'a b'",
	"app¦--compass¦north¦--bypass¦x", "go¦test¦-run¦TestToken¦./auth", "sudo¦-u¦postgres¦psql¦-l", "mysqldump¦-u¦root¦-h¦db¦--single-transaction¦app",
	"jq¦.password¦f.json", "aws¦secretsmanager¦get-secret-value¦--secret-id¦db", "vault¦kv¦get¦secret/data/db", "docker¦run¦-v¦token:/data¦img",
	"app¦C:\\Users\\me\\token.txt", "", "app¦¦", "env¦LANG=de_DE.UTF-8¦größe=1¦x", "tail¦-f¦/var/log/auth.log",
}

func shown(r redaction, line string) string {
	return strings.Join(r.apply(strings.ReplaceAll(line, "¦", "\x00")+"\x00", false), "¦")
}

func TestSecretsAreHidden(t *testing.T) {
	r, err := newRedaction(&CommandLineConfig{RedactDefaults: true})
	require.NoError(t, err)
	for _, test := range secretLines {
		assert.Equal(t, test.want, shown(r, test.line))
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	r, err := newRedaction(&CommandLineConfig{RedactDefaults: true})
	require.NoError(t, err)
	for _, line := range plainLines {
		assert.Equal(t, line, shown(r, line))
	}
}
