package main_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// migration is what the test takes from `lasthop migrate -o json`.
type migration struct {
	Summary  map[string]int
	Findings []struct{ Code, Subject string }
	Flags    []string
	Steps    []struct {
		Phase, Where string
		Units, Lines []string
	}
}

// TestLabMigrate takes the place of a BIG-IP as docs/migrating-from-big-ip.md
// says. The host lacks addresses, gateways and a listener; the test does what
// migrate says, line by line, and adds only what migrate asks a person for.
func TestLabMigrate(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	m := l.migrating(t)
	first := m.ask(2)
	if first.Summary["virtuals"] != 19 || first.Summary["ready"] == 0 ||
		first.Summary["needs-input"] == 0 || first.Summary["not-applicable"] != 1 {
		t.Errorf("summary: %v", first.Summary)
	}
	for _, want := range []string{"no-gateway VLAN /Common/net2, eth2, IPv6",
		"gateway-from-big-ip VLAN /Common/net2, eth2, IPv4",
		"gateway-from-big-ip VLAN /Common/net1, eth1, IPv4", "no-listener nginx.conf", "address-missing 10.0.1.100, 2001:db8:2::100"} {
		if !first.finds(want) {
			t.Errorf("does not say %q: %v", want, first.Findings)
		}
	}
	t.Run("before", func(t *testing.T) { l.wantAnswers(t, onlyEth0, "client") })

	m.follow(first, "prepare")
	second := m.ask(0)
	if second.Summary["ready"] != 18 || len(second.Flags) > 0 {
		t.Errorf("after the preparation: %v, still asks for %v", second.Summary,
			second.Flags)
	}
	m.follow(second, "cut-over")
	if out := m.sh("lasthop apply"); !strings.Contains(out, "nothing to do") {
		t.Errorf("after the cut-over something is left to do:\n%s", out)
	}
	l.do("forget")
	t.Run("after/client", func(t *testing.T) { l.wantAnswers(t, everyVIP, "client") })
	t.Run("after/left by", func(t *testing.T) { l.wantLeft(t, ownLink, "client") })
	t.Run("after/LAN of eth0", func(t *testing.T) { l.wantAnswers(t, everyVIP, "lan") })
	if n := m.tmsh(); n != 2 {
		t.Errorf("%d commands for the BIG-IP, want one for each address that moves", n)
	}
	if out, _ := os.ReadFile(filepath.Join(m.bin, "announced")); string(out) !=
		"-U -c 3 -I eth1 10.0.1.100\n" {
		t.Errorf("told to the neighbours: %q", out)
	}

	m.follow(second, "roll-back")
	t.Run("rolled back", func(t *testing.T) {
		for _, addr := range []string{"10.0.1.100", "2001:db8:2::100"} {
			if out := l.host("ip -o address show to " + addr); strings.Contains(out,
				addr) {
				t.Errorf("%s is still here: %s", addr, out)
			}
		}
	})
}

func (m migration) finds(want string) bool {
	for _, f := range m.Findings {
		if f.Code+" "+f.Subject == want {
			return true
		}
	}
	return false
}

// nginxOfLab calls NGINX as the lab has started it.
const nginxOfLab = `modules=$(/usr/sbin/nginx -V 2>&1 | tr ' ' '\n' | sed -n 's/^--modules-path=//p')/ngx_stream_module.so
set="daemon off; user root;"
[ ! -e "$modules" ] || set="load_module $modules; $set"
exec /usr/sbin/nginx -p /run/lab/nginx/ -c nginx.conf -g "$set" "$@"`

// migrating is the host that takes the BIG-IP's place: commands are found in
// bin first.
type migrating struct {
	*lab
	t        *testing.T
	bin, ucs string
	serve    string            // the line of nginx.conf beside which listens belong
	known    map[string]string // what migrate asks in lasthop.yaml, and the answers
}

// migrating takes away what the test is about, and builds the UCS.
func (l *lab) migrating(t *testing.T) migrating {
	t.Helper()
	m := migrating{l, t, t.TempDir(), filepath.Join(t.TempDir(), "lb1.ucs"), `return "pong";`,
		networkTeam}
	writeUCS(t, m.ucs)
	m.script("lasthop", "exec "+l.lasthop+` --config "$CONFIG" "$@"`)
	// there is no BIG-IP in the lab; its addresses are free already
	m.script("tmsh", `echo "$@" >>`+m.bin+"/said")
	m.script("nginx", nginxOfLab)
	m.script("arping", `echo "$@" >>`+m.bin+"/announced")
	m.edit("listen 10.0.1.100:9000 udp;", "")
	m.sh("nginx -t; nginx -s reload")
	// the old socket is closed
	m.sh("until ! ss -Hlun src 10.0.1.100 | grep -q .; do sleep 0.05; done")
	for _, command := range []string{"address del 10.0.1.100/24 dev eth1",
		"-6 address del 2001:db8:2::100/64 dev eth2",
		"route del default dev eth1", "route del default dev eth2", "-6 route del default dev eth2"} {
		l.host("ip " + command)
	}
	return m
}

