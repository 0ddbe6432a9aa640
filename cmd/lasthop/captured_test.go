package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"

	lasthop "lasthop/cmd/lasthop"
	"lasthop/routing"
	"lasthop/routing/capture"
	"lasthop/routing/sim"
)

// A captured host gives the same bytes on another machine, in every format
// except for its name and the time. The tests of this file make the plan in a
// namespace, capture it, and plan again from the capture alone: in another
// namespace and another time zone, with the host renamed, without the
// configuration, and without the flags that it was captured with.

// formats are those of plan.
var formats = []string{"text", "json", "html", "markdown", "csv", "iproute2", "networkd",
	"nmcli"}

// captured is a host in a namespace, and what it is looked at with.
type captured struct {
	*namespace
	dir  string
	args []string
}

func newCaptured(t *testing.T, conf string, flags ...string) *captured {
	t.Helper()
	c := &captured{namespace: newNamespace(t), dir: t.TempDir()}
	c.args = append([]string{"--netns", c.Path, "-c", filepath.Join(c.dir, "nginx.conf")},
		flags...)
	if err := os.WriteFile(filepath.Join(c.dir, "nginx.conf"), []byte(conf),
		0o644); err != nil {
		t.Fatal(err)
	}
	return c
}

// runLasthop runs a command and returns its standard output, or what it says on
// failing.
func runLasthop(args ...string) string {
	var stdout, stderr bytes.Buffer
	if code := lasthop.Run(&stdout, &stderr, args...); code != 0 {
		return fmt.Sprintf("exit %d: %s", code, &stderr)
	}
	return stdout.String()
}

var (
	stamps   = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(Z| UTC)`)
	hostLine = regexp.MustCompile(`"host": "[^"]*"`)
	timeLine = regexp.MustCompile(`"time": "[^"]*"`)
)

// check compares the plans.
func (c *captured) check(t *testing.T) {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	doc := runLasthop(append([]string{"capture"}, c.args...)...)
	fitsSchema(t, "capture", doc)
	doc = hostLine.ReplaceAllString(doc, `"host": "elsewhere"`)
	doc = timeLine.ReplaceAllString(doc, `"time": "2001-02-03T04:05:06+07:00"`)
	file := filepath.Join(c.dir, "host.json")
	if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	same := func(s string) string {
		return stamps.ReplaceAllString(
			strings.ReplaceAll(strings.ReplaceAll(s, name, "HOST"), "elsewhere",
				"HOST"), "TIME")
	}
	for _, format := range formats {
		live := runLasthop(append([]string{"plan", "-o", format}, c.args...)...)
		there := runLasthop("plan", "-o", format, "--host", file)
		if d := cmp.Diff(same(live), same(there)); d != "" {
			t.Errorf("-o %s: -here +elsewhere\n%s", format, d)
		}
		if strings.Contains(live, "it cannot express the metric") ||
			strings.Contains(live, "it has no word for suppress_ifgroup") {
			continue // refused, there as here
		}
		if !strings.Contains(live, "sha256:") && format != "text" && format != "csv" ||
			len(live) < 200 || strings.HasPrefix(live, "exit") {
			t.Errorf("-o %s: that is no plan:\n%s", format, live)
		}
	}
}

// fitsSchema holds a document of a kind against docs/schema.
func fitsSchema(t *testing.T, kind, doc string) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("../../docs/schema/" + kind + ".json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(doc))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s: %v\n%.2000s", kind, err, doc)
	}
}

func TestCapturedScenarios(t *testing.T) {
	t.Parallel()
	eachScenario(t, func(t *testing.T, s *scenario) {
		if s.pure {
			return // the kernel cannot make it
		}
		flags, _ := s.section("flags")
		conf, _ := s.section("nginx.conf")
		c := newCaptured(t, conf, strings.Fields(flags)...)
		c.build(t, s.sim)
		c.check(t)
	})
}

