package bpfenrichprocessor

import (
	"regexp"
	"strings"
)

// deepest is how deep command lines in command lines are looked into.
const deepest = 4

// command hides the secrets in a simple command.
func (s *scan) command(words []word, depth int) {
	program := ""
	pending := none // the form of the argument that comes
	seen := 0       // what has been seen of the three arguments password = SECRET
	hideLast := false
	for _, w := range words {
		form := pending
		pending = none
		if form != none && form != separate && isOption(w.text) { // the option before had no value
			form = none
		}
		if s.defaults {
			s.contents(w, form == line)
			s.inside(w, depth)
		}
		switch seen = s.assignment(w, seen); {
		case seen == 2:
			continue
		case seen == 3:
			s.hide(w, 0, len(w.text))
			continue
		case form != none:
			s.hideValue(w, form)
			if form == harmless || form == value || form == content || form == separate || form == line {
				continue
			}
		}
		if len(w.text) > 1 && (w.text[0] == '-' || s.isOptionOf(program, w.text)) {
			var ends bool
			pending, ends = s.option(program, w)
			hideLast = hideLast || ends
			continue
		}
		if pending = s.ownOption(w); pending != none || !s.defaults {
			continue
		}
		if next := programOf(program, w.text); next != program {
			program = next
			continue
		}
		pending = s.operand(program, w)
	}
	if hideLast {
		w := words[len(words)-1]
		s.hide(w, 0, len(w.text))
	}
}

// assignment follows the arguments of password = SECRET.
func (s *scan) assignment(w word, seen int) int {
	switch {
	case !s.defaults:
		return 0
	case seen == 1 && (w.text == "=" || w.text == ":" || w.text == ":="), seen == 2:
		return seen + 1
	case seen == 1 && len(w.text) > 1 && w.text[0] == '=' && w.text[1] != '=':
		return 3
	case secretName(strings.TrimLeft(w.text, "-")):
		return 1
	default:
		return 0
	}
}

