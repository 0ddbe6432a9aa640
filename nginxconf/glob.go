package nginxconf

import "strings"

// hasPattern says whether NGINX gives an include to glob(3) at all.
func hasPattern(s string) bool { return strings.ContainsAny(s, "*?[") }

// glob expands an absolute pattern as glob(3) without flags does, in byte
// order: a leading dot must be written, "!" negates, nothing found is no error.
// Unlike glob(3) it returns an error for a directory that cannot be listed:
// NGINX may be able to. Every directory that was listed is passed to seen.
func (t tree) glob(pattern string, seen func(dir string)) ([]string, error) {
	found := []string{"/"}
	for part := range strings.SplitSeq(strings.TrimLeft(pattern, "/"), "/") {
		var next []string
		for _, dir := range found {
			more, err := t.globIn(dir, part, seen)
			if err != nil {
				return nil, err
			}
			next = append(next, more...)
		}
		found = next
	}
	return found, nil
}

func (t tree) globIn(dir, part string, seen func(string)) ([]string, error) {
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
	names, err := t.list(dir)
	if err != nil {
		return nil, err
	}
	seen(tidy(dir))
	var found []string
	for _, name := range names {
		if (name[0] != '.' || part[0] == '.') && fnmatch(part, name) {
			found = append(found, join(name))
		}
	}
	return found, nil
}

// fnmatch is fnmatch(3) in the C locale, which NGINX runs in, without slashes:
// *, ?, [a-z], [!a], [^a], [[:digit:]] and backslash, byte by byte.
func fnmatch(pattern, name string) bool {
	// after the last star: the rest of the pattern, and of the name to try
	// next
	star, retry := "", ""
	for {
		if pattern == "" && name == "" {
			return true
		}
		if pattern != "" && pattern[0] == '*' {
			pattern = strings.TrimLeft(pattern, "*")
			if pattern == "" {
				return true
			}
			star, retry = pattern, name
			continue
		}
		if pattern != "" && name != "" {
			if ok, rest := matchByte(pattern, name[0]); ok {
				pattern, name = rest, name[1:]
				continue
			}
		}
		if retry == "" {
			return false
		}
		retry = retry[1:]
		pattern, name = star, retry
	}
}

// matchByte matches the first element of pattern, which is no star, and returns
// the rest of the pattern.
func matchByte(pattern string, c byte) (ok bool, rest string) {
	switch pattern[0] {
	case '?':
		return true, pattern[1:]
	case '[':
		if ok, rest, closed := matchSet(pattern[1:], c); closed {
			return ok, rest
		}
	case '\\':
		if len(pattern) > 1 {
			pattern = pattern[1:]
		}
	}
	return pattern[0] == c, pattern[1:]
}

// matchSet matches a bracket expression from behind its bracket; one that is
// never closed stands for itself.
func matchSet(p string, c byte) (ok bool, rest string, closed bool) {
	negated := p != "" && (p[0] == '!' || p[0] == '^')
	if negated {
		p = p[1:]
	}
	for first := true; p != "" && (first || p[0] != ']'); first = false {
		if class, after, found := cutClass(p); found {
			ok = ok || inClass(class, c)
			p = after
			continue
		}
		var lo, hi byte
		lo, p = setByte(p)
		hi = lo
		if len(p) > 1 && p[0] == '-' && p[1] != ']' {
			hi, p = setByte(p[1:])
		}
		ok = ok || lo <= c && c <= hi
	}
	if p == "" {
		return false, "", false
	}
	return ok != negated, p[1:], true
}

func setByte(p string) (byte, string) {
	if p[0] == '\\' && len(p) > 1 {
		p = p[1:]
	}
	return p[0], p[1:]
}

func cutClass(p string) (class, rest string, found bool) {
	if !strings.HasPrefix(p, "[:") {
		return "", p, false
	}
	return strings.Cut(p[2:], ":]")
}

func inClass(class string, c byte) bool {
	lower, upper, digit := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
	switch class {
	case "alpha":
		return lower || upper
	case "digit":
		return digit
	case "alnum":
		return lower || upper || digit
	case "lower":
		return lower
	case "upper":
		return upper
	case "punct":
		return '!' <= c && c <= '~' && !lower && !upper && !digit
	case "space":
		return c == ' ' || '\t' <= c && c <= '\r'
	case "blank":
		return c == ' ' || c == '\t'
	case "xdigit":
		return digit || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
	}
	return false
}
