package main_test

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// whole are pages of which another test runs every command, in order.
var whole = map[string]string{
	"getting-started.md":       "testdata/systems/journey.sh",
	"migrating-from-big-ip.md": "TestLabMigrate",
}

const (
	image = "testdata/systems/image.sh runs it with options of its own"
	role  = "testdata/systems/ansible.sh runs it with an inventory of its own"
	timer = "TestCheckTimer of package deploy runs what the units run"
)

// notRun are commands that no test runs, each with the reason.
var notRun = map[string]string{
	"apt install ./lasthop_1.0.0_amd64.deb": "testdata/systems/packages.sh installs it " +
		"from another directory",
	"buildah bud --timestamp 0 -f deploy/container/Containerfile -t lasthop .":                  image,
	"podman run --rm --network host --read-only --cap-drop all \\":                              image,
	"podman run --rm --network host --read-only --cap-drop all --cap-add NET_ADMIN --user 0 \\": image,

	"ansible-playbook -i hosts migrate.yml --tags install \\":                     role,
	"ansible-playbook -i hosts migrate.yml --check -e lasthop_bigip=/srv/lb1.ucs": role,
	"ansible-playbook -i hosts migrate.yml -e @approved.yml":                      role,

	"systemctl edit lasthop-check.service":                       timer,
	"systemctl enable --now lasthop-check.timer":                 timer,
	"systemctl restart systemd-networkd":                         "internal/daemon's tests restart it by hand",
	"systemctl status lasthop":                                   "read by a person; unit.sh reads its status line",
	"systemctl status lasthop-check.timer lasthop-check.service": timer,

	"lasthop plan on web1, Linux 6.1.0": "the first line of an output",
	"lasthop apply --expect":            "a digest belongs behind it; testdata/script/ns-expect.txtar",
	"lasthop migrate":                   "files belong behind it; TestLabMigrate",
	"lasthop flow 198.51.100.2":         "needs the programs of the mode last-hop; TestFlow runs it",
	"dnf install ./lasthop-1.0.0-1.x86_64.rpm": "no distribution with rpm is booted; " +
		"deploy/packages/check.sh installs the rpm into an empty root",
}

// substitutes stand for words of the pages that a reader replaces.
var substitutes = strings.NewReplacer("ADDRESS", "10.0.1.100", "ADDR", "10.0.1.100",
	"CLIENT", "198.51.100.2", "PREFIX", "192.0.2.0/24", "TABLE", "100", "IF", "eth1",
	"CODE", "no-gateway", "MODE", "strict", "FILE...", "lb1.ucs", "OLD.json",
	"approved.json", "NAME", "host")

var (
	asksDaemon = regexp.MustCompile(`^lasthop (status|reload)`)
	endless    = regexp.MustCompile(`^lasthop (run|observe(| -o .*)$|.* --watch)`)
)

// duration is how long a command shall take; tests do not wait that long.
var duration = regexp.MustCompile(`\b\d+[sm]\b`)

// TestPages runs each command of README and docs that begins with lasthop, in
// the lab. Every other command has to be in a script that CI runs, or to be a
// target of make.
func TestPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages, %v: are they found?", len(pages), err)
	}
	lines, used := map[string][]string{}, 0 // command -> pages
	for _, page := range append(pages, "../../README.md") {
		if whole[filepath.Base(page)] != "" {
			continue
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range written(string(text)) {
			if lines[c] == nil && notRun[c] != "" {
				used++
			}
			lines[c] = append(lines[c], filepath.Base(page))
		}
	}
	if used != len(notRun) {
		t.Errorf("%d commands of notRun are on the pages, want all %d", used, len(notRun))
	}
	l, scripts := newLab(t), scripts(t)
	dir := shelf(t, l)
	run := func(when bool) {
		for _, c := range slices.Sorted(maps.Keys(lines)) {
			switch {
			case notRun[c] != "" || asksDaemon.MatchString(c) != when:
			case strings.HasPrefix(c, "lasthop "):
				l.asWritten(t, dir, c, lines[c])
			case !scripts(c):
				t.Errorf("%v: no test runs %q", lines[c], c)
			}
		}
	}
	run(false)
	defer l.background(t, "host", l.lasthop, "run")()
	soon(t, "the daemon", func() bool {
		return l.command("at", "host", l.lasthop, "status").Run() == nil
	})
	run(true)
}