// isOption reports whether an argument can't be the value of the option before it.
func isOption(text string) bool {
	return len(text) == 2 && text[0] == '-' && isLetter(text[1]) || len(text) > 2 && text[:2] == "--" && isLetter(text[2])
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

// programOf returns the program that a command is about behind an argument that is no option. It need not be the first:
// there are env, sudo, xargs and many others.
func programOf(program, text string) string {
	base, _, _ := strings.Cut(program, ":")
	if both := base + ":" + strings.ToLower(text); len(byProgram[both]) > 0 {
		return both
	}
	name := text[strings.LastIndexByte(text, '/')+1:]
	if _, ok := byProgram[name]; ok && (program == "" || byProgram.hides(name) && !ambiguous[name]) && !strings.Contains(name, ":") {
		return name
	}
	return program
}

// isOptionOf is for options that do not begin with a dash.
func (s *scan) isOptionOf(program, text string) bool {
	if !s.defaults {
		return false
	}
	if _, ok := byProgram.find(program, strings.ToLower(text)); ok {
		return true
	}
	if text[0] == '/' {
		at := strings.IndexByte(text, ':')
		_, ok := byProgram.find(program, text[:at+1])
		return at > 0 && ok
	}
	return false
}

// operand hides the secret in an argument that is no option.
func (s *scan) operand(program string, w word) form {
	f, _ := byProgram.find(program, "")
	if f != named {
		s.hideValue(w, f)
		return none
	}
	if secretName(w.text) {
		return value
	}
	return none
}

// ownOption is for the options of the configuration.
func (s *scan) ownOption(w word) form {
	for _, option := range s.options {
		switch {
		case w.text == option:
			return separate
		case strings.HasPrefix(w.text, option+"="):
			s.hide(w, len(option)+1, len(w.text))
		case len(option) == 2 && option[0] == '-' && strings.HasPrefix(w.text, option):
			s.hide(w, len(option), len(w.text))
		}
	}
	return none
}

// option hides the secret in an option and returns the form of what follows. It says whether the last argument is one.
func (s *scan) option(program string, w word) (_ form, hideLast bool) {
	if f := s.ownOption(w); f != none || !s.defaults {
		return f, false
	}
	text := w.text
	if f, ok := byProgram.find(program, text); ok {
		return next(f), f == last
	}
	if at := strings.IndexAny(text, "=:"); at > 0 {
		name := text[:at]
		if text[at] == ':' {
			name = text[:at+1]
		}
		if f, ok := byProgram.find(program, name); ok {
			s.hideValue(w.from(at+1), f)
			return none, false
		}
	}
	if f, at, ok := cluster(program, text); ok {
		if at == len(text) {
			return next(f), f == last
		}
		s.hideValue(w.from(at), f)
		return none, f == last
	}
	if f, ok := byProgram.find(program, strings.ToLower(text)); ok {
		return next(f), false
	}
	if f, ok := everywhere[text]; ok {
		return f, false
	}
	if strings.ContainsAny(text, "=:") { // contents has seen to it
		if name, _, _ := strings.Cut(text, "="); everywhere[name] != none {
			s.hideValue(w.from(len(name)+1), everywhere[name])
		}
		return none, false
	}
	switch name := strings.TrimLeft(text, "-"); {
	case !secretName(name):
		return none, false
	case namesPlace(name, "/"):
		return content, false
	default:
		return value, false
	}
}

// next returns the form of the argument behind an option of a form.
func next(f form) form {
	if f == attached || f == last {
		return none
	}
	return f
}

// cluster finds the first of several short options in one argument that takes a value, and where that begins.
func cluster(program, text string) (f form, at int, ok bool) {
	if strings.HasPrefix(text, "--") || text[0] != '-' {
		return none, 0, false
	}
	for at := 1; at < len(text) && isLetter(text[at]); at++ {
		for _, option := range []string{"-" + text[at:at+1], "-" + text[at:min(at+2, len(text))]} {
			if f, ok := byProgram.find(program, option); ok && f != separate && f != source {
				end := at + len(option) - 1
				if f == last {
					end = len(text)
				}
				return f, end, true
			}
		}
	}
	return none, 0, false
}

// hideValue hides the secret in a value.
func (s *scan) hideValue(w word, f form) {
	behind := func(separator string) {
		if at := strings.Index(w.text, separator); at >= 0 {
			s.hide(w, at+len(separator), len(w.text))
		}
	}
	switch f {
	case content:
		if !isPath(w.text) {
			s.hide(w, 0, len(w.text))
		}
	case value, attached, separate:
		s.hide(w, 0, len(w.text))
	case credentials, account:
		if !url.MatchString(w.text) && !isPath(w.text) && (f == credentials || !isIDs(w.text)) {
			behind(":")
		}
	case userinfo:
		if at, end := strings.IndexByte(w.text, ':'), strings.LastIndexByte(w.text, '@'); at >= 0 && !url.MatchString(w.text) {
			s.hide(w, at+1, end)
		}
	case percent:
		behind("%")
	case comma:
		behind(",")
	case login:
		if at, end := strings.IndexByte(w.text, '/'), strings.LastIndexByte(w.text, '@'); at > 0 && w.text[0] != '@' && !isPath(w.text) {
			if end < at {
				end = len(w.text)
			}
			s.hide(w, at+1, end)
		}
	case source:
		switch kind, _, _ := strings.Cut(w.text, ":"); kind {
		case "pass":
			behind(":")
		case "file", "env", "fd", "stdin":
		default:
			s.hide(w, 0, len(w.text))
		}
	case literal:
		behind("=")
	case header:
		if name, content, ok := strings.Cut(w.text, ":"); ok && secretName(name) {
			s.hide(w, len(w.text)-len(strings.TrimLeft(content, " ")), len(w.text))
		}
	}
}

// isIDs: of docker run --user 1000:1000.
func isIDs(text string) bool { return strings.Trim(text, "0123456789:") == "" }

var (
	// assignmentHead matches the name of what gets a value, and what stands between them: quotes of the name, the separator.
	assignmentHead = regexp.MustCompile(`([\p{L}_][\p{L}\p{N}_.-]*)(\\*["'\]]*)\s*(=>|:=|=|:)([ \t]*)`)
	// credentialsURL matches a URL up to the colon in front of the password.
	credentialsURL = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*)://[^/\s:@?#"']*:`)
	url            = regexp.MustCompile(`^(?:https?|ftps?|socks[45a-h]*)://`)
	port           = regexp.MustCompile(`^[0-9]{1,5}(?:[/?#]|$)`)
	version        = regexp.MustCompile(`^=[0-9]+(?:\.[0-9a-z*]+)*$`)
)