func (m migrating) script(name, body string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.bin, name), []byte("#!/bin/sh\n"+body+"\n"),
		0o755); err != nil {
		m.t.Fatal(err)
	}
}

// config is where lasthop.yaml is; the first time there is none.
func (m migrating) config() string {
	path := filepath.Join(m.bin, "lasthop.yaml")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// sh runs command lines on the host.
func (m migrating) sh(lines string) string {
	m.t.Helper()
	return m.do("at", "host", "env", "CONFIG="+m.config(),
		"PATH="+m.bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "sh", "-euc", lines)
}

// edit replaces text in nginx.conf, which only the lab's mount namespace has.
func (m migrating) edit(old, new string) {
	m.t.Helper()
	m.sh(fmt.Sprintf("grep -qF '%s' /run/lab/nginx/nginx.conf; sed -i 's|%s|%s|' "+
		"/run/lab/nginx/nginx.conf", old, old, new))
}

// ask runs migrate and wants its exit status. The text must hold each line of
// the JSON.
func (m migrating) ask(exit int) migration {
	m.t.Helper()
	var got migration
	text := m.sh(fmt.Sprintf("lasthop migrate %s || [ $? = %d ]; [ %[2]d = 0 ] || ! lasthop "+
		"migrate %[1]s >/dev/null", m.ucs, exit))
	out := m.sh("lasthop migrate -o json " + m.ucs + " || [ $? = 2 ]")
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		m.t.Fatal(err)
	}
	for _, s := range got.Steps {
		for _, line := range s.Lines {
			if !strings.Contains(text, "\n       "+line+"\n") {
				m.t.Errorf("the text does not have the line %q:\n%s", line, text)
			}
		}
	}
	return got
}

// networkTeam is what the network team answers.
var networkTeam = map[string]string{"gateways: [10.0.2.1]  # add the router for " +
	"IPv6, which nobody can see": `gateways: [10.0.2.1, "2001:db8:2::1"]`}

// follow does what the steps of a phase say.
func (m migrating) follow(what migration, phase string) {
	m.t.Helper()
	for _, s := range what.Steps {
		if s.Phase != phase || len(s.Lines) == 0 {
			continue
		}
		switch lines := strings.Join(s.Lines, "\n"); s.Where {
		case "nginx.conf":
			m.edit(m.serve, strings.ReplaceAll(lines, "\n", " ")+" "+m.serve)
		case "lasthop.yaml":
			for asked, answer := range m.known {
				if !strings.Contains(lines, asked) {
					m.t.Errorf("lasthop.yaml does not ask %q:\n%s",
						asked, lines)
				}
				lines = strings.Replace(lines, asked, answer, 1)
			}
			if err := os.WriteFile(filepath.Join(m.bin, "lasthop.yaml"),
				[]byte(lines+"\n"), 0o644); err != nil {
				m.t.Fatal(err)
			}
		case "host":
			m.t.Logf("%s, %s:\n%s", phase, s.Where, m.sh(lines))
		case "big-ip":
			for _, unit := range append(s.Units, "")[:max(len(s.Units), 1)] {
				host, _, _ := strings.Cut(unit, ".")
				m.t.Logf("%s, %s %s:\n%s", phase, s.Where, unit,
					m.sh("export UNIT="+host+"\n"+lines))
			}
		default:
			m.t.Errorf("a step for %q", s.Where)
		}
	}
}

// tmsh counts what was said to the BIG-IP.
func (m migrating) tmsh() int {
	said, _ := os.ReadFile(filepath.Join(m.bin, "said"))
	return strings.Count(string(said), "modify ltm virtual-address /Common/")
}

// writeUCS packs testdata/lab/bigip as a BIG-IP packs its configuration.
func writeUCS(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	files, err := filepath.Glob("../../testdata/lab/bigip/*")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Name: "config/" + filepath.Base(name),
			Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []interface{ Close() error }{w, z, f} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
