package main_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// findings runs check and returns "CODE SUBJECT" for each finding, sorted.
func (l *lab) findings(t *testing.T, args ...string) []string {
	t.Helper()
	var doc struct {
		Findings []struct{ Code, Subject, Message, Hint string }
	}
	out, err := l.command(append([]string{"at", "host", l.lasthop, "check", "-o", "json"},
		args...)...).Output()
	if exit := new(exec.ExitError); err != nil &&
		(!errors.As(err, &exit) || exit.ExitCode() != 2) {
		t.Fatalf("check: %v\n%s", err, exit.Stderr)
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range doc.Findings {
		got = append(got, f.Code+" "+f.Subject)
		if f.Message == "" || f.Hint == "" {
			t.Errorf("%s says %q and %q: want what is wrong and what to do", f.Code,
				f.Message, f.Hint)
		}
	}
	slices.Sort(got)
	return got
}

// wantFindings waits for what starts or ends, but not long.
func (l *lab) wantFindings(t *testing.T, want []string, args ...string) {
	t.Helper()
	var diff string
	for range 20 {
		if diff = cmp.Diff(want, l.findings(t, args...)); diff == "" {
			return
		}
	}
	t.Errorf("findings (-want +got):\n%s", diff)
}

// shell runs lines of a shell on the NGINX host.
func (l *lab) shell(lines string) {
	l.t.Helper()
	l.do("at", "host", "sh", "-ec", lines)
}

// called runs a program on the NGINX host under a name, with socat's arguments,
// until the test ends.
func (l *lab) called(t *testing.T, name string, args ...string) {
	t.Helper()
	socat, err := exec.LookPath("socat")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(socat)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	// dies with the shell between us
	c := l.command(append([]string{"at", "host", "setpriv", "--pdeathsig", "KILL", path},
		args...)...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
}

// conf is a copy of NGINX's configuration with a location more, for
// --nginx-conf.
func (l *lab) conf(t *testing.T, location string) string {
	t.Helper()
	data, err := os.ReadFile("../../testdata/lab/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "return 200",
		"location /more { "+location+" }\n        return 200", 1)
	path := filepath.Join(t.TempDir(), "nginx.conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// files writes files below a directory that check takes for the root of the
// system.
func files(t *testing.T, texts map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range texts {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
			os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// idle are arguments of socat that do nothing.
var idle = []string{"-u", "UDP4-RECV:5999,bind=127.0.0.1", "OPEN:/dev/null"}

// labFault is one thing that is wrong, and the findings that check has of it:
// these and no other.
type labFault struct {
	name       string
	seed, undo string
	// more than lines of shell; it returns arguments for check
	start      func(*testing.T, *lab) []string
	args, want []string
}

var labFaults = []labFault{
	{name: "a default route of ours is gone", seed: "ip route del default table 20431", undo: "$LASTHOP apply",
		want: []string{"asymmetric 10.0.1.100", "not-installed lasthop"}},
	{name: "strict rp_filter where replies leave elsewhere", seed: "$LASTHOP apply --return eth1=off; echo 1 > /proc/sys/net/ipv4/conf/eth1/rp_filter",
		undo: "echo 0 > /proc/sys/net/ipv4/conf/eth1/rp_filter; $LASTHOP apply", args: []string{"--return", "eth1=off"}, want: []string{"arp-source 10.0.1.100", "rp-filter eth1"}},
	{name: "strict rp_filter where it does not bite", seed: "echo 1 > /proc/sys/net/ipv4/conf/eth1/rp_filter", undo: "echo 0 > /proc/sys/net/ipv4/conf/eth1/rp_filter"},
	{name: "two links in one subnet", seed: "ip link add eth3 type veth peer name p3; ip link set eth3 up; ip addr add 10.0.1.11/24 dev eth3", undo: "ip link del eth3",
		want: []string{"arp-flux eth1 eth3"}},
	{name: "two links in one subnet, kept apart", seed: "ip link add eth3 type veth peer name p3; ip link set eth3 up; ip addr add 10.0.1.11/24 dev eth3; " +
		"echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore; echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce",
		undo: "ip link del eth3; echo 0 > /proc/sys/net/ipv4/conf/all/arp_ignore; echo 0 > /proc/sys/net/ipv4/conf/all/arp_announce"},
	{name: "local at 100", seed: "ip rule add pref 100 lookup local; ip rule del pref 0", undo: "ip rule add pref 0 lookup local; ip rule del pref 100",
		want: []string{"local-order IPv4"}},
	{name: "local behind ours", seed: "ip rule add pref 32765 lookup local; ip rule del pref 0", undo: "ip rule add pref 0 lookup local; ip rule del pref 32765",
		want: []string{"local-order IPv4"}},
	{name: "systemd-networkd", start: func(t *testing.T, l *lab) []string {
		l.called(t, "systemd-networkd", idle...)
		return []string{"--root", files(t, nil)}
	}, want: []string{"networkd-deletes-rules systemd-networkd"}},
	{name: "systemd-networkd that spares rules alone", start: func(t *testing.T, l *lab) []string {
		l.called(t, "systemd-networkd", idle...)
		return []string{"--root", files(t,
			map[string]string{"etc/systemd/networkd.conf": "[Network]\n" +
				"ManageForeignRoutingPolicyRules=no\n"})}
	}, want: []string{"networkd-deletes-rules systemd-networkd"}},
	{name: "systemd-networkd that spares others' rules and routes", start: func(t *testing.T, l *lab) []string {
		drop, err := os.ReadFile("../../deploy/networkd.conf.d/lasthop.conf")
		if err != nil {
			t.Fatal(err)
		}
		l.called(t, "systemd-networkd", idle...)
		return []string{"--root", files(t,
			map[string]string{
				"etc/systemd/networkd.conf.d/lasthop.conf": string(drop)})}
	}},
	{name: "NetworkManager with a table", start: func(t *testing.T, l *lab) []string {
		l.called(t, "NetworkManager", idle...)
		return []string{"--root", files(t,
			map[string]string{
				"etc/NetworkManager/system-connections/eth1.nmconnection": "[connection]\nid=eth1\n\n[ipv4]\nmethod=auto\nroute-table=101\n",
				"etc/NetworkManager/system-connections/eth2.nmconnection": "[ipv4]\nroute-table=0\n"})}
	}, want: []string{"networkmanager-deletes-routes NetworkManager"}},
	{name: "NetworkManager as it comes", start: func(t *testing.T, l *lab) []string {
		l.called(t, "NetworkManager", idle...)
		return []string{"--root", files(t, map[string]string{
			"etc/NetworkManager/NetworkManager.conf": "[main]\nplugins=keyfile\n"})}
	}},
	{name: "Docker publishes a port of ours", start: func(t *testing.T, l *lab) []string {
		l.called(t, "docker-proxy", "-u", "UDP4-RECV:9000,bind=10.0.1.100,reuseaddr",
			"OPEN:/dev/null")
		return nil
	}, want: []string{"docker-proxy 10.0.1.100:9000"}},
	{name: "another program has a port of ours", start: func(t *testing.T, l *lab) []string {
		l.called(t, "other", "-u", "UDP6-RECV:9000,bind=[2001:db8:1::100],reuseaddr",
			"OPEN:/dev/null")
		return nil
	}, want: []string{"port-taken [2001:db8:1::100]:9000"}},
	{name: "another program has another port", start: func(t *testing.T, l *lab) []string {
		l.called(t, "other", "-u", "UDP4-RECV:9001,bind=10.0.1.100,reuseaddr",
			"OPEN:/dev/null")
		return nil
	}},
	{name: "translated", seed: "nft 'add table ip away; add chain ip away arriving { type nat hook prerouting priority -100; }; add rule ip away arriving ip daddr 10.0.1.100 tcp dport 80 dnat to 10.0.0.10:8080'",
		undo: "nft delete table ip away", want: []string{"dnat 10.0.1.100"}},
	{name: "translated by a rule without addresses", seed: "nft 'add table ip away; add chain ip away arriving { type nat hook prerouting priority -100; }; add chain ip away docker; " +
		"add rule ip away arriving fib daddr type local jump docker; add rule ip away docker iifname != docker0 tcp dport 80 dnat to 172.17.0.2:80'",
		undo: "nft delete table ip away", want: []string{"dnat 10.0.0.100, 10.0.1.100, 10.0.2.100"}},
	{name: "a route in our range of tables", seed: "ip route add 192.0.2.0/24 via 10.0.1.7 dev eth1 table 20500 onlink", undo: "ip route flush table 20500",
		want: []string{"numbers-taken table 20500"}},
	{name: "a rule among our priorities", seed: "ip rule add pref 5150 from 10.9.0.0/16 lookup 500", undo: "ip rule del pref 5150", want: []string{"not-installed lasthop", "numbers-taken priority 5150"}},
	{name: "our link group", seed: "ip link set br0 group 76", undo: "ip link set br0 group default", want: []string{"asymmetric 10.0.0.100", "asymmetric 10.0.1.100", "asymmetric 10.0.2.100",
		"asymmetric 2001:db8:1::100", "asymmetric 2001:db8:2::100", "asymmetric 2001:db8::100", "numbers-taken br0"}},
	{name: "our protocol", seed: "ip rule add pref 9000 from 10.9.0.0/16 lookup 500 protocol 76", undo: "ip rule del pref 9000", want: []string{"outside-range protocol 76"}},
	{name: "a rule without priority", seed: "ip rule add from 10.9.0.0/16 lookup 500", undo: "ip rule del from 10.9.0.0/16 lookup 500", want: []string{"not-installed lasthop"}},
	{name: "a rule of keepalived without priority", seed: "ip rule add from 10.0.1.100 lookup 300 protocol 18", undo: "ip rule del from 10.0.1.100 lookup 300",
		want: []string{"keepalived-rules 10.0.1.100", "not-installed lasthop"}},
	{name: "a rule of keepalived behind ours", seed: "ip rule add pref 20000 from 10.0.1.100 lookup 300 protocol 18", undo: "ip rule del pref 20000",
		want: []string{"keepalived-rules 10.0.1.100", "not-installed lasthop"}},
	{name: "a rule of keepalived in front of ours", seed: "ip route add default via 10.0.2.1 dev eth2 table 300; ip rule add pref 4000 from 10.0.1.100 lookup 300 protocol 18",
		undo: "ip rule del pref 4000; ip route flush table 300", want: []string{"keepalived-rules 10.0.1.100"}},
	{name: "proxy_bind to a VIP", start: func(t *testing.T, l *lab) []string {
		return []string{
			"-c", l.conf(t, "proxy_bind 10.0.1.100; proxy_pass http://10.0.0.50:8080;")}
	}, want: []string{"bind-moves 10.0.1.100"}},
	{name: "proxy_bind to a VIP where nothing moves", start: func(t *testing.T, l *lab) []string {
		return []string{
			"-c", l.conf(t, "proxy_bind 10.0.0.100; proxy_pass http://10.0.0.50:8080;")}
	}, want: []string{"bind-to-vip 10.0.0.100"}},
	{name: "proxy_bind to another address", start: func(t *testing.T, l *lab) []string {
		return []string{
			"-c", l.conf(t, "proxy_bind 10.0.0.10; proxy_pass http://10.0.0.50:8080;")}
	}},
	{name: "transparent proxy_bind", start: func(t *testing.T, l *lab) []string {
		return []string{"-c", l.conf(t,
			"proxy_bind $remote_addr transparent; proxy_pass http://10.0.0.50:8080;")}
	}, want: []string{"bind-transparent IPv4", "not-installed lasthop"}},
	{name: "transparent proxy_bind that is taken in", seed: "ip rule add pref 50 fwmark 1 lookup 100; ip route add local 0.0.0.0/0 dev lo table 100",
		undo: "ip rule del pref 50; ip route flush table 100", start: func(t *testing.T, l *lab) []string {
			return []string{"-c", l.conf(t, "proxy_bind $remote_addr transparent; "+
				"proxy_pass http://10.0.0.50:8080;")}
		}, want: []string{"not-installed lasthop"}}, // its covers are exact
	{name: "an edit that NGINX has not loaded", seed: "sleep 0.3; sed -i 's/listen 10.0.1.100:80;/& listen 10.0.1.100:8081;/' /run/lab/nginx/nginx.conf",
		undo: "kill -HUP $(cat /run/lab/nginx/nginx.pid)", want: []string{"not-loaded /run/lab/nginx/nginx.conf"}},
	{name: "an edit with another address", seed: "sleep 0.3; sed -i 's/listen 10.0.1.100:80;/& listen 10.0.1.10:8081;/' /run/lab/nginx/nginx.conf",
		undo: "sed -i 's/ listen 10.0.1.10:8081;//' /run/lab/nginx/nginx.conf; kill -HUP $(cat /run/lab/nginx/nginx.pid)", want: []string{"not-loaded /run/lab/nginx/nginx.conf"}},
	{name: "an edit that NGINX has loaded", seed: "sed -i 's/ listen 10.0.1.100:8081;//' /run/lab/nginx/nginx.conf; kill -HUP $(cat /run/lab/nginx/nginx.pid)"},
	{name: "a listen that is not open", seed: "ss -K -H -t -l src 10.0.2.100:9000", want: []string{"listen-not-open 10.0.2.100:9000"}}, // the last: only a new NGINX opens it again
}

// TestLabCheck seeds each kind of fault into a healthy lab, and check finds it
// and nothing else. Undone, it finds nothing.
func TestLabCheck(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.run("apply")
	l.wantFindings(t, nil)
	if out := l.run("check"); strings.Contains(out, "Findings") {
		t.Errorf("the healthy lab: %s", out)
	}
	t.Run("captured", l.testCapturedFaults)
	t.Run("without privilege", l.testUnprivileged)
	lines := func(s string) string { return strings.ReplaceAll(s, "$LASTHOP", l.lasthop) }
	for i, f := range labFaults {
		t.Run(f.name, func(t *testing.T) {
			args := f.args
			if f.start != nil {
				args = append(args, f.start(t, l)...)
			}
			l.shell(lines(f.seed))
			l.wantFindings(t, f.want, args...)
			l.shell(lines(f.undo))
		})
		if i < len(labFaults)-1 {
			l.wantFindings(t, nil)
		}
	}
}

// testCapturedFaults is for what the lab's kernel has not: another release,
// VRFs.
func (l *lab) testCapturedFaults(t *testing.T) {
	healthy := l.run("capture")
	for _, tt := range []struct {
		name, old, new string
		want           []string
	}{
		{name: "healthy"},
		{"a kernel that loses UDP", `"kernel": "[^"]*"`, `"kernel": "6.8.0-45-generic"`, []string{"udp-kernel-bug Linux 6.8.0-45-generic"}},
		{"a rule of VRFs", `"rules": \[`, `"rules": [{"priority": 1000, "src": "all", "l3mdev": null, "protocol": "kernel"},`, []string{"l3mdev IPv4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := healthy
			if tt.old != "" {
				if text = regexp.MustCompile(tt.old).ReplaceAllLiteralString(
					healthy, tt.new); text == healthy {
					t.Fatalf("the capture has no %s", tt.old)
				}
			}
			path := filepath.Join(t.TempDir(), "host.json")
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			l.wantFindings(t, tt.want, "--host", path)
		})
	}
}

// testUnprivileged: a user that may not read everything gets no finding for it,
// but a note of what was not read.
func (l *lab) testUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("no other user to become")
	}
	l.called(t, "NetworkManager", idle...)
	root := files(t,
		map[string]string{
			"nginx.conf": "events {}\nhttp { server { listen 10.0.2.100:80; } }\n",
			"etc/NetworkManager/system-connections/eth1.nmconnection": "[ipv4]\n" +
				"route-table=101\n"})
	// it has begun
	l.wantFindings(t, []string{"networkmanager-deletes-routes NetworkManager"}, "--root", root)
	// other users cannot read the tests' own
	conf := filepath.Join(root, "nginx.conf")
	for _, path := range []string{filepath.Dir(filepath.Dir(l.lasthop)), filepath.Dir(root),
		conf} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := l.command("at", "host", "setpriv", "--reuid", "65534", "--regid", "65534",
		"--clear-groups", l.lasthop, "check", "--root", root,
		// whose NGINX is whose cannot be told: not those of other tests
		"--nginx-conf", conf)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil || strings.Contains(string(out), "networkmanager") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Log(stderr.String())
	_, unseen, _ := strings.Cut(stderr.String(), "not looked at: ")
	for _, want := range []string{"nftables", "NetworkManager's profiles",
		"which processes have the sockets"} {
		if !strings.Contains(unseen, want) {
			t.Errorf("not looked at: %s", unseen)
		}
	}
	if strings.Contains(unseen, "not looked at") {
		t.Error("more than one line of what was not looked at")
	}
}