func TestCapturedRandomHosts(t *testing.T) {
	t.Parallel()
	for i := range (*randomHosts + 14) / 15 {
		seed := *randomSeed + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			conf, flags, host := splitWorld(generate(seed).lines)
			s, err := sim.Parse(strings.Join(host, "\n"))
			if err != nil {
				t.Fatal(err)
			}
			c := newCaptured(t, conf, flags...)
			if err := c.tryBuild(s); err != nil {
				t.Fatal(err)
			}
			c.check(t)
		})
	}
}

// splitWorld makes a nginx.conf, flags and the lines of the host of a random
// host's lines.
func splitWorld(lines []string) (conf string, flags, host []string) {
	bracket := func(s string) string {
		return strings.ReplaceAll(netip.AddrPortFrom(netip.MustParseAddr(s), 80).String(),
			":80", "")
	}
	var servers, locations []string
	for _, line := range lines {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "--"):
			flags = append(flags, words...)
		case words[0] == "listen":
			if listen := "listen " + bracket(words[1]) +
				":80; "; !slices.Contains(servers, listen) {
				servers = append(servers, listen)
			}
		case words[0] == "bind":
			for _, upstream := range words[2:] {
				bind := words[1]
				if upstream == "transparent" {
					continue
				}
				if slices.Contains(words, "transparent") {
					bind += " transparent"
				}
				locations = append(locations,
					fmt.Sprintf("location /%d { proxy_bind %s; proxy_pass "+
						"http://%s; } ", len(locations), bind,
						bracket(upstream)))
			}
		case words[0] != "client":
			host = append(host, line)
		}
	}
	return "events {} http { server { " + strings.Join(servers, "") +
		strings.Join(locations, "") + "} }\n", flags, host
}

// TestCapturedBackground: what only the machine can know is in the capture,
// too: settings in a file, a warning about an included configuration, a
// translation, and established sessions, one of which is the user's own.
func TestCapturedBackground(t *testing.T) {
	c := newCaptured(t, "events {}\nhttp {\n include more.conf;\n"+
		" server { listen 10.0.1.100:80; server_name a.example; }\n}\n")
	client := newNamespace(t)
	c.IP(fmt.Sprintf("link add eth0 type veth peer name p0 netns %s", client.Path))
	c.IP(fmt.Sprintf("link add eth1 type veth peer name p1 netns %s", client.Path))
	client.Batch("link set p0 up\nlink set p1 up\naddr add 10.0.0.1/24 dev p0\n" +
		"addr add 10.0.1.1/24 dev p1\naddr add 198.51.100.2/32 dev lo\n" +
		"addr add 198.51.100.3/32 dev lo\n")
	c.Batch("link set eth0 up\nlink set eth1 up\naddr add 10.0.0.10/24 dev eth0\n" +
		"addr add 10.0.1.100/24 dev eth1\nroute add default via 10.0.0.1\n")
	c.Run("nft", "table ip nat { chain prerouting { type nat hook prerouting priority "+
		"dstnat; ip daddr 10.0.1.100 tcp dport 80 dnat to 10.0.0.10:80; }; }")
	for name, text := range map[string]string{"more.conf": "server { listen " +
		"nosuch.example.invalid:81; }\n",
		"lasthop.yaml": "interfaces: {eth1: {gateways: [10.0.1.1], fail_closed: true}}\n" +
			"direct: [10.9.0.0/16]\nnumbers: {protocol: 77, tables: 30000-30999}\n"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text),
			0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.args = append(c.args, "--config", filepath.Join(c.dir, "lasthop.yaml"))
	own := c.sessions(t, client, "198.51.100.2", "198.51.100.2", "198.51.100.3", "10.0.1.1")
	t.Setenv("SSH_CONNECTION", own)
	c.check(t)
	var checked bytes.Buffer
	lasthop.Run(&checked, &checked, "check", "--host", filepath.Join(c.dir, "host.json"))
	if !strings.Contains(checked.String(), "warning: dnat: 10.0.1.100") {
		t.Errorf("check of the capture does not know of the translation:\n%s", &checked)
	}
	doc := runLasthop(append([]string{"capture"}, c.args...)...)
	if strings.Contains(doc, "198.51.100.3") {
		t.Error("the capture names more clients than it needs")
	}
	for _, want := range []string{"3 of 4 established TCP sessions leave by another " +
		"interface or gateway from their next packet on; your own SSH session is one",
		"packets to 10.0.1.100 port 80 go to 10.0.0.10", "nosuch.example.invalid",
		"1 included file"} {
		if text := runLasthop(append([]string{"plan", "-o", "text"},
			c.args...)...); !strings.Contains(strings.Join(strings.Fields(text), " "),
			want) {
			t.Errorf("the plan does not say %q:\n%s", want, text)
		}
	}
}

