package nginxconf

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A configuration of a corpus was written for another machine. In a copy, fit
// changes what NGINX complains about and what opens no socket: certificates,
// users, log files, names of upstreams, modules. NGINX and Load then read the
// same copy.

var (
	// globals say how and where NGINX runs; the test says that itself.
	globals = regexp.MustCompile(`(?m)^[ \t]*(daemon|master_process|pid|user|error_log|load_module|lock_file|working_directory|` +
		`debug_points|worker_cpu_affinity|worker_processes|env|google_perftools_profiles|ssl_engine)[ \t][^;{}\n]*;`)
	certificates = regexp.MustCompile(`(\w*ssl_(?:certificate|certificate_key|trusted_certificate|client_certificate))\s+[^;{}]*;`)
	otherSSL     = regexp.MustCompile(
		`\w*ssl_(?:dhparam|crl|password_file|session_ticket_key|stapling_file)\s+[^;{}]*;`)
	module    = regexp.MustCompile(`(?m)(^|[\s;}])(http|stream|mail)\s*\{`)
	hasEvents = regexp.MustCompile(`(?m)^[^#\n]*\bevents\s*\{`)

	emergAt     = regexp.MustCompile(`\[emerg\][^\n]* in (\S+):(\d+)`)
	cannotOpen  = regexp.MustCompile(`(?:open|mkdir|opendir|stat)\(\) "([^"]+)" failed`)
	noHostIn    = regexp.MustCompile(`host not found in [^\n]*?"(\[?[^":\]/]+)(?:[:/][^"]*)?"`)
	keepsListen = regexp.MustCompile(`\b(listen|server|http|stream|mail|events)\b`)
)

// fit returns the text with one complaint of NGINX less; ok is false where it
// cannot help.
func (tr *trial) fit(text, refusal, cert string) (fitted string, ok bool) {
	if m := noHostIn.FindStringSubmatch(refusal); m != nil {
		known := tr.hosts[m[1]] != nil
		tr.hosts[m[1]] = []string{"10.9.0.99"}
		return text, !known
	}
	if strings.Contains(refusal, `no "ssl_certificate" is defined`) ||
		strings.Contains(refusal, `no "ssl_certificate_key" is defined`) {
		fitted = module.ReplaceAllString(text,
			"${0} ssl_certificate "+cert+"; ssl_certificate_key "+cert+";")
		return fitted, !strings.Contains(text, "{ ssl_certificate "+cert)
	}
	if strings.Contains(refusal, "certificate") || strings.Contains(refusal, "SSL") ||
		strings.Contains(refusal, "BIO_new_file") {
		fitted = otherSSL.ReplaceAllString(
			certificates.ReplaceAllString(text, "${1} "+cert+";"), "")
		if fitted != text {
			return fitted, true
		}
	}
	if m := emergAt.FindStringSubmatch(refusal); m != nil {
		line, err := strconv.Atoi(m[2])
		if err != nil || m[1] != filepath.Join(tr.dir, "nginx.conf") {
			return text, false
		}
		return blank(text, line)
	}
	if m := cannotOpen.FindStringSubmatch(refusal); m != nil {
		if dir := filepath.Dir(m[1]); strings.HasPrefix(dir, tr.dir) {
			return text, !exists(dir) && os.MkdirAll(dir, 0o755) == nil
		}
		fitted = strings.ReplaceAll(text, m[1], filepath.Join(tr.dir, "logs", "file"))
		return fitted, fitted != text
	}
	return text, false
}

// blank takes out the directive that ends, or whose block begins, on a line,
// keeping the numbers of lines. NGINX names that line in its complaints. A
// directive that concerns sockets stays.
func blank(text string, line int) (string, bool) {
	lines := strings.Split(text, "\n")
	if line > len(lines) {
		return text, false
	}
	first, last := line-1, line-1
	for first > 0 && !endsDirective(lines[first-1]) {
		first--
	}
	for depth := 0; last < len(lines); last++ {
		depth += strings.Count(lines[last], "{") - strings.Count(lines[last], "}")
		if depth < 0 {
			return text, false
		}
		if depth == 0 {
			break
		}
	}
	if last == len(lines) || keepsListen.MatchString(strings.Join(lines[first:last+1], "\n")) {
		return text, false
	}
	for i := first; i <= last; i++ {
		lines[i] = ""
	}
	return strings.Join(lines, "\n"), true
}

func endsDirective(line string) bool {
	line, _, _ = strings.Cut(line, " #")
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#' || strings.ContainsAny(line[len(line)-1:], ";{}")
}

// wraps are the blocks that a fragment may be meant to stand in.
func wraps(text string) [][2]string {
	events := "events {} "
	if hasEvents.MatchString(text) {
		events = ""
	}
	if module.MatchString(text) {
		return [][2]string{{events, ""}}
	}
	return [][2]string{{"", ""}, {events + "http { ", "\n}"}, {events + "stream { ", "\n}"},
		{events + "mail { ", "\n}"},
		{events + "http { server { ", "\n} }"}, {events + "stream { server { ", "\n} }"}, {events + "http { server { location / { ", "\n} } }"}}
}
