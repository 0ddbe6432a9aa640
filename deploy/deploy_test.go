// Package deploy_test holds the units and what `make install` installs against
// systemd's own tools.
package deploy_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// install runs `make install` below a directory.
func install(t *testing.T, dir string) {
	t.Helper()
	c := exec.Command("make", "-s", "-C", "..", "install", "DESTDIR="+dir)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
}

// analyze runs systemd-analyze and returns what it printed.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	exe, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out, err := exec.Command(exe, args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// systemd returns "systemd 252 (252.38-1~deb12u1)" and 252.
func systemd(t *testing.T) (line string, version int) {
	t.Helper()
	line, _, _ = strings.Cut(analyze(t, "--version"), "\n")
	if _, err := fmt.Sscanf(line, "systemd %d", &version); err != nil {
		t.Fatalf("systemd-analyze --version: %q", line)
	}
	return line, version
}

// TestNoSysusers: a package is installed also where systemd-tmpfiles is there,
// and nothing that makes the user of its file.
func TestNoSysusers(t *testing.T) {
	dir := t.TempDir()
	for name, status := range map[string]int{"systemd-tmpfiles": 65, "id": 1} {
		text := fmt.Sprintf("#!/bin/sh\nexit %d\n", status)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("/bin/sh", "packages/postinstall.sh", "configure")
	c.Env = []string{"PATH=" + dir}
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestInstall: each file in its place, a second time does no harm, and what the
// administrator wrote stays.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	install(t, dir)
	var got []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			got = append(got, info.Mode().String()+" "+strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{
		"-rw-r--r-- /etc/iproute2/rt_protos.d/lasthop.conf", "-rw-r--r-- /etc/lasthop/lasthop.yaml", "-rw-r--r-- /usr/lib/systemd/catalog/lasthop.catalog", "-rw-r--r-- /usr/lib/systemd/networkd.conf.d/50-lasthop.conf",
		"-rw-r--r-- /usr/lib/systemd/system/lasthop.service", "-rw-r--r-- /usr/lib/sysusers.d/lasthop.conf", "-rw-r--r-- /usr/lib/tmpfiles.d/lasthop.conf",
		"-rw-r--r-- /usr/share/bash-completion/completions/lasthop", "-rw-r--r-- /usr/share/doc/lasthop/LICENSE",
		"-rw-r--r-- /usr/share/doc/lasthop/README.md", "-rw-r--r-- /usr/share/doc/lasthop/SECURITY.md", "-rw-r--r-- /usr/share/doc/lasthop/THIRD-PARTY-LICENSES", "-rw-r--r-- /usr/share/doc/lasthop/changelog.gz",
		"-rw-r--r-- /usr/share/doc/lasthop/docs/architecture.md", "-rw-r--r-- /usr/share/doc/lasthop/docs/comparison.md",
		"-rw-r--r-- /usr/share/doc/lasthop/docs/configuration.md",
		"-rw-r--r-- /usr/share/doc/lasthop/docs/findings.md", "-rw-r--r-- /usr/share/doc/lasthop/docs/fleet.md",
		"-rw-r--r-- /usr/share/doc/lasthop/docs/getting-started.md", "-rw-r--r-- /usr/share/doc/lasthop/docs/how-it-works.md",
		"-rw-r--r-- /usr/share/doc/lasthop/docs/last-hop.md", "-rw-r--r-- /usr/share/doc/lasthop/docs/metrics-and-alerts.md", "-rw-r--r-- /usr/share/doc/lasthop/docs/migrating-from-big-ip.md",
		"-rw-r--r-- /usr/share/doc/lasthop/docs/networkd.md", "-rw-r--r-- /usr/share/doc/lasthop/docs/networkmanager.md", "-rw-r--r-- /usr/share/doc/lasthop/docs/observe.md",
		"-rw-r--r-- /usr/share/doc/lasthop/docs/operations.md", "-rw-r--r-- /usr/share/doc/lasthop/docs/output.md", "-rw-r--r-- /usr/share/doc/lasthop/docs/performance.md",
		"-rw-r--r-- /usr/share/doc/lasthop/docs/support.md",
		"-rw-r--r-- /usr/share/doc/lasthop/grafana/lasthop.json", "-rw-r--r-- /usr/share/doc/lasthop/lasthop.service.d/last-hop.conf",
		"-rw-r--r-- /usr/share/doc/lasthop/lasthop.yaml",
		"-rw-r--r-- /usr/share/doc/lasthop/nginx.service.d/lasthop.conf",
		"-rw-r--r-- /usr/share/doc/lasthop/prometheus/alerts.yaml", "-rw-r--r-- /usr/share/doc/lasthop/prometheus/lasthop-check.service",
		"-rw-r--r-- /usr/share/doc/lasthop/prometheus/lasthop-check.timer", "-rw-r--r-- /usr/share/fish/vendor_completions.d/lasthop.fish",
		"-rw-r--r-- /usr/share/man/man5/lasthop.yaml.5.gz", "-rw-r--r-- /usr/share/man/man8/lasthop.8.gz",
		"-rw-r--r-- /usr/share/zsh/site-functions/_lasthop", "-rwxr-xr-x /usr/sbin/lasthop",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	mine := filepath.Join(dir, "etc/lasthop/lasthop.yaml")
	if err := os.WriteFile(mine, []byte("table_names: true\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	install(t, dir)
	if data, err := os.ReadFile(mine); err != nil || string(data) != "table_names: true\n" {
		t.Errorf("the administrator's settings are now %q, %v", data, err)
	}
}

// TestUnit: systemd finds nothing to say about the unit, and it is not more
// exposed than it must be.
func TestUnit(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("lasthop.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(dir, "lasthop.service")
	// what is not installed is an error
	if err := os.WriteFile(unit,
		[]byte(strings.ReplaceAll(string(text), "/usr/sbin/lasthop", "/bin/true")),
		0o644); err != nil {
		t.Fatal(err)
	}
	if out := analyze(t, "verify", "--man=no", unit); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	if line, version := systemd(t); version < 250 {
		t.Skipf("%s: tells no exposure of a unit that is not loaded; 250 does", line)
	}
	dropIn, err := os.ReadFile("lasthop.service.d/last-hop.conf")
	if err != nil {
		t.Fatal(err)
	}
	exposed(t, unit, 2.1)
	if err := os.WriteFile(unit, append(text, dropIn...), 0o644); err != nil {
		t.Fatal(err)
	}
	exposed(t, unit, 2.4)
}

// exposed compares the exposure of a unit, as systemd computes it, with a
// bound. What remains are three capabilities, netlink, and sight of NGINX's
// processes; with the mode last-hop also CAP_BPF and bpf(2).
func exposed(t *testing.T, unit string, most float64) {
	t.Helper()
	out := analyze(t, "security", "--offline=yes", "--no-pager", unit)
	m := regexp.MustCompile(`Overall exposure level for lasthop.service: ([0-9.]+)`).
		FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no exposure in\n%s", out)
	}
	t.Log(m[0])
	level, err := strconv.ParseFloat(m[1], 64)
	if err == nil && level <= most {
		return
	}
	t.Errorf("exposure %s, want %v at most", m[1], most)
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "✗") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// TestUnitRuns: `lasthop run` works inside of its unit, under a systemd that
// boots, next to NGINX.
func TestUnitRuns(t *testing.T) {
	cache, err := os.UserCacheDir()
	root := filepath.Join(cache, "lasthop", "bookworm", "root")
	_, noRoot := os.Stat(root)
	_, noBoot := exec.LookPath("systemd-nspawn")
	if err := errors.Join(err, noRoot, noBoot); err != nil || os.Geteuid() != 0 {
		t.Skipf("needs root, systemd-nspawn and the root of a distribution that "+
			"`make systems` makes: %v", err)
	}
	program := filepath.Join(t.TempDir(), "lasthop")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../cmd/lasthop")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	job := exec.Command("../testdata/systems/unit.sh", root, program)
	var stderr strings.Builder
	job.Stderr = &stderr
	out, err := job.Output()
	if err != nil || len(out) == 0 {
		t.Errorf("unit.sh: %v\n%s", err, stderr.String())
	}
	for line := range strings.Lines(string(out)) {
		result, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, why, _ := strings.Cut(name, ": ")
		t.Run(name, func(t *testing.T) {
			if result != "ok" {
				t.Errorf("%s: %s\n%s", result, why, stderr.String())
			}
		})
	}
}

// TestDropIn: with the drop-in NGINX's unit is still one that systemd accepts,
// its own lines stay and come first, and a lasthop that fails fails no reload.
func TestDropIn(t *testing.T) {
	dir := t.TempDir()
	nginx := "[Unit]\nDescription=nginx\n[Service]\nType=forking\nPIDFile=/run/nginx.pid\n" +
		"ExecStartPre=/bin/true -t\nExecStart=/bin/true\n" +
		"ExecReload=/bin/true -g 'daemon on; master_process on;' -s " +
		"reload\nKillMode=mixed\n"
	dropIn, err := os.ReadFile("nginx.service.d/lasthop.conf")
	if err != nil {
		t.Fatal(err)
	}
	here := strings.ReplaceAll(string(dropIn), "/usr/sbin/lasthop", "/bin/true")
	for name, text := range map[string]string{"nginx.service": nginx,
		"nginx.service.d/lasthop.conf": here} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out := analyze(t, "verify", "--man=no", filepath.Join(dir, "nginx.service")); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	var reloads []string
	for line := range strings.Lines(nginx + string(dropIn)) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecReload=")
		switch {
		case ok && value == "":
			reloads = nil // systemd.service(5): an empty line resets the list
		case ok:
			reloads = append(reloads, value)
		}
	}
	if d := cmp.Diff([]string{"/bin/true -g 'daemon on; master_process on;' -s reload",
		"-/usr/sbin/lasthop apply --no-delete --quiet"}, reloads); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestCheckTimer: systemd takes the units, and the file of metrics is replaced
// by a check that ends, and kept if the check fails.
func TestCheckTimer(t *testing.T) {
	dir := t.TempDir()
	file, program := filepath.Join(dir, "lasthop.prom"), filepath.Join(dir, "lasthop")
	for _, name := range []string{"lasthop-check.service", "lasthop-check.timer"} {
		text, err := os.ReadFile("prometheus/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out := analyze(t, "verify", "--man=no", filepath.Join(dir, "lasthop-check.service"),
		filepath.Join(dir, "lasthop-check.timer")); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	unit, err := os.ReadFile("prometheus/lasthop-check.service")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`ExecStart=/bin/sh -c '(.*)'`).FindStringSubmatch(string(unit))
	if m == nil {
		t.Fatal("no command of a shell")
	}
	command := strings.NewReplacer("$$", "$", "/usr/sbin/lasthop", program).Replace(m[1])
	for _, tt := range []struct {
		exit int
		fine bool
	}{{0, true}, {1, false}, {2, true}, {137, false}} {
		script := fmt.Sprintf("#!/bin/sh\necho \"$*\" new\nexit %d\n", tt.exit)
		err := errors.Join(os.WriteFile(program, []byte(script), 0o755),
			os.WriteFile(file, []byte("old"), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("/bin/sh", "-c", command)
		c.Env = []string{"FILE=" + file, "PATH=/usr/bin:/bin"}
		err = c.Run()
		got, want := "", "old"
		if data, err := os.ReadFile(file); err == nil {
			got = string(data)
		}
		if tt.fine {
			want = "check -o prometheus new\n"
		}
		if (err == nil) != tt.fine || got != want {
			t.Errorf("exit status %d: %v, the file has %q, want %q", tt.exit, err,
				got, want)
		}
	}
}
