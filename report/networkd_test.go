package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

func networkdOf(t *testing.T, p Plan, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	if err := Networkd(&b, p, files); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestNetworkd compares one file; that the kernel gets what is meant is
// TestNetworkdDropIns, with a real systemd-networkd.
func TestNetworkd(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80))
	p.Host = "web\n[Route]\nGateway=6.6.6.6"
	got := networkdOf(t, p, map[string]string{"eth0": "/etc/systemd/network/10-eth0.network",
		"eth1": "/run/systemd/network/10-netplan-eth1.network"})
	_, files, _ := strings.Cut(got, "\n\n")
	want := `# /etc/systemd/network/10-eth0.network.d/lasthop.conf
[Link]
Group=76

# /etc/systemd/network/10-netplan-eth1.network.d/lasthop.conf
[Link]
Group=76
[Route]
Destination=0.0.0.0/0
Gateway=10.0.1.1
GatewayOnLink=yes
Scope=global
Table=20431
Protocol=76
[Route]
Destination=10.0.1.0/24
Scope=link
Table=20431
Protocol=76
[RoutingPolicyRule]
Priority=5198
From=10.0.1.0/24
IncomingInterface=lo
Table=254
SuppressPrefixLength=7
SuppressInterfaceGroup=76
[RoutingPolicyRule]
Priority=5199
From=10.0.1.0/24
IncomingInterface=lo
Table=20431
`
	if d := cmp.Diff(want, files); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	p.Proof = &Proof{Unproved: "no\n[Route]"}
	head, _, _ := strings.Cut(networkdOf(t, p, nil), "\n\n")
	if !strings.HasSuffix(head, "\n# Not proved: no\\n[Route]") {
		t.Errorf("the head does not end with the proof\n%s", head)
	}
	for line := range strings.Lines(head) {
		if !strings.HasPrefix(line, "#") {
			t.Errorf("the head has the line %q", line)
		}
	}
}

func TestNetworkdFileNames(t *testing.T) {
	for _, tt := range []struct {
		name   string
		files  map[string]string
		want   string // of eth1
		remark string // a part of it
	}{
		{"from netplan", map[string]string{"eth1": "/run/systemd/network/10-netplan-eth1.network"}, "10-netplan-eth1.network", ""},
		{"not known", nil, "eth1.network", "does not know"},
		{"shared", map[string]string{"eth1": "/etc/systemd/network/20-wired.network", "eth0": "/usr/lib/systemd/network/20-wired.network", "x\x1b": "/20-wired.network"},
			"eth1.network", `also that of eth0, x\x1b, which must not get the routes of eth1`},
		{"no name of a file", map[string]string{"eth1": "/run/x\n[Route].network"}, "eth1.network", "does not know"},
		{"another kind of file", map[string]string{"eth1": "/run/eth1.link"}, "eth1.network", "does not know"},
	} {
		name, remark := dropIn("eth1", tt.files)
		if name != tt.want || !strings.Contains(remark, tt.remark) ||
			(tt.remark == "") != (remark == "") {
			t.Errorf("%s: %q, %q, want %q with %q", tt.name, name, remark,
				tt.want, tt.remark)
		}
	}
}

// TestNetworkdRefuses: what a file cannot express is an error, and one error
// names all of it.
func TestNetworkdRefuses(t *testing.T) {
	p := makePlan(t, listener("10.0.1.100", 80))
	p.Plan.State.Groups = []routing.LinkGroup{{Link: "a\nb", Group: 76},
		{Link: `c\`, Group: 76}}
	p.Plan.State.Routes[0].Hops = []routing.Hop{{Link: "eth1", Weight: 256},
		{Link: "eth1", Weight: 1}}
	var b bytes.Buffer
	err := Networkd(&b, p, nil)
	want := "write for systemd-networkd: a file of it cannot hold the " +
		"interface name \"a\\nb\"\n" +
		"write for systemd-networkd: a file of it cannot hold the " +
		"interface name \"c\\\\\"\n" +
		"write for systemd-networkd: the weight 256 of a next hop of " +
		"0.0.0.0/0: it knows 255 at most"
	if err == nil || err.Error() != want || b.Len() > 0 {
		t.Errorf("got %v and %d bytes, want\n%s", err, b.Len(), want)
	}
	p = makePlan(t)
	if got := networkdOf(t, p, nil); !strings.HasSuffix(got,
		"# Nothing is needed: there is no file.\n") {
		t.Error(got)
	}
}
