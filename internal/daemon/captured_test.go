package daemon

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCapturedNginx: a real NGINX runs, and no flag names its configuration.
// The plan of the captured host is the same, text by text, when NGINX and its
// files are gone.
func TestCapturedNginx(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80; listen *:8080; server_name a.example; " +
		"include locations.conf;")
	if err := os.WriteFile(s.File("locations.conf"),
		[]byte("location /up { proxy_bind 10.0.1.101; proxy_pass http://10.0.0.7; }\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	s.StartNginx()
	formats := []string{"text", "json", "html", "markdown", "csv", "iproute2", "networkd"}
	var live []string
	for _, format := range formats {
		out, errs, code := s.lasthop("plan", "-o", format)
		if code != 0 || !strings.Contains(out, "10.0.1.") {
			t.Fatalf("exit %d\n%s%s", code, out, errs)
		}
		live = append(live, out)
	}
	doc, errs, code := s.lasthop("capture")
	if code != 0 || strings.Contains(doc, "locations.conf;") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if err := os.WriteFile(s.File("host.json"), []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	s.StopNginx()
	for _, name := range []string{"nginx.conf", "locations.conf"} {
		if err := os.Remove(s.File(name)); err != nil {
			t.Fatal(err)
		}
	}
	stamps := regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d`)
	for i, format := range formats {
		there, errs, _ := runLasthop(t, "plan", "-o", format, "--host", s.File("host.json"))
		if d := cmp.Diff(stamps.ReplaceAllString(live[i], ""),
			stamps.ReplaceAllString(there, "")); d != "" {
			t.Errorf("-o %s: -here +elsewhere\n%s%s", format, d, errs)
		}
	}
	if !strings.Contains(live[0], "and 1 included file") ||
		!strings.Contains(live[0], "bind-moves") {
		t.Errorf("the plan has nothing to compare:\n%s", live[0])
	}
}