// sessions opens TCP sessions from addresses of a client to 10.0.1.100, which
// last as long as the test, and returns the first as sshd would name it.
func (c *captured) sessions(t *testing.T, client *namespace, sources ...string) (first string) {
	t.Helper()
	var l net.Listener
	var err error
	c.Do(func() { l, err = net.Listen("tcp4", "10.0.1.100:22") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, source := range sources {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		var conn net.Conn
		client.Do(func() { conn, err = d.Dial("tcp4", "10.0.1.100:22") })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if first == "" {
			first = strings.ReplaceAll(
				fmt.Sprintf("%s:%s", conn.LocalAddr(), conn.RemoteAddr()), ":", " ")
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { accepted.Close() })
	}
	return first
}

// hostile are texts that a terminal, a shell, a page, a table or a file of
// systemd-networkd could take for more than texts.
const hostile = "$(id)`id`'\"\\ \x1b[31m\x1b]0;owned\a \u202etxt\u2066 \U000e0001 " +
	"<script>alert(1)</script> %n\n[Route]\nGateway=6.6.6.6\r\n=cmd|x"

// hostileLinks are such texts that the kernel takes for names of links.
var hostileLinks = []string{"$(id>x)", "a'b\"c", "`id`", "e\x1b[31m", "l\u202ertl", "<b>&amp;",
	"[Route]", "#no", "eth\\", "%n", "=6.6.6.6", "-rf", ";reboot", "\u3000"}

// hostileCapture is a host with two uplinks of which one has a hostile name,
// and with hostile texts wherever a text may be.
func hostileCapture(t *testing.T, link string) string {
	t.Helper()
	s, err := sim.Parse("link add eth0 type veth\nlink add eth1 type veth\nlink set eth0 up\n" +
		"link set eth1 up\naddr add 10.0.0.10/24 dev eth0\n" +
		"addr add 10.0.1.100/24 dev eth1\nroute add default via 10.0.0.1 dev eth0\n" +
		"route add default via 10.0.1.1 dev eth1 metric 9\n" +
		"rule add pref 7 to 10.9.0.0/16 lookup 9\n")
	if err != nil {
		t.Fatal(err)
	}
	c := capture.Capture{Version: capture.Version, Time: time.Unix(0, 0).UTC(), Host: s.Host,
		Inputs: []capture.Input{{File: hostile, SHA256: hostile, Main: true}},
		Warnings: []routing.Finding{routing.NginxWarning(hostile, hostile,
			hostile, hostile)},
		Flags: map[string][]string{"nginx-conf": {hostile}, "netns": {hostile}},
		NetworkFiles: map[string]string{"eth0": "/run/" + hostile + ".network",
			"eth1": "/run/a\n.network"},
		DNATs: []routing.DNAT{{Origin: hostile, Transport: "tcp",
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.100/32")}}}}
	c.Host.Name, c.Host.Kernel, c.Host.Rules[2].Opaque = hostile, hostile, hostile
	c.Host.Leases = []routing.Lease{{Link: "eth1", Gateway: netip.MustParseAddr("10.0.1.1"),
		Client: hostile}}
	c.Listens = []routing.Listener{{Addr: netip.MustParseAddr("10.0.1.100"),
		Ports: routing.PortRange{First: 80, Last: 80}, Transport: routing.TCP,
		Context: hostile,
		Listen:  hostile, Origins: []string{hostile}, Servers: []string{hostile}}}
	data, err := capture.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(link)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), `"eth1"`, string(quoted))
}

// TestHostileCapture: every text of a capture comes out as a text and nothing
// else. networkd refuses a name of a link that its file cannot hold.
func TestHostileCapture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host.json")
	networkdLine := regexp.MustCompile(`^(#[ -~]*|\[(Link|NextHop|Route|RoutingPolicyRule)\]|[A-Za-z0-9]+=[0-9a-z.:/-]+|)$`)
	for _, link := range append(hostileLinks, "eth1") {
		doc := hostileCapture(t, link)
		fitsSchema(t, "capture", doc)
		if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"plan"}, {"plan", "-o", "json"},
			{"plan", "-o", "iproute2"}, {"plan", "-o", "networkd"},
			{"plan", "-o", "nmcli"}, {"check"}, {"check", "-o", "json"}} {
			var stdout, stderr bytes.Buffer
			code := lasthop.Run(&stdout, &stderr, append(args, "--host", file)...)
			out := stdout.String() + stderr.String()
			if i := strings.IndexFunc(out, func(r rune) bool {
				return r != '\n' && r != '\t' && r != ' ' &&
					(!unicode.IsGraphic(r) || unicode.IsSpace(r))
			}); i >= 0 || !utf8.ValidString(out) {
				t.Errorf("%q, %v: character %q comes out", link, args,
					out[i:min(i+9, len(out))])
			}
			format := args[len(args)-1]
			plainName := link == "eth1" || link == "-rf" && format == "networkd"
			switch refused := code == 1 && strings.Contains(stderr.String(),
				"cannot hold the interface name"); {
			case format != "networkd" && format != "nmcli":
				if code == 1 {
					t.Errorf("%q, %v: %s", link, args, out)
				}
			case refused == plainName:
				t.Errorf("%q: exit %d\n%s", link, code, out)
			case plainName && format == "networkd":
				for line := range strings.Lines(stdout.String()) {
					if !networkdLine.MatchString(strings.TrimSuffix(line,
						"\n")) || strings.Contains(line, "6.6.6.6") &&
						!strings.HasPrefix(line, "#") {
						t.Errorf("%q: networkd gets %q", link, line)
					}
				}
			}
			if format == "json" &&
				!bytes.Contains(stdout.Bytes(), []byte(`\u202e`)) {
				t.Errorf("%q, %v: the mark is not escaped\n%s", link, args, &stdout)
			}
		}
		script := runLasthop("plan", "-o", "iproute2", "--host", file)
		c := exec.Command("sh", "-n")
		c.Stdin = strings.NewReader(script)
		if said, err := c.CombinedOutput(); err != nil {
			t.Errorf("%q: the script is none: %v\n%s", link, err, said)
		}
	}
}

