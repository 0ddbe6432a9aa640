package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lasthop/nginxconf"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"
)

// found runs check beside the server and returns the codes of its findings.
func (s *server) found() []string {
	s.t.Helper()
	var out, log bytes.Buffer
	a := &app{ui: newUI(nil, &out, &log), flags: flags{netns: s.Path,
		confs: []string{s.path("nginx.conf")}, runDir: s.path("run"), output: "json"}}
	if err := a.check(checking{root: s.path("nowhere")}); err != nil &&
		!errors.Is(err, errNotWanted) {
		s.t.Fatal(err)
	}
	if log.Len() > 0 {
		s.t.Errorf("check says: %s", &log)
	}
	var doc struct{ Findings []struct{ Code string } }
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		s.t.Fatal(err)
	}
	var codes []string
	for _, f := range doc.Findings {
		codes = append(codes, f.Code)
	}
	return codes
}

func (s *server) wantFound(what string, want ...string) {
	s.t.Helper()
	diff := ""
	defer func() {
		if diff != "" {
			s.t.Logf("-want +got\n%s", diff)
		}
	}()
	s.until(fmt.Sprintf("%s: %q", what, want), func() bool {
		diff = cmp.Diff(want, s.found())
		return diff == ""
	})
}

// TestCheckNotLoaded: beside a daemon contents count, alone times do. A port
// that somebody else has keeps NGINX from loading.
func TestCheckNotLoaded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.startNginx()
	s.start()
	s.wantFound("beside a daemon")
	now, err := os.ReadFile(s.path("nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	s.replace(string(now))
	s.wantFound("the same file anew")
	s.conf("listen 10.0.1.100:80; listen 10.0.1.101:80;")
	s.wantFound("an edit", "not-loaded")
	s.reload()
	s.wantFound("loaded")
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s.wantFound("without a daemon")
	leisure := time.Now().Add(2 * exactness)
	s.until("an edit at leisure", func() bool { return time.Now().After(leisure) })
	s.replace(string(now))
	s.wantFound("an edit without a daemon", "not-loaded")
	s.reload()
	s.wantFound("loaded without a daemon")
	var stranger net.Listener
	s.Do(func() { stranger, err = net.Listen("tcp", "10.0.1.101:81") })
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	s.conf("listen 10.0.1.100:80; listen 10.0.1.101:81;")
	s.reload()
	s.wantFound("a port of another's", "port-taken", "not-loaded")
	s.stopNginx()
	s.wantFound("and no NGINX", "port-taken")
}

// TestApplyNotLoaded: without a daemon apply takes nothing away that NGINX
// still listens on, but waits for a reload that is under way.
func TestApplyNotLoaded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.startNginx()
	apply := func(args ...string) (string, int) {
		_, errs, code := s.lasthop(append([]string{"apply", "-c",
			s.path("nginx.conf")}, args...)...)
		return errs, code
	}
	if errs, code := apply(); code != exitDone {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	before := s.owned()
	leisure := time.Now().Add(2 * exactness)
	s.until("an edit at leisure", func() bool { return time.Now().After(leisure) })
	s.conf("listen 10.0.1.100:80;")
	errs, code := apply()
	if code != exitFailed || !strings.Contains(errs, "nothing is changed") ||
		!strings.Contains(errs, "hint: nginx -t && nginx -s reload") {
		t.Errorf("an edit that is not loaded: exit code %d, %s", code, errs)
	}
	if errs, code := apply("--no-delete"); code != exitDone {
		t.Errorf("--no-delete: exit code %d, %s", code, errs)
	}
	if d := cmp.Diff(before, s.owned()); d != "" {
		t.Errorf("the ways of what NGINX listens on: -before +after\n%s", d)
	}
	s.reload()
	if errs, code := apply(); code != exitDone || has(s.owned(), "from 10.0.2.") {
		t.Errorf("after the reload: exit code %d, %s\n%q", code, errs, s.owned())
	}
}

// TestOpenSockets: which sockets serve a listener.
func TestOpenSockets(t *testing.T) {
	tcp := func(addr string, inode uint32, v6only bool) host.Socket {
		return host.Socket{Local: netip.MustParseAddrPort(addr), Transport: routing.TCP,
			Inode: inode, IPv6Only: v6only}
	}
	open := openSockets{}
	for _, s := range []host.Socket{tcp("10.0.1.100:80", 1, false),
		tcp("10.0.1.100:80", 2, false), tcp("0.0.0.0:80", 3, false),
		tcp("[::]:80", 4, true),
		tcp("[::]:81", 5, false), tcp("[2001:db8::1]:82", 6, true)} {
		key := openPort{"tcp", s.Local.Port()}
		open[key] = append(open[key], s)
	}
	for _, tt := range []struct {
		addr, transport string
		port            uint16
		want            []uint32
	}{
		{"10.0.1.100", "tcp", 80, []uint32{1, 2}}, // reuseport
		{"10.0.1.101", "tcp", 80, []uint32{3}},
		{"0.0.0.0", "tcp", 80, []uint32{3}},
		{"2001:db8::1", "tcp", 80, []uint32{4}},
		{"10.0.1.100", "tcp", 81, []uint32{5}}, // ipv6only=off
		{"2001:db8::1", "tcp", 81, []uint32{5}},
		{"2001:db8::1", "tcp", 82, []uint32{6}},
		{"2001:db8::2", "tcp", 82, nil},
		{"10.0.1.100", "tcp", 82, nil},
		{"10.0.1.100", "udp", 80, nil},
	} {
		var got []uint32
		for _, s := range open.at(nginxconf.Listen{Addr: netip.MustParseAddr(tt.addr),
			Transport: tt.transport}, tt.port) {
			got = append(got, s.Inode)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s %d: -want +got\n%s", tt.transport, tt.addr, tt.port, diff)
		}
	}
}

// TestClaimedSockets: whose requests another program could get.
func TestClaimedSockets(t *testing.T) {
	open := openSockets{}
	for i, at := range []string{"10.0.1.100:80", "127.0.0.1:80", "[2001:db8::1]:80",
		"10.0.1.100:81", "0.0.0.0:53", "127.0.0.53:53", "[::]:53"} {
		s := host.Socket{Local: netip.MustParseAddrPort(at), Transport: routing.TCP,
			Inode: uint32(i + 1)}
		key := openPort{"tcp", s.Local.Port()}
		open[key] = append(open[key], s)
	}
	for _, tt := range []struct {
		addr   string
		port   uint16
		v6only bool
		want   []uint32
	}{{"10.0.1.100", 80, false, []uint32{1}}, {"10.0.1.101", 80, false, nil},
		{"0.0.0.0", 80, false, []uint32{1, 2}}, {"::", 80, true, []uint32{3}},
		{"::", 80, false, []uint32{1, 2, 3}}, {"0.0.0.0", 53, false, []uint32{5}}, {"::", 53, false, []uint32{7}}} {
		l := nginxconf.Listen{Addr: netip.MustParseAddr(tt.addr), First: tt.port,
			Last: tt.port, Transport: "tcp", IPv6Only: tt.v6only}
		got := slices.Sorted(
			maps.Keys(open.of(
				[]configured{
					{Config: nginxconf.Config{
						Listens: []nginxconf.Listen{l}}}})))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s port %d, only IPv6 %t: -want +got\n%s", tt.addr, tt.port,
				tt.v6only, diff)
		}
	}
}

