package doctor

import (
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/internal/procfs"
	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/nginxconf"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"
)

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
				[]survey.Config{
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
	d := doctor{survey: &survey.Survey{Decision: routing.Decision{
		Diff: routing.Diff{AddRules: []routing.Rule{{}}}}},
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

// TestWrongClasses: an address that stands for others is named with their
// prefix, and one that is meant itself with its class.
func TestWrongClasses(t *testing.T) {
	eth0, eth1 := routing.Way{Type: routing.Unicast, Link: "eth0"},
		routing.Way{Type: routing.Unicast, Link: "eth1"}
	client := func(addr string, class routing.Class, in netip.Prefix) report.WrongClient {
		return report.WrongClient{Client: routing.Client{Addr: netip.MustParseAddr(addr),
			Class: class, In: in}, Now: eth1, Want: eth0}
	}
	d := doctor{survey: &survey.Survey{}}
	o := routing.Outcome{Listener: routing.Listener{Addr: netip.MustParseAddr("10.0.0.2")}}
	got := d.wrongClasses(report.Checked{Outcome: o,
		Wrong: []report.WrongClient{client("10.0.1.50", routing.ClassOtherLAN,
			netip.MustParsePrefix("10.0.1.0/24")),
			client("10.9.9.9", routing.ClassStatic, netip.MustParsePrefix("10.9.9.9/32")),
			client("10.0.0.1", routing.ClassRouter, netip.Prefix{})}}).Message
	want := "replies of 10.0.0.2 leave by the wrong path: to clients in 10.0.1.0/24 " +
		"(tried with 10.0.1.50) by eth1, on-link, not by eth0, on-link, to 10.9.9.9 " +
		"(static route) by eth1, on-link, not by eth0, on-link, to 10.0.0.1 (router) by " +
		"eth1, on-link, not by eth0, on-link"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestRemedy: apply takes nothing away that NGINX still listens on.
func TestRemedy(t *testing.T) {
	late := []routing.Finding{{Code: "rp-filter", Hint: "no"},
		{Code: "not-loaded", Hint: "nginx -s reload"}}
	stuck := []routing.Finding{{Code: "not-loaded", Hint: survey.Restart + ": a reload cannot"}}
	adds, removes := routing.Diff{AddRules: []routing.Rule{{}}},
		routing.Diff{DelRules: []routing.Rule{{}}}
	served := settings.Line{Served: true}
	if got := Remedy(served, removes, late); got != served.Apply("") {
		t.Errorf("with a daemon: got %q", got)
	}
	for _, tt := range []struct {
		diff     routing.Diff
		findings []routing.Finding
		want     string
	}{{adds, nil, "lasthop apply"}, {removes, nil, "lasthop apply"},
		{adds, late, "lasthop apply"},
		{adds, stuck, "lasthop apply"},
		{removes, late, "nginx -s reload && lasthop apply"},
		{removes, stuck, "restart NGINX, then run: lasthop apply"}} {
		if got := Remedy(settings.Line{}, tt.diff, tt.findings); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// TestUnexplained: it names sockets of NGINX that no listen is for, but not
// other programs' and those that the user names. The test itself is the NGINX.
func TestUnexplained(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	inodes, err := procfs.Dir("").Sockets(os.Getpid())
	if err != nil || len(inodes) == 0 {
		t.Fatal(inodes, err)
	}
	at := netip.MustParseAddrPort("10.0.1.100:1935")
	list := []host.Socket{{Local: at, Transport: routing.TCP, Inode: inodes[0]},
		{Local: netip.MustParseAddrPort("10.0.1.100:22"), Transport: routing.TCP, Inode: 1}}
	master := nginxconf.Master{PID: os.Getpid(), Conf: "/etc/nginx/nginx.conf"}
	for _, tt := range []struct {
		claimed map[uint32]nginxconf.Listen
		named   []routing.Listener
		want    int
	}{
		{want: 1},
		{claimed: map[uint32]nginxconf.Listen{inodes[0]: {}}},
		{named: []routing.Listener{{Addr: at.Addr(), Transport: routing.TCP,
			Ports: routing.PortRange{First: 1930, Last: 1940}}}},
	} {
		d := doctor{survey: &survey.Survey{Inputs: routing.Inputs{Listeners: tt.named},
			NGINX: survey.NGINX{Configs: []survey.Config{{Source: survey.SourceOf(master)}}}}}
		d.unexplained(list, tt.claimed, []nginxconf.Master{master})
		if len(d.findings) != tt.want {
			t.Errorf("got %v, want %d findings", d.findings, tt.want)
		}
	}
}

// TestOverTime: what the daemon has found about the mode last-hop, or by the
// API of NGINX Plus, is check's finding, too, and nothing else that it says.
func TestOverTime(t *testing.T) {
	says := report.Status{}
	says.Plan.Findings = []routing.Finding{routing.Warning.Finding("map-full", "last-hop", "x"),
		routing.Warning.Finding("held-gateway", "eth1", "y"),
		routing.Warning.Finding("plus-api", "http://127.0.0.1/api", "z")}
	d := doctor{survey: &survey.Survey{},
		Options: Options{Status: func() (report.Status, error) { return says, nil }}}
	d.overTime()
	if len(d.findings) > 0 {
		t.Errorf("without the mode: %v", d.findings)
	}
	d.survey.Decision.Plan.State.Filters = []routing.Filter{{Link: "eth1"}}
	d.overTime()
	if diff := cmp.Diff(says.Plan.Findings[:1], d.findings); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	d.survey.Decision.Plan.State.Filters = nil
	d.survey.Settings.PlusAPI = "http://127.0.0.1/api"
	d.findings = nil
	d.overTime()
	if diff := cmp.Diff(says.Plan.Findings[2:], d.findings); diff != "" {
		t.Errorf("with plus_api: -want +got\n%s", diff)
	}
}
