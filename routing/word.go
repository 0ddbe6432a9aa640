package routing

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ShellWord quotes a word for sh. It writes a word that a terminal or an editor
// might not show exactly with printf, so that the user can read a command
// before running it.
func ShellWord(s string) string {
	hidden := func(r rune) bool {
		return r != ' ' && (!unicode.IsGraphic(r) || unicode.IsSpace(r))
	}
	switch {
	case s != "" && strings.IndexFunc(s, special) < 0:
		return s
	case !utf8.ValidString(s) || strings.IndexFunc(s, hidden) >= 0:
		text := strings.TrimRight(s, "\n") // $() would remove the other newlines
		return `"$(printf '` + octal(text) + `')` + s[len(text):] + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func special(r rune) bool {
	return r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r) &&
		!strings.ContainsRune("._:/-@%+,=", r)
}

// octal writes the bytes of a name for printf(1). Plain bytes stay readable,
// except for a dash at the beginning, which would make the word an option.
func octal(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if r := rune(s[i]); r != '%' && !special(r) && (i > 0 || r != '-') {
			b.WriteByte(s[i])
			continue
		}
		fmt.Fprintf(&b, `\%03o`, s[i])
	}
	return b.String()
}

// Command quotes the words of a command for sh. It writes one space between
// them; other white space may be part of a name.
func Command(line string) string {
	words := strings.Split(line, " ")
	for i, word := range words {
		words[i] = ShellWord(word)
	}
	return strings.Join(words, " ")
}

// Flag is a flag of lasthop with its value.
func Flag(name, value string) string { return "--" + name + " " + ShellWord(value) }

// Sysctl returns the command that sets a setting,
// net/ipv4/conf/eth0.100/rp_filter. sysctl(8) takes a dot as a slash if a dot
// comes first, so a name with a dot needs slashes. It also takes the first = as
// the end of the key.
func Sysctl(path string, value int) string {
	switch {
	case strings.Contains(path, "="):
		return "echo " + strconv.Itoa(value) + " > " + ShellWord("/proc/sys/"+path)
	case !strings.Contains(path, "."):
		path = strings.ReplaceAll(path, "/", ".")
	}
	return "sysctl -w " + ShellWord(path+"="+strconv.Itoa(value))
}