// TestAsymmetries: one finding for an address, none for an unresolved one,
// which has its own, and none for one that NGINX has yet to load.
func TestAsymmetries(t *testing.T) {
	at := func(addr string, status routing.Status, v report.Verdict) report.Checked {
		return report.Checked{
			Outcome: routing.Outcome{
				Listener: routing.Listener{Addr: netip.MustParseAddr(addr),
					Origins: []string{"a.conf:1"}},
				Status: status},
			Verdict: v}
	}
	got := map[string]string{}
	d := doctor{app: &app{}, view: &view{diff: routing.Diff{AddRules: []routing.Rule{{}}}},
		awaited: map[string]bool{"b.conf:1": true}}
	later := at("10.0.0.8", routing.Ready, report.Asymmetric)
	later.Origins = []string{"b.conf:1"}
	d.asymmetries([]report.Checked{at("10.0.0.1", routing.Ready, report.Symmetric),
		at("10.0.0.2", routing.Ready, report.Asymmetric),
		at("10.0.0.2", routing.Ready, report.Asymmetric), at("10.0.0.3", routing.Unresolved, report.Asymmetric), at("10.0.0.4", routing.Unresolved, report.NotKnown),
		at("10.0.0.5", routing.Armed, report.NotHereWrong), at("10.0.0.6", routing.Armed, report.NotHere), at("10.0.0.7", routing.Unchanged, report.Asymmetric), later})
	for _, f := range d.findings {
		if got[f.Subject] != "" || f.Origin != "a.conf:1" || f.Hint != "lasthop apply" {
			t.Errorf("twice, or without place and remedy: %+v", f)
		}
		got[f.Subject] = string(f.Severity) + " " + string(f.Code)
	}
	want := map[string]string{"10.0.0.2": "error asymmetric", "10.0.0.5": "warning not-armed",
		"10.0.0.7": "error asymmetric"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestExplainLine: the command that a finding names looks at the same namespace
// or captured host as the one that found it.
func TestExplainLine(t *testing.T) {
	q := routing.Query{Src: netip.MustParseAddr("10.0.1.100"),
		Dst: netip.MustParseAddr("198.51.100.1")}
	for want, f := range map[string]flags{
		"lasthop explain 10.0.1.100 --from 198.51.100.1":                                             {},
		"lasthop explain 10.0.1.100 --from 198.51.100.1 --netns web":                                 {netns: "web"},
		"lasthop explain 10.0.1.100 --from 198.51.100.1 --nginx-conf n.conf --gateway eth1=10.0.1.1": {confs: []string{"n.conf"}, gateways: []string{"eth1=10.0.1.1"}},
		"lasthop explain 10.0.1.100 --from 198.51.100.1 --host 'my host.json'":                       {host: "my host.json"},
	} {
		if got := (&app{flags: f}).explainLine(q); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestMend: apply takes nothing away that NGINX still listens on.
func TestMend(t *testing.T) {
	late := []routing.Finding{{Code: "rp-filter", Hint: "no"},
		{Code: "not-loaded", Hint: "nginx -s reload"}}
	adds, removes := routing.Diff{AddRules: []routing.Rule{{}}},
		routing.Diff{DelRules: []routing.Rule{{}}}
	for _, tt := range []struct {
		diff     routing.Diff
		findings []routing.Finding
		want     string
	}{{adds, nil, "lasthop apply"}, {removes, nil, "lasthop apply"},
		{adds, late, "lasthop apply"},
		{removes, late, "nginx -s reload && lasthop apply"}} {
		if got := (&app{}).mend(&view{diff: tt.diff}, tt.findings); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
