package main

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lasthop/bigip"
	"lasthop/bigip/migrate"
	"lasthop/internal/nstest"
	"lasthop/internal/survey"
	"lasthop/nginxconf"
	"lasthop/routing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestSkeletonNGINX passes skeletons to `nginx -t`, and to lasthop's own
// reader: of BIG-IPs of testdata, of the labs, and of the corpus if it is here.
func TestSkeletonNGINX(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := skeletons{nginx: nginx, ns: nstest.New(t)}
	s.ns.Sysctl("net.ipv4.ip_nonlocal_bind=1")
	s.ns.Sysctl("net.ipv6.ip_nonlocal_bind=1")
	archives, err := filepath.Glob("../../testdata/*ig*/*.txtar") // bigip and migrate
	if err != nil || len(archives) < 80 {
		t.Fatal(len(archives), "archives:", err)
	}
	for _, name := range archives {
		s.archive(t, name)
	}
	s.file(t, "../../testdata/lab/bigip")
	for _, name := range corpusFiles(t) {
		s.file(t, name)
	}
	s.hostile(t)
	t.Logf("%d skeletons with %d listens", s.done, s.listens)
	if s.done < 80 || s.listens < 200 {
		t.Error("that is not all")
	}
}

// corpusFiles are those of CORPUS, as for TestProveCorpus of package bigip.
func corpusFiles(t *testing.T) (names []string) {
	dir := filepath.Join(os.Getenv("CORPUS"), "bigip")
	if _, err := os.Stat(dir); os.Getenv("CORPUS") == "" || err != nil {
		t.Log("CORPUS has no configurations of BIG-IPs")
		return nil
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// skeletons asks NGINX in a namespace where each address may be listened on.
type skeletons struct {
	nginx         string
	ns            *nstest.NS
	done, listens int
}

// archive takes the files of a BIG-IP out of an archive.
func (s *skeletons) archive(t *testing.T, name string) {
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range a.Files {
		if slices.Contains([]string{"host", "listens", "policy", "want"}, f.Name) {
			continue
		}
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.file(t, dir)
}

// file makes the skeleton of a file or directory, if that is of a BIG-IP with
// virtual servers.
func (s *skeletons) file(t *testing.T, path string) {
	if c, err := bigip.Load(path); err == nil && len(c.Virtuals) > 0 {
		s.config(t, path, c)
	}
}

// hostile makes skeletons with names that would become directives.
func (s *skeletons) hostile(t *testing.T) {
	for _, evil := range []string{"x\n}\nevil on;", "x\revil on;", "x\\\nevil on;",
		strings.Repeat("ä", 9000), "\x00\xff'\"{};$evil"} {
		c, err := bigip.Load("../../testdata/lab/bigip")
		if err != nil {
			t.Fatal(err)
		}
		c.Hostname = evil
		for i := range c.Virtuals {
			c.Virtuals[i].Name, c.Virtuals[i].Origin = evil, evil
		}
		s.config(t, fmt.Sprintf("%.20q", evil), c)
	}
}

func (s *skeletons) config(t *testing.T, path string, c bigip.Config) {
	text, _, _ := migrate.Selection{}.Skeleton(c)
	conf := filepath.Join(t.TempDir(), "nginx.conf")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	read, err := nginxconf.Load(conf, nginxconf.Options{})
	if err != nil || len(read.Warnings) > 0 {
		t.Errorf("%s: lasthop does not read it: %v %v", path, err, read.Warnings)
	}
	s.done, s.listens = s.done+1, s.listens+len(read.Listens)
	var n survey.NGINX
	n.Add(read)
	wantListeners(t, path, c, n.Listeners)
	s.wantAccepted(t, path, text)
}

// wantListeners wants migrate to miss no listener except for those that the
// skeleton says NGINX cannot have.
func wantListeners(t *testing.T, path string, c bigip.Config, listeners []routing.Listener) {
	t.Helper()
	r, err := migrate.Selection{}.Join(c, routing.Inputs{Listeners: listeners,
		Policy: routing.Policy{Numbers: routing.DefaultNumbers}})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Rows {
		addr, _ := netip.ParseAddr(row.Address)
		var first, last int
		n, _ := fmt.Sscanf(row.Port, "%d-%d", &first, &last)
		excused := addr.IsLinkLocalUnicast() || addr.Is4In6() ||
			n == 2 && last-first >= 1024
		if slices.Contains(append(row.Also, row.Reason), "no-listener") && !excused {
			t.Errorf("%s: lasthop does not find the listener of %s, %s port %s",
				path, row.Virtual, row.Address, row.Port)
		}
	}
	for _, f := range r.Findings {
		if f.Code == "new-listener" {
			t.Errorf("%s: the skeleton listens elsewhere: %s", path, f.Subject)
		}
	}
}

// wantAccepted wants `nginx -t` to take a skeleton, without the directories of
// an installed NGINX, which only root may write.
func (s *skeletons) wantAccepted(t *testing.T, path, text string) {
	t.Helper()
	dir := t.TempDir()
	own := "access_log off;"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		own += " " + kind + "_temp_path " + dir + ";"
	}
	text = strings.Replace(text, "\nhttp {\n", "\nhttp {\n"+own+"\n", 1)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	globals := "error_log stderr; pid " + dir + "/pid;"
	if os.Getenv("LASTHOP_TEST_USERNS") != "" {
		globals += " user root;" // the only user there
	}
	out, err := s.ns.Command("sh", "-c", `ulimit -n $(ulimit -Hn); exec "$@"`, "sh",
		s.nginx, "-t", "-c", conf, "-g", globals).CombinedOutput()
	if err != nil {
		t.Errorf("%s: nginx -t: %v\n%s\n%s", path, err, out, text)
	}
}