// FuzzPlanOfCapture plans for whatever a capture says, in every format: nothing
// panics. Its seeds are the hosts of the scenarios.
func FuzzPlanOfCapture(f *testing.F) {
	paths, err := filepath.Glob("../../testdata/scenario/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		f.Add(scenarioCapture(f, path))
	}
	file := filepath.Join(f.TempDir(), "host.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := capture.Decode("x.json", data); err != nil {
			return
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, format := range formats {
			runLasthop("plan", "-o", format, "--host", file)
		}
		runLasthop("check", "--host", file)
	})
}

// scenarioCapture is the host of a scenario, where NGINX listens on every
// address.
func scenarioCapture(f *testing.F, path string) []byte {
	f.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		f.Fatal(err)
	}
	lines, _ := (&scenario{archive: archive}).section("host")
	s, err := sim.Parse(lines)
	if err != nil {
		f.Fatal(err)
	}
	c := capture.Capture{Version: capture.Version, Time: time.Unix(0, 0).UTC(), Host: s.Host}
	for _, a := range s.Host.Addrs {
		c.Listens = append(c.Listens, routing.Listener{Addr: a.Prefix.Addr(),
			Ports: routing.PortRange{First: 80, Last: 80}, Transport: routing.TCP})
	}
	data, err := capture.Encode(c)
	if err != nil {
		f.Fatal(err)
	}
	return data
}