// shelf is a directory with the files that the pages name.
func shelf(t *testing.T, l *lab) string {
	t.Helper()
	dir := t.TempDir()
	for name, from := range map[string]string{"lb1.ucs": "../../testdata/lab/bigip"} {
		if out, err := exec.Command("tar", "-C", from, "-czf", filepath.Join(dir, name),
			"--transform", "s|^[.]|config|", ".").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for name, args := range map[string]string{"seen.json": "observe --for 1s -o json",
		"approved.json": "plan -o json", "host.json": "capture"} {
		out := l.run(args)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// asWritten runs a command as it stands on pages, for 20 seconds at most. Exit
// status 1 means that it does not exist as written, or has failed.
func (l *lab) asWritten(t *testing.T, dir, command string, pages []string) {
	t.Helper()
	line := duration.ReplaceAllString(substitutes.Replace(command), "1s")
	if endless.MatchString(line) { // until Ctrl-C
		line = "timeout -s INT 2 " + line + " || [ $? = 124 ]"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	enter := l.command("at", "host", "sh", "-c", "cd "+dir+" && PATH="+
		filepath.Dir(l.lasthop)+":$PATH && "+line)
	c := exec.CommandContext(ctx, enter.Path, enter.Args[1:]...)
	c.WaitDelay = time.Second
	if out, err := c.CombinedOutput(); err != nil && c.ProcessState.ExitCode() != 2 {
		t.Errorf("%v: %s: %v\n%s", pages, line, err, out)
	}
}

var (
	typed  = regexp.MustCompile(`^(lasthop|apt|dnf|systemctl|make|journalctl|kubectl|ansible\S*|podman|buildah|promtool) .*\S`)
	prompt = regexp.MustCompile(`^(\$ )?(sudo )?`)
)

// written returns the commands of a page, each once: lines of blocks, and code
// in the text that is more than one word. What has an ellipsis is no command.
func written(page string) (out []string) {
	for _, c := range pageCommands(page) {
		c = prompt.ReplaceAllString(c, "")
		c, _, _ = strings.Cut(c, " | ")
		if typed.MatchString(c) && !strings.Contains(c, "…") && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// scripts returns a function that reports whether CI runs a command, or
// whether it is a target of make.
func scripts(t *testing.T) func(command string) bool {
	t.Helper()
	var all strings.Builder
	for _, pattern := range []string{"Makefile", ".ci/*", "deploy/*/*.sh", "testdata/lab/*.sh",
		"testdata/systems/*.sh", "docs/getting-started.md"} {
		files, err := filepath.Glob("../../" + pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	return func(command string) bool {
		if target, ok := strings.CutPrefix(command, "make "); ok {
			return strings.Contains(all.String(), "\n"+strings.Fields(target)[0]+":")
		}
		return strings.Contains(all.String(), command)
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile("(?m)^#+ +(.*)$")
	dropped = regexp.MustCompile("[^a-z0-9 _-]")
)

// TestLinks follows each link from a page to a file of this tree, and to a
// heading in it.
func TestLinks(t *testing.T) {
	pages, n := []string{}, 0
	for _, pattern := range []string{"*.md", "docs/*.md", "testdata/*.md", "deploy/*/*.md"} {
		files, _ := filepath.Glob("../../" + pattern)
		pages = append(pages, files...)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			file, place, _ := strings.Cut(m[1], "#")
			if strings.Contains(m[1], "://") {
				continue
			}
			n++
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if there, err := os.ReadFile(target); err != nil && !isDir(target) {
				t.Errorf("%s: %s: %v", page, m[1], err)
			} else if place != "" && !slices.Contains(anchors(string(there)), place) {
				t.Errorf("%s: %s: no such heading", page, m[1])
			}
		}
	}
	if n < 50 {
		t.Errorf("%d links: are they found?", n)
	}
}

func isDir(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.IsDir()
}

// anchors are the names by which links find the headings of a page.
func anchors(page string) (out []string) {
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		name := dropped.ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(name, " ", "-"))
	}
	return out
}