// contents hides secrets that are told by the text itself. In a command line a value ends at a space.
func (s *scan) contents(w word, isLine bool) {
	lower := strings.ToLower(w.text)
	for i := range anywhere {
		if strings.Contains(lower, anywhere[i].sign) {
			s.hideMatches(w, anywhere[i].expression)
		}
	}
	if !strings.ContainsAny(lower, "=:") {
		return
	}
	for _, match := range credentialsURL.FindAllStringSubmatchIndex(w.text, -1) {
		end := match[1] + ends(w.text[match[1]:], " \t\n")
		if match[0] > 0 && strings.IndexByte(quotes, w.text[match[0]-1]) >= 0 {
			end = match[1] + strings.IndexByte(w.text[match[1]:]+w.text[match[0]-1:match[0]], w.text[match[0]-1])
		}
		s.hidePassword(w, w.text[match[2]:match[3]], match[1], end)
	}
	for _, match := range assignmentHead.FindAllStringSubmatchIndex(w.text, -1) {
		a := assignment{
			text: w.text, name: w.text[match[2]:match[3]], at: match[2], separator: w.text[match[6]:match[7]],
			quoted: strings.ContainsAny(w.text[match[4]:match[5]], quotes), spaced: match[8] != match[9], value: match[1], isLine: isLine,
		}
		if secretName(a.name) && a.meant() {
			from, to := a.secret()
			s.hide(w, from, to)
		}
	}
}

const quotes = "\"'"

// hidePassword hides the password in a URL, or what begins with it. It may have @ and / in it, so it ends at
// the last @.
func (s *scan) hidePassword(w word, scheme string, at, end int) {
	scheme, _, _ = strings.Cut(strings.ToLower(scheme), "+")
	if !databaseSchemes[scheme] && port.MatchString(w.text[at:end]) {
		return
	}
	if last := strings.LastIndexByte(w.text[at:end], '@'); last > 0 {
		s.hide(w, at, at+last)
	}
}

// assignment is a name, a separator and a value in a text.
type assignment struct {
	text, name, separator  string
	at, value              int // where the name and the value begin
	quoted, spaced, isLine bool
}

// meant reports whether it is one, and not the tag of an image, a volume, a path with a line number or a version.
func (a assignment) meant() bool {
	rest := a.text[a.value:]
	switch {
	case rest == "" || namesPlace(a.name, rest):
		return false
	case a.separator == "=":
		return a.at > 0 || a.name != strings.ToLower(a.name) || !version.MatchString(rest)
	case a.separator != ":" || a.quoted:
		return true
	case a.at > 0 && strings.IndexByte(`/\`, a.text[a.at-1]) >= 0, isPath(rest):
		return false
	case a.spaced:
		return true
	}
	name := strings.ToLower(a.name)
	return strings.Contains(name, "pass") || strings.Contains(name, "pw") || strings.Contains(name, "authorization")
}

// secret returns where the value begins and ends.
func (a assignment) secret() (from, to int) {
	rest := a.text[a.value:]
	if quote := openingQuote(rest); quote != "" && !a.whole() {
		from, to = len(quote), len(quote)+closing(rest[len(quote):], quote)
		if behind := to + len(quote); behind < len(rest) && strings.IndexByte(" \t\r\n,;&|)}]\\", rest[behind]) < 0 { // it goes on
			to = behind + ends(rest[behind:], " \t\n")
		}
		return a.value + from, a.value + to
	}
	return a.value, a.value + a.length(rest)
}

// before returns the byte before the name; 0: there is none.
func (a assignment) before() byte {
	if a.at == 0 {
		return 0
	}
	return a.text[a.at-1]
}

// whole reports whether the value is the rest of the argument, whatever it has in it: NAME=VALUE, --name=VALUE.
func (a assignment) whole() bool {
	return !a.isLine && a.separator == "=" && !a.quoted && strings.IndexByte("\x00-=", a.before()) >= 0 && !strings.ContainsAny(a.text[:a.at], " \t\n")
}

// length returns how long a value is that is not quoted. It depends on what stands before the name.
func (a assignment) length(rest string) int {
	space := ""
	if a.isLine {
		space = " \t\n"
	}
	switch before := a.before(); {
	case a.whole() || rest[0] == '{' || rest[0] == '[':
		return len(rest)
	case a.quoted && a.separator != "=":
		return ends(rest, ",}] \t\n")
	case !a.quoted && (before == '"' || before == '\''):
		return closing(rest, string(before))
	case a.separator == ":" && a.spaced:
		return ends(rest, "\r\n")
	case before == '?' || before == '&':
		return ends(rest, "&\n"+space)
	case before == ';':
		return ends(rest, ";\n"+space)
	default:
		return ends(rest, " \t\n")
	}
}

// inside looks at a text as a command line, which it may be: of a shell, of ssh, of watch.
func (s *scan) inside(w word, depth int) {
	if depth >= deepest || !strings.ContainsAny(w.text, " \t\n;|&") {
		return
	}
	for _, words := range split(w) {
		s.command(words, depth+1)
	}
}
