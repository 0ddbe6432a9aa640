package nginxconf

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// hasPattern reports whether NGINX passes an include to glob(3).
func hasPattern(s string) bool { return strings.ContainsAny(s, "*?[") }

// glob expands an absolute pattern as glob(3) without flags does, in byte
// order: a leading dot must be written, "!" negates, no match is no error.
// Unlike glob(3) it returns an error for a directory that cannot be listed:
// NGINX may be able to list it.
func (t *tree) glob(pattern string) ([]string, error) {
	found := []string{"/"}
	for part := range strings.SplitSeq(strings.TrimLeft(pattern, "/"), "/") {
		var next []string
		matches := fnmatch(part)
		for _, dir := range found {
			more, err := t.globIn(dir, part, matches)
			if err != nil {
				return nil, err
			}
			next = append(next, more...)
		}
		found = next
	}
	return found, nil
}

func (t *tree) globIn(dir, part string, matches func(string) bool) ([]string, error) {
	join := func(name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }
	if part == "" || part == "." {
		return []string{dir}, nil
	}
	if !hasPattern(part) {
		name := join(strings.ReplaceAll(part, `\`, ""))
		if part != ".." && !t.exists(name) {
			return nil, nil
		}
		return []string{name}, nil
	}
	if err := t.count(1); err != nil {
		return nil, err
	}
	names, err := t.list(dir)
	if err != nil {
		return nil, err
	}
	if dir := tidy(dir); !t.listed[dir] {
		t.listed[dir] = true
		t.dirs = append(t.dirs, dir)
	}
	var found []string
	for _, name := range names {
		if t.stopped() {
			return nil, errSlow
		}
		if (name[0] != '.' || part[0] == '.') && matches(name) {
			found = append(found, join(name))
		}
	}
	return found, nil
}

// fnmatch is fnmatch(3) in the C locale, which NGINX runs in, without slashes:
// *, ?, [a-z], [!a], [^a], [[:digit:]] and backslash, byte by byte.
func fnmatch(pattern string) func(name string) bool {
	expr := "(?s)^"
	for rest := latin1(pattern); rest != ""; {
		var e string
		e, rest = translate(rest)
		expr += e
	}
	re, err := regexp.Compile(expr + "$")
	return func(name string) bool { return err == nil && re.MatchString(latin1(name)) }
}

// latin1 makes a character of each byte.
func latin1(s string) string { return string(fromLatin1([]byte(s))) }

// translate makes a regular expression of the first element of a pattern, and
// returns the rest of the pattern.
func translate(p string) (expr, rest string) {
	switch p[0] {
	case '*':
		return ".*", p[1:]
	case '?':
		return ".", p[1:]
	case '[':
		if expr, rest, closed := translateSet(p[1:]); closed {
			return expr, rest
		}
	}
	return character(p)
}

// translateSet translates a bracket expression from behind its bracket; one
// that is never closed matches itself.
func translateSet(p string) (expr, rest string, closed bool) {
	expr = "["
	if p != "" && (p[0] == '!' || p[0] == '^') {
		expr, p = "[^", p[1:]
	}
	for first := true; p != "" && (first || p[0] != ']'); first = false {
		var e string
		class, after, found := strings.Cut(p, ":]")
		switch {
		case found && strings.HasPrefix(class, "[:"):
			e, p = class+":]", after
		case !first && p[0] == '-': // of a range
			e, p = "-", p[1:]
		default:
			e, p = character(p)
		}
		expr += e
	}
	if p == "" {
		return "", "", false
	}
	return expr + "]", p[1:], true
}

// character translates a character, with a backslash or without one.
func character(p string) (expr, rest string) {
	if p[0] == '\\' && len(p) > 1 {
		p = p[1:]
	}
	r, size := utf8.DecodeRuneInString(p)
	return fmt.Sprintf(`\x{%x}`, r), p[size:]
}
