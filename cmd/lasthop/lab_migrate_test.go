package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// migration is what the test takes from `lasthop migrate -o json`.
type migration struct {
	Summary  map[string]int
	Findings []struct{ Code, Subject string }
	Flags    []string
	Steps    []struct {
		Phase, Where        string
		Units, Lines, Notes []string
	}
}

// TestLabMigrate takes the place of BIG-IPs as docs/migrating-from-big-ip.md
// says, in four labs, and takes the answers of iControl REST in a fifth. They
// do what the page and migrate say, line by line, and add only what migrate
// asks a person for. Each command of the page is run.
func TestLabMigrate(t *testing.T) {
	t.Parallel()
	g, labs := &guide{}, map[string]func(*testing.T, *guide){
		"one": migrateOne, "kinds": migrateKinds, "pair": migratePair,
		"rest": migrateREST, "estate": migrateEstate}
	done := t.Run("labs", func(t *testing.T) {
		for name, lab := range labs {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				lab(t, g)
				g.ran("lab " + name)
			})
		}
	})
	for name := range labs {
		done = done && slices.Contains(g.lines, "lab "+name) // it was not skipped
	}
	if done {
		g.wantAllRun(t)
	}
}

// migrateOne moves two addresses from a UCS alone. The host lacks addresses,
// gateways and a listener.
func migrateOne(t *testing.T, g *guide) {
	l := newLab(t)
	m := l.migrating(t, g)
	moved := []string{"10.0.1.100", "2001:db8:2::100"}
	var back []string // to the BIG-IP
	for _, addr := range moved {
		back = append(back, "tmsh modify ltm virtual-address /Common/"+addr+
			" arp enabled enabled yes")
	}
	m.take()
	first := m.ask(2)
	m.elsewhere(first)
	m.wave()
	m.skeleton()
	if s := first.Summary; s["virtuals"] != 19 || s["ready"] == 0 ||
		s["needs-input"] == 0 || s["not-applicable"] != 1 {
		t.Errorf("summary: %v", s)
	}
	for _, want := range []string{"no-gateway VLAN /Common/net2, eth2, IPv6",
		"gateway-from-big-ip VLAN /Common/net2, eth2, IPv4",
		"gateway-from-big-ip VLAN /Common/net1, eth1, IPv4", "no-listener nginx.conf",
		"address-missing 10.0.1.100, 2001:db8:2::100"} {
		if !first.finds(want) {
			t.Errorf("does not say %q: %v", want, first.Findings)
		}
	}
	t.Run("before", func(t *testing.T) { l.wantAnswers(t, onlyEth0, "client") })
	m.sh(strings.Join(back, "\n"))
	m.follow(first, "prepare")
	second := m.ask(0)
	if second.Summary["ready"] != 18 || len(second.Flags) > 0 {
		t.Errorf("prepared: %v, still asks for %v", second.Summary, second.Flags)
	}
	if out := m.person("lasthop plan --prove"); !strings.Contains(out, "all as planned") {
		t.Errorf("the plan is not proved:\n%s", out)
	}
	m.follow(second, "cut-over")
	if out := m.sh("lasthop apply"); !strings.Contains(out, "nothing to do") {
		t.Errorf("after the cut-over something is left to do:\n%s", out)
	}
	m.verified(0)
	l.do("forget")
	t.Run("after/client", func(t *testing.T) { l.wantAnswers(t, everyVIP, "client") })
	t.Run("after/left by", func(t *testing.T) { l.wantLeft(t, ownLink, "client") })
	t.Run("after/LAN of eth0", func(t *testing.T) { l.wantAnswers(t, everyVIP, "lan") })

	m.follow(second, "roll-back")
	for _, addr := range moved {
		if out := l.host("ip -o address show to " + addr); strings.Contains(out, addr) {
			t.Errorf("%s is still here: %s", addr, out)
		}
	}
	m.person("lasthop clear")
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
const nginxOfLab = `: ${NGINX:=/run/lab/nginx}
modules=$(/usr/sbin/nginx -V 2>&1 | tr ' ' '\n' | sed -n 's/^--modules-path=//p')/ngx_stream_module.so
set="daemon off; user root;"
[ ! -e "$modules" ] || set="load_module $modules; $set"
exec /usr/sbin/nginx -p $NGINX/ -c nginx.conf -g "$set" "$@"`

// migrating is the host that takes the BIG-IP's place, and its administrator.
type migrating struct {
	*lab
	t     *testing.T
	guide *guide
	ns    string            // its namespace
	nginx string            // where its NGINX has its files
	bin   string            // whose commands are found first
	dir   string            // where the administrator works
	disk  string            // the BIG-IP's
	files string            // of the BIG-IP, in dir
	serve string            // the line of nginx.conf that listens go next to
	known map[string]string // what migrate asks in lasthop.yaml, and the answers
}

// newMigrating raises a BIG-IP of one unit or two in each VLAN of a lab, with
// the files of a folder.
func newMigrating(l *lab, t *testing.T, g *guide, conf string, units ...string) migrating {
	t.Helper()
	m := migrating{lab: l, t: t, guide: g, ns: "host", nginx: "/run/lab/nginx",
		disk: t.TempDir(), files: "lb1.ucs"}
	m.tools()
	files, err := filepath.Glob(conf)
	if err != nil || len(files) == 0 || os.Mkdir(m.disk+"/config", 0o755) != nil {
		t.Fatal(conf, err)
	}
	for _, from := range files {
		to := filepath.Base(from)
		if len(files) == 1 {
			to = "bigip.conf"
		}
		m.copy(from, m.disk+"/config/"+to)
	}
	for i, unit := range units {
		m.unit(unit, []int{2, 5}[i])
	}
	return m
}

// tools gives the person directories and commands.
func (m *migrating) tools() {
	m.t.Helper()
	m.bin, m.dir = m.t.TempDir(), m.t.TempDir()
	m.script("lasthop", "exec "+m.lasthop+` --config "$CONFIG" "$@"`)
	m.script("nginx", nginxOfLab)
	m.script("tmsh", "disk="+m.disk+"\n"+labTMSH)
	m.script("tcpdump", labTCPDump)
}

// unit raises a unit of the BIG-IP, with self IPs that end in n and, as
// Auto-Last-Hop would have it, a way back by each VLAN.
func (m migrating) unit(name string, n int) {
	m.do("namespace", name)
	m.do("at", name, "sysctl", "-qw", "net.ipv4.conf.all.arp_notify=1",
		"net.ipv6.conf.all.ndisc_notify=1")
	for i := range 3 {
		m.do("plug", name, fmt.Sprint("net", i), fmt.Sprint(i))
	}
	for _, f := range []struct{ family, self, subnet, router string }{
		{"-4", "10.0.%d.%d/24", "10.0.%d.0/24", "10.0.%d.1"},
		{"-6", "2001:db8:%d::%d/64 nodad", "2001:db8:%d::/64", "2001:db8:%d::1"}} {
		lines := ""
		for i := range 3 {
			subnet := fmt.Sprintf(f.subnet, i)
			to := fmt.Sprintf("dev net%d table %d", i, 101+i)
			lines += fmt.Sprintf("addr add "+f.self+" dev net%[1]d\n", i, n) +
				"rule add from " + subnet + fmt.Sprintf(" lookup %d\n", 101+i) +
				"route add " + subnet + " " + to + "\n" +
				"route add default via " + fmt.Sprintf(f.router+" ", i) + to + "\n"
		}
		m.do("at", name, "sh", "-euc", "echo '"+lines+"' | ip "+f.family+" -batch -")
	}
}

// migrating takes away what the test is about.
func (l *lab) migrating(t *testing.T, g *guide) migrating {
	t.Helper()
	m := newMigrating(l, t, g, "../../testdata/lab/bigip/*", "lb1")
	m.serve, m.known = `return "pong";`, networkTeam
	m.edit("listen 10.0.1.100:9000 udp;", "")
	m.sh("nginx -t; nginx -s reload")
	// the old socket is closed
	m.sh("until ! ss -Hlun src 10.0.1.100 | grep -q .; do sleep 0.05; done")
	for _, command := range []string{"address del 10.0.1.100/24 dev eth1",
		"-6 address del 2001:db8:2::100/64 dev eth2",
		"route del default dev eth1", "route del default dev eth2",
		"-6 route del default dev eth2"} {
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

func (m migrating) copy(from, to string) {
	m.t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// take takes the files from the BIG-IP: a UCS, or its files and what they do
// not have.
func (m migrating) take() {
	m.t.Helper()
	if m.files == "lb1.ucs" {
		m.person("tmsh save sys ucs /var/tmp/lb1.ucs")
		m.copy(m.disk+"/var/tmp/lb1.ucs", m.dir+"/lb1.ucs")
		return
	}
	if err := os.MkdirAll(m.dir+"/config", 0o755); err != nil {
		m.t.Fatal(err)
	}
	m.copy(m.disk+"/config/bigip.conf", m.dir+"/config/bigip.conf")
	m.person("tmsh list sys db connection.autolasthop > autolasthop.txt")
}

// config is where lasthop.yaml is; the first time there is none.
func (m migrating) config() string {
	path := filepath.Join(m.bin, "lasthop.yaml")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// sh runs command lines on the host, in the person's directory.
func (m migrating) sh(lines string) string {
	m.t.Helper()
	return m.do("at", m.ns, "env", "CONFIG="+m.config(), "NGINX="+m.nginx,
		"PATH="+m.bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "sh", "-euc",
		"cd "+m.dir+"\n"+lines)
}

// person runs a command line of the page.
func (m migrating) person(line string) string {
	m.t.Helper()
	m.guide.ran(line)
	return m.sh(line)
}

// edit replaces text in nginx.conf, which only the lab's mount namespace has.
func (m migrating) edit(old, new string) {
	m.t.Helper()
	m.sh(fmt.Sprintf("grep -qF '%s' $NGINX/nginx.conf; sed -i 's|%s|%s|' $NGINX/nginx.conf",
		old, old, new))
}

// ask runs migrate and wants its exit status. The text must hold each line of
// the JSON.
func (m migrating) ask(exit int) migration {
	m.t.Helper()
	var got migration
	text := m.person(fmt.Sprintf("lasthop migrate %s || [ $? = %d ]", m.files, exit))
	m.guide.ran("lasthop migrate " + m.files)
	if exit != 0 {
		m.sh("! lasthop migrate " + m.files + " >/dev/null")
	}
	out := m.sh("lasthop migrate -o json " + m.files + " || [ $? = 2 ]")
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

// elsewhere asks the same on a machine that is not the host.
func (m migrating) elsewhere(here migration) {
	m.t.Helper()
	m.person("lasthop capture > host.json")
	m.sh("cp /run/lab/nginx/nginx.conf .")
	const page = "lasthop migrate --host host.json -c nginx.conf lb1.ucs -o html > lb1.html"
	m.guide.ran(page)
	m.do("at", "client", "env", "PATH="+m.bin+":"+os.Getenv("PATH"), "CONFIG=", "sh", "-euc",
		"cd "+m.dir+"; "+page+" || [ $? = 2 ]; "+
			strings.Replace(page, "html > lb1.html", "json > there.json", 1)+
			" || [ $? = 2 ]")
	var there migration
	html, err := os.ReadFile(m.dir + "/lb1.html")
	data, err2 := os.ReadFile(m.dir + "/there.json")
	if err := errors.Join(err, err2, json.Unmarshal(data, &there)); err != nil {
		m.t.Fatal(err)
	}
	if d := cmp.Diff(here, there); d != "" || !strings.Contains(string(html), "no-gateway") {
		m.t.Errorf("elsewhere it says: -here +there\n%s", d)
	}
}

// wave asks for a part of the virtual servers, and what has changed since.
func (m migrating) wave() {
	m.t.Helper()
	m.guide.ran("lasthop migrate --only PATTERN --skip PATTERN -o json lb1.ucs > wave1.json",
		"lasthop migrate --diff wave1.json lb1.ucs")
	out := m.sh("lasthop migrate --only 10.0.1.0/24 --skip '/Common/http_*' -o json lb1.ucs " +
		"> wave1.json || [ $? = 2 ]\n" +
		"lasthop migrate --diff wave1.json lb1.ucs || [ $? = 2 ]")
	var got migration
	data, err := os.ReadFile(m.dir + "/wave1.json")
	if err := errors.Join(err, json.Unmarshal(data, &got)); err != nil {
		m.t.Fatal(err)
	}
	// two of the three services of 10.0.1.100 are taken, which cannot move
	// alone
	if s := got.Summary; s["left_out"] != 16 || s["needs-input"] != 2 ||
		!got.finds("address-split 10.0.1.100") {
		m.t.Errorf("the wave: %v, %v", s, got.Findings)
	}
	if !strings.Contains(strings.Join(strings.Fields(out), " "), ": 16 status") {
		m.t.Errorf("since the wave:\n%s", out)
	}
}

// skeleton writes a skeleton, in which lasthop finds a listener for each
// virtual server.
func (m migrating) skeleton() {
	m.t.Helper()
	const page = "lasthop migrate -o nginx lb1.ucs > skeleton.conf"
	m.guide.ran(page)
	out := m.sh(page + "; lasthop plan -c skeleton.conf; " +
		"lasthop migrate -c skeleton.conf lb1.ucs || [ $? = 2 ]")
	if strings.Contains(out, "no-listener") || !strings.Contains(out, "10.0.1.100:9000") {
		m.t.Errorf("with the skeleton listeners are missing:\n%s", out)
	}
}

// verified asks the neighbours whether another machine has the addresses, and
// observes packets, of which there are none. It returns what was found.
func (m migrating) verified(exit int) string {
	m.t.Helper()
	m.guide.ran("lasthop migrate --verify "+m.files,
		"lasthop migrate --verify --observe 30s "+m.files)
	return m.sh(fmt.Sprintf("code=0; lasthop migrate --verify --observe 1s %s || code=$?; "+
		"[ $code = %d ]", m.files, exit))
}

// networkTeam is what the network team answers.
var networkTeam = map[string]string{"gateways: [10.0.2.1]  # add the router for IPv6, which " +
	"migrate cannot detect": `gateways: [10.0.2.1, "2001:db8:2::1"]`}

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
			m.guide.ran(s.Lines...)
			m.t.Logf("%s, %s:\n%s", phase, s.Where, m.sh(lines))
		case "big-ip":
			m.guide.ran(s.Lines...)
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
