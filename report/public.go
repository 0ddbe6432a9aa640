package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// hidden takes the place of a text that names a file that not everybody may
// read: such a text may hold more of what is in it.
const hidden = "only root may see this: it is about a file that other users cannot read"

// Readers reports for a file below a root, "" for this host's, whether all
// users may read it; or that it is gone, if all users may see that.
type Readers func(root, file string) (everybody, gone bool)

// Public returns the status as all users may see it. For a file that not all
// users may read it has no path, no checksum, and no text that names it; if it
// is a main file, a number replaces its path. Which addresses NGINX listens on
// is no secret: the kernel tells all users. A hop that may be a client has no
// address.
func (s Status) Public(r Readers) Status {
	v := viewer{r}
	s.Masters = v.masters(s.Masters)
	if slices.ContainsFunc(s.Masters, func(m Master) bool { return m.Root != "" }) {
		// a path may be a container's as well as this host's
		v = viewer{func(string, string) (everybody, gone bool) { return false, false }}
	}
	s.Inputs = slices.DeleteFunc(slices.Clone(s.Inputs), func(i Input) bool {
		everybody, _ := v.readers("", i.File)
		return !everybody
	})
	s.Plan.Outcomes = mapped(s.Plan.Outcomes, v.outcome)
	s.Plan.Findings = mapped(s.Plan.Findings, v.finding)
	s.Wrong = mapped(s.Wrong, v.text)
	s.LastHop = s.LastHop.public()
	s.Last.Cause, s.Last.Error = v.text(s.Last.Cause), v.text(s.Last.Error)
	return s
}

// viewer is a user with no special rights.
type viewer struct{ readers Readers }

// names reports whether a path is public.
func (v viewer) names(root, file string) bool {
	everybody, gone := v.readers(root, file)
	return everybody || gone
}

func (v viewer) masters(list []Master) (out []Master) {
	numbers := map[[2]string]string{}
	for _, m := range list {
		if key := [2]string{m.Root, m.Conf}; !v.names(m.Root, m.Conf) {
			if numbers[key] == "" {
				numbers[key] = fmt.Sprintf("private-%d", len(numbers)+1)
			}
			m.Conf = numbers[key]
		}
		out = append(out, m)
	}
	return out
}

// origin reports whether the origin of a thing is public: a file, or no file at
// all.
func (v viewer) origin(origin string) bool {
	return !strings.HasPrefix(origin, "/") || v.names("", fileOf(origin))
}

func (v viewer) outcome(o routing.Outcome) routing.Outcome {
	hides := func(origin string) bool { return !v.origin(origin) }
	if slices.ContainsFunc(o.Origins, hides) {
		o.Origins = slices.DeleteFunc(slices.Clone(o.Origins), hides)
		o.Servers = nil // it is no longer known which file has which
		if len(o.Origins) == 0 {
			o.Listen = ""
		}
	}
	return o
}

func (v viewer) finding(f routing.Finding) routing.Finding {
	if !v.origin(f.Origin) || v.text(f.Message) != f.Message {
		f.Origin, f.Message, f.Hint = "", hidden, ""
		f.Subject = "NGINX"
	}
	if !v.origin(f.Subject) {
		f.Subject = "NGINX"
	}
	if v.text(f.Hint) != f.Hint {
		f.Hint = ""
	}
	return f
}

// text hides a text that names a file that is not public.
func (v viewer) text(s string) string {
	if slices.ContainsFunc(filesIn(s), func(file string) bool { return !v.names("", file) }) {
		return hidden
	}
	return s
}

// filesIn returns what looks like the path of a file in a text. A prefix,
// "::/0", does not.
func filesIn(s string) (files []string) {
	for {
		i := strings.IndexByte(s, '/')
		if i < 0 {
			return files
		}
		begins := i == 0 || strings.IndexByte(" \t\n\"'`([{<=:,;", s[i-1]) >= 0
		word := s[i:]
		if end := strings.IndexAny(word, " \t\n\"'`)]}>,;"); end >= 0 {
			word = word[:end]
		}
		s = s[i+len(word):]
		if _, err := strconv.Atoi(word[1:]); begins && err != nil {
			files = append(files, fileOf(strings.TrimRight(word, ":.")))
		}
	}
}

// fileOf is the file of file:line.
func fileOf(origin string) string {
	if i := strings.LastIndexByte(origin, ':'); i > 0 {
		if _, err := strconv.Atoi(origin[i+1:]); err == nil {
			return origin[:i]
		}
	}
	return origin
}
