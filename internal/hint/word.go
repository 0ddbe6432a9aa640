package hint

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ShellWord quotes a word for sh. One that a terminal or an editor might not
// show as it is goes through printf, so that a command can be read before it is
// run.
func ShellWord(s string) string {
	hidden := func(r rune) bool {
		return r != '\n' && r != ' ' && (!unicode.IsGraphic(r) || unicode.IsSpace(r))
	}
	switch {
	case s != "" && strings.IndexFunc(s, special) < 0:
		return s
	case !utf8.ValidString(s) || strings.IndexFunc(s, hidden) >= 0:
		return `"$(printf '` + octal(s) + `')"`
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func special(r rune) bool {
	return r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r) &&
		!strings.ContainsRune("._:/-@%+,=", r)
}

// octal writes the bytes of a name for printf(1); what is plain stays readable.
func octal(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if r := rune(s[i]); r != '%' && !special(r) {
			b.WriteByte(s[i])
			continue
		}
		fmt.Fprintf(&b, `\%03o`, s[i])
	}
	return b.String()
}
